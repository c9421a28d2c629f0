package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), mode))
	must(t, os.Chmod(path, mode))
	return path
}

// An archive is what its names, contents and time make it: not the order, the owner, the umask or
// the times of the files on a disk.
func TestTheSameFilesMakeTheSameArchive(t *testing.T) {
	dir := t.TempDir()
	one, two, three := filepath.Join(dir, "1.tar.gz"), filepath.Join(dir, "2.tar.gz"), filepath.Join(dir, "3.tar.gz")
	binary, licence := write(t, filepath.Join(dir, "a/diseq"), "binary", 0o755), write(t, filepath.Join(dir, "a/LICENSE"), "licence", 0o644)
	must(t, run([]string{"pack", "-time", "1700000000", one, "diseq=" + binary, "LICENSE=" + licence}, io.Discard))
	binary, licence = write(t, filepath.Join(dir, "b/diseq"), "binary", 0o700), write(t, filepath.Join(dir, "b/LICENSE"), "licence", 0o600)
	must(t, os.Chtimes(binary, time.Unix(5, 0), time.Unix(5, 0)))
	must(t, run([]string{"pack", "-time", "1700000000", two, "LICENSE=" + licence, "diseq=" + binary}, io.Discard))
	must(t, run([]string{"pack", "-time", "1700000001", three, "LICENSE=" + licence, "diseq=" + binary}, io.Discard))
	a, err := os.ReadFile(one)
	must(t, err)
	b, err := os.ReadFile(two)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Error("the same files make two archives")
	}
	if c, err := os.ReadFile(three); err != nil || bytes.Equal(a, c) {
		t.Errorf("another time makes the same archive: %v", err)
	}
	inflated, err := gzip.NewReader(bytes.NewReader(a))
	must(t, err)
	if inflated.Name != "" || !inflated.ModTime.IsZero() {
		t.Errorf("gzip's header names %q and %s", inflated.Name, inflated.ModTime)
	}
	r := tar.NewReader(inflated)
	for _, want := range []struct {
		name, content string
		mode          int64
	}{{"LICENSE", "licence", 0o644}, {"diseq", "binary", 0o755}} {
		h, err := r.Next()
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		if h.Name != want.name || string(content) != want.content || h.Mode != want.mode || h.Uid != 0 || h.Uname != "" || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%+v with %q, want %+v", h, content, want)
		}
	}
}

// packedElsewhere is an archive as helm and npm write it.
func packedElsewhere(t *testing.T, path string, made time.Time, user string) {
	t.Helper()
	var out bytes.Buffer
	deflated := gzip.NewWriter(&out)
	deflated.Comment, deflated.ModTime = "Helm", made
	w := tar.NewWriter(deflated)
	for _, h := range []*tar.Header{
		{Name: "package/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "package/index.js", Typeflag: tar.TypeReg, Mode: 0o664, Size: 2, ModTime: made, Uname: user},
		{Name: "package/cli", Typeflag: tar.TypeReg, Mode: 0o775, Size: 2, ModTime: made, Uname: user},
	} {
		must(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(h.Name[8:10]))
			must(t, err)
		}
	}
	must(t, w.Close())
	must(t, deflated.Close())
	must(t, os.WriteFile(path, out.Bytes(), 0o600))
}

func TestAnArchiveOfAnotherToolLosesTimesAndOwners(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "1.tgz"), filepath.Join(dir, "2.tgz")
	packedElsewhere(t, one, time.Unix(1, 0), "alice")
	packedElsewhere(t, two, time.Unix(2, 0), "bob")
	for _, archive := range []string{one, two} {
		must(t, run([]string{"repack", "-time", "7", archive}, io.Discard))
	}
	a, err := os.ReadFile(one)
	must(t, err)
	b, err := os.ReadFile(two)
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Error("times or owners are left")
	}
	files, err := unpack(a)
	must(t, err)
	if len(files) != 2 || files[0].name != "package/cli" || !files[0].executable || string(files[0].content) != "cl" ||
		files[1].name != "package/index.js" || files[1].executable {
		t.Errorf("%+v", files)
	}
}

