package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made runs the command for a target of the repository's Dockerfile, with a file in place of the
// binary.
func made(t *testing.T, target, binary string, more ...string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, binary), []byte("the binary"), 0o700))
	archive := filepath.Join(dir, "image.tar")
	var out bytes.Buffer
	must(t, run(append([]string{"--dockerfile", "../../Dockerfile", "--target", target, "--from", dir, "--tag", binary + ":dev", "--arch", "arm64",
		"--build-arg", "VERSION=v1.2.3", "--out", archive}, more...), &out, io.Discard))
	if !strings.HasSuffix(out.String(), ", written\n") {
		t.Errorf("said %q", out.String())
	}
	img, err := tarball.ImageFromPath(archive, nil)
	must(t, err)
	must(t, validate.Image(img))
	return img
}

func TestImagesAreWhatTheDockerfileSays(t *testing.T) {
	for target, want := range map[string]struct {
		name  string
		ports []string
	}{
		"node":     {"diseq", []string{"7700/tcp", "8080/tcp", "9090/tcp", "9091/tcp"}},
		"operator": {"diseq-operator", []string{"8081/tcp", "8443/tcp"}},
	} {
		t.Run(target, func(t *testing.T) {
			cf, err := made(t, target, want.name).ConfigFile()
			must(t, err)
			c := cf.Config
			if cf.OS != "linux" || cf.Architecture != "arm64" {
				t.Errorf("for %s/%s", cf.OS, cf.Architecture)
			}
			if c.User != "65532:65532" || !reflect.DeepEqual(c.Entrypoint, []string{"/" + want.name}) || c.Cmd != nil || c.WorkingDir != "/home/nonroot" {
				t.Errorf("%+v", c)
			}
			if ports := slices.Sorted(maps.Keys(c.ExposedPorts)); !slices.Equal(ports, want.ports) {
				t.Errorf("ports %v, want %v", ports, want.ports)
			}
			for label, want := range map[string]string{"title": want.name, "version": "v1.2.3", "licenses": "Apache-2.0"} {
				if got := c.Labels["org.opencontainers.image."+label]; got != want {
					t.Errorf("label %s: %q, want %q", label, got, want)
				}
			}
		})
	}
}

func TestTheSameInputMakesTheSameImage(t *testing.T) {
	one, err := made(t, "node", "diseq").Digest()
	must(t, err)
	time.Sleep(1100 * time.Millisecond) // times in archives are whole seconds
	two, err := made(t, "node", "diseq").Digest()
	must(t, err)
	if one != two {
		t.Errorf("%s, then %s", one, two)
	}
	other, err := made(t, "node", "diseq", "--build-arg", "VERSION=v1.2.4").Digest()
	must(t, err)
	if other == one {
		t.Error("another version has the same digest")
	}
}

func TestAnArchiveIsWrittenOnlyWhenItIsNotThere(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "base.tar")
	build := func(tag string) string {
		var out bytes.Buffer
		must(t, run([]string{"--tag", tag, "--out", archive}, &out, io.Discard))
		return strings.TrimSpace(out.String()[strings.LastIndex(out.String(), ",")+1:])
	}
	for i, step := range []struct{ tag, want string }{
		{"base:dev", "written"}, {"base:dev", "up to date"}, {"base:other", "written"}, {"base:other", "up to date"},
	} {
		if got := build(step.tag); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	whole, err := os.ReadFile(archive)
	must(t, err)
	must(t, os.WriteFile(archive, whole[:len(whole)/2], 0o600)) // as a full disk leaves it
	if got := build("base:other"); got != "written" {
		t.Errorf("a damaged archive is %s", got)
	}
}

// The same source makes the same images: a tag moves, and a digest does not.
func TestTheBaseImagesOfTheDockerfileAreLocked(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	must(t, err)
	images := regexp.MustCompile(`(?m)^ARG ([A-Z]+_IMAGE)=(.*)$`).FindAllSubmatch(text, -1)
	if len(images) != 2 {
		t.Errorf("%d base images, want 2", len(images))
	}
	for _, image := range images {
		if !regexp.MustCompile(`^[a-z0-9./-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}$`).Match(image[2]) {
			t.Errorf("%s is %s: want a name, a tag and a digest. go -C hack/image run ./lock writes it", image[1], image[2])
		}
	}
	for _, from := range regexp.MustCompile(`(?m)^FROM .*$`).FindAll(text, -1) {
		if !regexp.MustCompile(`\$\{(GO|BASE)_IMAGE\}|^FROM source AS `).Match(from) {
			t.Errorf("%s: the image is not locked", from)
		}
	}
}

func TestTheBaseHasWhatAStaticBinaryNeeds(t *testing.T) {
	img, err := base("amd64", 0)
	must(t, err)
	files := map[string]*tar.Header{}
	var roots []byte
	in := mutate.Extract(img)
	defer func() { must(t, in.Close()) }()
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		files[h.Name] = h
		if h.Name == certificates[1:] {
			roots, err = io.ReadAll(r)
			must(t, err)
		}
	}
	for name, want := range map[string]struct {
		mode int64
		uid  int
	}{
		"etc/passwd": {0o644, 0}, "etc/group": {0o644, 0}, "etc/nsswitch.conf": {0o644, 0}, "tmp": {0o1777, 0}, "home/nonroot": {0o700, 65532},
	} {
		if h := files[name]; h == nil || h.Mode != want.mode || h.Uid != want.uid || h.Gid != want.uid {
			t.Errorf("%s: %+v", name, h)
		}
	}
	n := 0
	for block, rest := pem.Decode(roots); block != nil; block, rest = pem.Decode(rest) {
		n++
	}
	if n < 50 {
		t.Errorf("%d root certificates", n)
	}
}

func TestWhatCannotBeFollowedIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o700))
	const from = "ARG BASE_IMAGE=b\nFROM ${BASE_IMAGE} AS t\n"
	for text, want := range map[string]string{
		from + "RUN true\n":                        "line 3: RUN: hack/image does not know",
		from + "VOLUME /data\n":                    "line 3: VOLUME: hack/image does not know",
		from + "ENTRYPOINT /x\n":                   "line 3: ENTRYPOINT: want a JSON array",
		from + "COPY x /x\n":                       "line 3: COPY: want --from",
		from + "COPY --from=s x /usr/bin/x\n":      "want --from=STAGE, one executable",
		from + "COPY --from=s y /y\n":              "y: no such file",
		from + "COPY --from=s --chown=1 x /x\n":    "want --from=STAGE, one executable",
		from + "WORKDIR home\n":                    "home is not absolute",
		"FROM scratch AS t\n":                      "made FROM scratch, want ${BASE_IMAGE}",
		"FROM scratch AS other\n":                  "no such stage",
		from + "LABEL a\n":                         "LABEL",
		from + "ENTRYPOINT [\"/x\"]\nNONSENSE x\n": "unknown instruction: NONSENSE",
	} {
		file := filepath.Join(dir, "Dockerfile")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		err := run([]string{"--dockerfile", file, "--target", "t", "--from", dir, "--tag", "t:dev", "--out", filepath.Join(dir, "t.tar")}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, args := range [][]string{{}, {"--tag", "t:dev"}, {"--tag", "T:dev", "--out", "t"}, {"--build-arg", "x"}, {"more", "--tag", "t:dev", "--out", "t"}} {
		if err := run(args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
