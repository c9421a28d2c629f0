package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goImage makes an image from this machine in place of golang:1.26. It has all that the build
// stages need: the Go tree, a shell with its libraries, and the modules of the packages as a module
// proxy in a directory, because the engine may have no way out.
func goImage(t *testing.T, name string, packages ...string) {
	t.Helper()
	layer, done := io.Pipe()
	go func() { done.CloseWithError(writeMachine(done, packages)) }()
	// One package includes assembler from its neighbours, and go build -trimpath leaves those paths
	// in the binary. So modules have to lie at the same paths as here for the binaries to be equal.
	// Go's cache does not distinguish such paths either, so the build has a cache of its own.
	cache, err := output("go", "env", "GOMODCACHE")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "docker", "import",
		"--change", "ENV PATH=/usr/local/go/bin:/bin HOME=/root GOPROXY=file:///modules GOTOOLCHAIN=local "+
			"GOMODCACHE="+cache+" GOCACHE=/root/.cache/go-build"+cache,
		"-", name)
	c.Stdin = layer
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v: %s", err, out)
	}
}

func writeMachine(w io.Writer, packages []string) (err error) {
	out := tar.NewWriter(w)
	defer func() { err = errors.Join(err, out.Close()) }()
	settings, err := output("go", "env", "GOROOT", "GOMODCACHE")
	if err != nil {
		return err
	}
	root, modules, _ := strings.Cut(settings, "\n")
	unused := regexp.MustCompile(`^/(api|doc|misc|test)/|_test\.go$|/testdata/`)
	if err := copyTree(out, root, "usr/local/go", func(path string) bool { return !unused.MatchString(path) }); err != nil {
		return err
	}
	if err := copyShell(out); err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}); err != nil {
		return err
	}
	zips, err := compiledModules(modules, packages)
	if err != nil {
		return err
	}
	// Go reads the go.mod files of modules of which it compiles nothing as well: they decide which
	// versions are chosen.
	return copyTree(out, filepath.Join(modules, "cache", "download"), "modules", func(path string) bool {
		if strings.HasPrefix(path, "/sumdb/") {
			return false
		}
		return strings.HasSuffix(path, ".mod") || strings.HasSuffix(path, ".info") || zips[path]
	})
}

// compiledModules returns the archives of the modules that packages are compiled from, by their
// paths in the download cache.
func compiledModules(cache string, packages []string) (map[string]bool, error) {
	// an archive may be gone while its unpacked content remains
	if _, err := output("go", "mod", "download"); err != nil {
		return nil, err
	}
	list, err := output("go", append([]string{"list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Dir}}{{end}}{{end}}`}, packages...)...)
	if err != nil {
		return nil, err
	}
	zips := map[string]bool{}
	for dir := range strings.FieldsSeq(list) {
		escaped, ok := strings.CutPrefix(dir, cache)
		at := strings.LastIndex(escaped, "@")
		if !ok || at < 0 {
			return nil, fmt.Errorf("module in %s: want it in the module cache, %s", dir, cache)
		}
		zips[escaped[:at]+"/@v/"+escaped[at+1:]+".zip"] = true
	}
	return zips, nil
}

// copyShell copies /bin/sh and the libraries that the dynamic loader loads for it.
func copyShell(out *tar.Writer) error {
	libraries, err := output("ldd", "/bin/sh")
	if err != nil {
		return err
	}
	for _, path := range append(regexp.MustCompile(`/\S+`).FindAllString(libraries, -1), "/bin/sh") {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := write(out, path[1:], 0o755, content); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies the regular files under a directory for whose path in it keep returns true.
func copyTree(out *tar.Writer, from, to string, keep func(path string) bool) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !keep(strings.TrimPrefix(path, from)) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return write(out, to+strings.TrimPrefix(path, from), int64(info.Mode().Perm()), content)
	})
}

func write(out *tar.Writer, name string, mode int64, content []byte) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}
