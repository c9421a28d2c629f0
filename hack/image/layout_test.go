package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// severalMade runs the command for two architectures and returns the archive.
func severalMade(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		must(t, os.MkdirAll(filepath.Join(dir, "linux-"+arch), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "linux-"+arch, "diseq"), []byte("for "+arch), 0o700))
	}
	archive := filepath.Join(dir, "out", "oci.tar")
	must(t, run([]string{"--dockerfile", "../../Dockerfile", "--target", "node", "--oci", "amd64,arm64", "--from", dir,
		"--tag", "ghcr.example/diseq:v1.2.3", "--out", archive, "--build-arg", "VERSION=v1.2.3", "--build-arg", "COMMIT=abc"}, io.Discard, io.Discard))
	return archive
}

// extracted unpacks an archive into a folder.
func extracted(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	in, err := os.Open(archive)
	must(t, err)
	defer func() { must(t, in.Close()) }()
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		must(t, err)
		if h.Typeflag == tar.TypeDir {
			must(t, os.MkdirAll(filepath.Join(dir, h.Name), 0o755))
			continue
		}
		content, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, h.Name), content, 0o600))
	}
}

func TestOneImageForSeveralArchitectures(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	root, err := layout.ImageIndexFromPath(extracted(t, severalMade(t)))
	must(t, err)
	must(t, validate.Index(root))
	top, err := root.IndexManifest()
	must(t, err)
	if len(top.Manifests) != 1 {
		t.Fatalf("%d images, want one for all architectures", len(top.Manifests))
	}
	names := top.Manifests[0].Annotations
	if names["org.opencontainers.image.ref.name"] != "v1.2.3" || names["io.containerd.image.name"] != "ghcr.example/diseq:v1.2.3" {
		t.Errorf("names %v", names)
	}
	index, err := root.ImageIndex(top.Manifests[0].Digest)
	must(t, err)
	m, err := index.IndexManifest()
	must(t, err)
	if len(m.Manifests) != 2 {
		t.Fatalf("%d architectures, want 2", len(m.Manifests))
	}
	for i, arch := range []string{"amd64", "arm64"} {
		d := m.Manifests[i]
		if d.Platform == nil || !d.Platform.Equals(v1.Platform{OS: "linux", Architecture: arch}) {
			t.Errorf("image %d is for %v, want %s", i, d.Platform, arch)
		}
		img, err := index.Image(d.Digest)
		must(t, err)
		cf, err := img.ConfigFile()
		must(t, err)
		if cf.Created.Unix() != 1700000000 || cf.Architecture != arch || cf.Config.Labels["org.opencontainers.image.revision"] != "abc" {
			t.Errorf("%s: %+v", arch, cf)
		}
		layers, err := img.Layers()
		must(t, err)
		content, err := layers[len(layers)-1].Uncompressed()
		must(t, err)
		r := tar.NewReader(content)
		h, err := r.Next()
		must(t, err)
		if text, err := io.ReadAll(r); err != nil || h.Name != "diseq" || string(text) != "for "+arch {
			t.Errorf("%s has %s with %q: %v", arch, h.Name, text, err)
		}
	}
}

func TestTheSameBinariesMakeTheSameArchive(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	one, err := os.ReadFile(severalMade(t))
	must(t, err)
	two, err := os.ReadFile(severalMade(t))
	must(t, err)
	if !bytes.Equal(one, two) {
		t.Error("two archives of the same binaries differ")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000001")
	if other, err := os.ReadFile(severalMade(t)); err != nil || bytes.Equal(one, other) {
		t.Errorf("another time makes the same archive: %v", err)
	}
}

func TestAnArchitectureWithoutABinaryIsAnError(t *testing.T) {
	err := run([]string{"--dockerfile", "../../Dockerfile", "--target", "node", "--oci", "riscv64", "--from", t.TempDir(),
		"--tag", "diseq:dev", "--out", filepath.Join(t.TempDir(), "oci.tar")}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "riscv64: ") {
		t.Error(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := creationTime(); err == nil {
		t.Error("yesterday is a number of seconds")
	}
}

// A node's image is for validators: it leaves out what draws on terminals, with all its modules.
func TestTheImageOfANodeHasNoDashboard(t *testing.T) {
	const tag = "nodashboard"
	for _, file := range []string{"../../Dockerfile", "build.sh"} {
		content, err := os.ReadFile(file)
		must(t, err)
		if !strings.Contains(string(content), "-tags "+tag) && !strings.Contains(string(content), "-tags="+tag) {
			t.Errorf("%s compiles without -tags %s", file, tag)
		}
	}
	draws := func(tags string) bool {
		c := exec.Command("go", "list", "-deps", "-tags", tags, "./cmd/diseq")
		c.Dir = "../.."
		out, err := c.Output()
		must(t, err)
		return strings.Contains(string(out), "charm.land/")
	}
	if draws(tag) || !draws("") {
		t.Errorf("with the tag: %t, without it: %t; want false and true", draws(tag), draws(""))
	}
}

// A folder that a binary is compiled from and that .dockerignore withholds makes `docker build`
// fail, which make test does not run.
func TestDockerSeesWhatTheBinariesAreCompiledFrom(t *testing.T) {
	list, err := os.ReadFile("../../.dockerignore")
	must(t, err)
	c := exec.Command("go", "list", "-deps", "./cmd/diseq", "./cmd/operator")
	c.Dir = "../.."
	out, err := c.Output()
	must(t, err)
	const module = "github.com/diseq/diseq/"
	seen := map[string]bool{}
	for pkg := range strings.Lines(string(out)) {
		if inside, ours := strings.CutPrefix(strings.TrimSpace(pkg), module); ours {
			folder, _, _ := strings.Cut(inside, "/")
			seen[folder] = true
		}
	}
	if len(seen) < 4 {
		t.Fatalf("the binaries are compiled from %v only", seen)
	}
	for folder := range seen {
		if !strings.Contains(string(list), "\n!"+folder+"\n") {
			t.Errorf(".dockerignore withholds %s: add !%[1]s", folder)
		}
	}
}