func TestAnArchiveHasNoStrangeMembers(t *testing.T) {
	for _, names := range [][]string{{"/etc/passwd"}, {"../x"}, {"a/../../x"}, {""}, {"x", "x"}} {
		files := make([]file, 0, len(names))
		for _, name := range names {
			files = append(files, file{name: name})
		}
		if _, err := pack(files, time.Unix(0, 0)); err == nil {
			t.Errorf("%q: no error", names)
		}
	}
	var out bytes.Buffer
	deflated := gzip.NewWriter(&out)
	w := tar.NewWriter(deflated)
	must(t, w.WriteHeader(&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc"}))
	must(t, w.Close())
	must(t, deflated.Close())
	if _, err := unpack(out.Bytes()); err == nil || !strings.Contains(err.Error(), "link is neither") {
		t.Error(err)
	}
}

func TestTheSumsAreThoseOfSha256sum(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "b.tar.gz"), "b", 0o644)
	write(t, filepath.Join(dir, "a.json"), "a", 0o644)
	for range 2 { // the second time with SHA256SUMS there
		must(t, run([]string{"sums", dir}, io.Discard))
	}
	text, err := os.ReadFile(filepath.Join(dir, sumsFile))
	must(t, err)
	const want = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.json\n" +
		"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b.tar.gz\n"
	if string(text) != want {
		t.Errorf("%s", text)
	}
	if _, err := exec.LookPath("sha256sum"); err == nil {
		c := exec.Command("sha256sum", "--check", "--strict", sumsFile)
		c.Dir = dir
		if said, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, said)
		}
	}
	if err := run([]string{"sums", t.TempDir()}, io.Discard); err == nil {
		t.Error("an empty folder has sums")
	}
}

func TestTwoReleasesAreCompared(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		write(t, filepath.Join(dir, "a"), "a", 0o644)
		write(t, filepath.Join(dir, "b/c"), "c", 0o644)
	}
	same := func() (string, error) {
		var out bytes.Buffer
		err := run([]string{"compare", one, two}, &out)
		return out.String(), err
	}
	if said, err := same(); err != nil || !strings.HasSuffix(said, "2 files are the same, byte for byte\n") {
		t.Errorf("%v: %s", err, said)
	}
	write(t, filepath.Join(two, "b/c"), "C", 0o644)
	write(t, filepath.Join(one, "d"), "d", 0o644)
	if said, err := same(); err == nil || !strings.Contains(err.Error(), "2 of 3 files differ: b/c, d") {
		t.Errorf("%v: %s", err, said)
	}
	one, two = t.TempDir(), t.TempDir()
	if _, err := same(); err == nil {
		t.Error("two empty folders are two releases")
	}
}

func TestThePluginsManifestNamesEachArchiveWithItsSum(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "diseq.yaml")
	args := []string{"krew", "-version", "1.2.3", "-url", "https://releases.example/v1.2.3/", out}
	for _, system := range []string{"linux_amd64", "darwin_arm64"} {
		args = append(args, write(t, filepath.Join(dir, "kubectl-diseq_v1.2.3_"+system+".tar.gz"), system, 0o644))
	}
	must(t, run(args, io.Discard))
	raw, err := os.ReadFile(out)
	must(t, err)
	var m plugin
	must(t, json.Unmarshal(raw, &m))
	if m.Metadata["name"] != "diseq" || m.Spec.Version != "v1.2.3" || len(m.Spec.Platforms) != 2 {
		t.Fatalf("%s", raw)
	}
	p := m.Spec.Platforms[1]
	want, err := sum(filepath.Join(dir, "kubectl-diseq_v1.2.3_darwin_arm64.tar.gz"))
	must(t, err)
	if p.SHA256 != want || p.URI != "https://releases.example/v1.2.3/kubectl-diseq_v1.2.3_darwin_arm64.tar.gz" || p.Selector["matchLabels"]["os"] != "darwin" {
		t.Errorf("%+v", p)
	}
	if err := run([]string{"krew", "-version", "1.2.3", "-url", "u", out, filepath.Join(dir, "other.tar.gz")}, io.Discard); err == nil {
		t.Error("an archive of another name is one of the plugin")
	}
}

func TestVersionsOfChartAndPackage(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "v0.10.0-rc.1": "0.10.0-rc.1",
		"0123456": "0.0.0-dev.g0123456789ab", "devel": "0.0.0-dev.g0123456789ab", "v1.02.3": "0.0.0-dev.g0123456789ab",
	} {
		var out bytes.Buffer
		if err := run([]string{"version", version, commit}, &out); err != nil || out.String() != want+"\n" {
			t.Errorf("%s: %q %v, want %s", version, out.String(), err, want)
		}
	}
	if err := run([]string{"version", "devel", ""}, io.Discard); err == nil {
		t.Error("neither a release nor a commit has a version")
	}
}

func TestWrongCallsAreErrors(t *testing.T) {
	for _, args := range [][]string{{}, {"make"}, {"version"}, {"pack", "x"}, {"pack", "x", "y"}, {"pack", "x", "y=none"}, {"repack"}, {"repack", "main.go"},
		{"krew", "x", "y"}, {"sums"}, {"compare", "x"}, {"compare", "none", "none"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
