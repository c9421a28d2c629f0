// Package images builds the Dockerfile on a Docker engine and compares the images with those that
// hack/image makes without one: the same binary, byte for byte, and the same configuration. So
// whichever way an image came about, it is the same thing.
//
// `make dockerfile-test` runs it. That target starts an engine if none answers. The base images are
// made from this machine, because the engine may have no registry. It is not tested that the public
// ones exist.
package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	tag     = "parity"
	version = "v0.0.0-parity"
	commit  = "0123456789abcdef0123456789abcdef01234567"
	builder = "diseq-go:" + tag
)

// output runs a command in the repository's root and returns what it printed.
func output(name string, args ...string) (string, error) { return outputWith(nil, name, args...) }

func outputWith(environment []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Env = "../..", append(os.Environ(), environment...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := output("docker", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// buildKit returns the start of a command that builds with BuildKit: since version 23 the client
// needs its plugin for that, and distributions ship one without the other.
func buildKit() ([]string, error) {
	if _, err := output("docker", "buildx", "version"); err == nil {
		return []string{"docker", "buildx", "build", "--load"}, nil
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH"), string(os.PathListSeparator)) {
		client := filepath.Join(dir, "docker")
		said, err := output(client, "--version")
		if err == nil && regexp.MustCompile(`version (19|20)\.`).MatchString(said) {
			return []string{client, "build"}, nil
		}
	}
	return nil, fmt.Errorf("there is no docker client that builds with BuildKit: install Debian's docker.io, or the plugin buildx")
}

// configuration is the part of an image that describes its processes.
type configuration struct {
	User, WorkingDir     string
	Env, Entrypoint, Cmd []string
	Labels               map[string]string
	ExposedPorts         map[string]struct{}
	Volumes              map[string]struct{}
	StopSignal           string
}

func inspect(t *testing.T, image string) (c configuration, platform string) {
	t.Helper()
	var out []struct {
		Os, Architecture string
		Config           configuration
	}
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", image)), &out); err != nil {
		t.Fatal(err)
	}
	return out[0].Config, out[0].Os + "/" + out[0].Architecture
}

// file returns a file of an image.
func file(t *testing.T, image, path string) []byte {
	t.Helper()
	container := docker(t, "create", image)
	defer docker(t, "rm", container)
	to := filepath.Join(t.TempDir(), "file")
	docker(t, "cp", container+":"+path, to)
	content, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestTheDockerfileBuildsTheImagesOfHackImage(t *testing.T) {
	if _, err := output("docker", "version"); err != nil {
		t.Fatalf("no engine answers; run make dockerfile-test: %v", err)
	}
	build, err := buildKit()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	targets := []struct{ target, name, pkg string }{{"node", "diseq", "./cmd/diseq"}, {"operator", "diseq-operator", "./cmd/operator"}}
	if _, err := outputWith([]string{"TAG=" + tag, "VERSION=" + version, "COMMIT=" + commit}, "hack/image/build.sh", "--out", out, "base", "node", "operator"); err != nil {
		t.Fatal(err)
	}
	docker(t, "load", "--input", filepath.Join(out, "diseq-base.tar"))
	goImage(t, builder, "./cmd/diseq", "./cmd/operator")
	t.Cleanup(func() { docker(t, "rmi", "--force", builder, "diseq-base:"+tag) })

	for _, tt := range targets {
		t.Run(tt.target, func(t *testing.T) {
			made, built := tt.name+":"+tag, tt.name+":"+tag+"-built"
			docker(t, "load", "--input", filepath.Join(out, tt.name+".tar"))
			begun := time.Now()
			_, err := outputWith([]string{"DOCKER_BUILDKIT=1"}, build[0], append(build[1:], "--progress", "plain", "--target", tt.target,
				"--build-arg", "GO_IMAGE="+builder, "--build-arg", "BASE_IMAGE=diseq-base:"+tag, "--build-arg", "VERSION="+version, "--build-arg", "COMMIT="+commit,
				"--tag", built, ".")...)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("docker build took %.0f s", time.Since(begun).Seconds())
			t.Cleanup(func() { docker(t, "rmi", "--force", made, built) })

			have, platform := inspect(t, built)
			want, wantPlatform := inspect(t, made)
			if !reflect.DeepEqual(have, want) || platform != wantPlatform {
				t.Errorf("docker build makes %s %+v,\nhack/image %s %+v", platform, have, wantPlatform, want)
			}
			if !bytes.Equal(file(t, built, "/"+tt.name), file(t, made, "/"+tt.name)) {
				t.Error("the two binaries differ")
			}
			if said := docker(t, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", built, "--help"); !strings.Contains(said, "Usage") {
				t.Errorf("%s --help: %s", built, said)
			}
		})
	}
}
