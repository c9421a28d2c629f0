package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A shop is a registry on this machine.
type shop struct {
	t    *testing.T
	host string
	stop func()
}

func newShop(t *testing.T) *shop {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return &shop{t: t, host: strings.TrimPrefix(server.URL, "http://"), stop: server.Close}
}

// push gives a tag an index of new images for these architectures, and returns NAME:TAG@DIGEST.
func (s *shop) push(tag string, architectures ...string) string {
	s.t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range architectures {
		img, err := random.Image(64, 1)
		must(s.t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.NewTag(s.host + "/" + tag)
	must(s.t, err)
	must(s.t, remote.WriteIndex(ref, index))
	d, err := index.Digest()
	must(s.t, err)
	return fmt.Sprintf("%s/%s@%s", s.host, tag, d)
}

func dockerfile(t *testing.T, image string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Dockerfile")
	must(t, os.WriteFile(file, []byte("# a comment\nARG GO_IMAGE="+image+"\nFROM ${GO_IMAGE}\n"), 0o600))
	return file
}

func TestALockIsChecked(t *testing.T) {
	s := newShop(t)
	good := s.push("good:1", "amd64", "arm64", "s390x")
	old := s.push("old:1", "amd64", "arm64")
	s.push("old:1", "amd64", "arm64")
	for name, tt := range map[string]struct {
		image string
		code  int
		want  string
	}{
		"as locked":          {good, 0, "is there, for amd64 and arm64"},
		"the tag moved":      {old, moved, "the tag has moved on to sha256:"},
		"one architecture":   {s.push("small:1", "amd64"), unusable, "is not for linux/arm64, only for amd64"},
		"no such digest":     {good[:len(good)-4] + "0000", unusable, "the registry does not have sha256:"},
		"not locked":         {s.host + "/good:1", unusable, "not locked by a digest"},
		"no such registry":   {strings.Replace(good, s.host, "127.0.0.1:1", 1), unknown, "not checked"},
		"no such repository": {strings.Replace(good, "good", "none", 1), unusable, "does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			code, err := run([]string{"-check", dockerfile(t, tt.image)}, &out, io.Discard)
			if err != nil || code != tt.code || !strings.Contains(out.String(), "GO_IMAGE: ") || !strings.Contains(out.String(), tt.want) {
				t.Errorf("%d %v, %swant %d and %q", code, err, out.String(), tt.code, tt.want)
			}
		})
	}
}

// A wrong image outweighs one that is not known.
func TestTheWorstOfSeveralImagesCounts(t *testing.T) {
	s := newShop(t)
	file := dockerfile(t, s.push("small:1", "amd64")+"\nARG BASE_IMAGE=127.0.0.1:1/x:1@sha256:"+strings.Repeat("0", 64))
	if code, err := run([]string{"-check", file}, io.Discard, io.Discard); err != nil || code != unusable {
		t.Errorf("%d, %v", code, err)
	}
}

func TestAnImageIsLocked(t *testing.T) {
	s := newShop(t)
	old := s.push("old:1", "amd64", "arm64")
	now := s.push("old:1", "amd64", "arm64")
	file := dockerfile(t, old)
	if code, err := run([]string{file}, io.Discard, io.Discard); err != nil || code != 0 {
		t.Fatalf("%d, %v", code, err)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	if string(text) != "# a comment\nARG GO_IMAGE="+now+"\nFROM ${GO_IMAGE}\n" {
		t.Errorf("%s", text)
	}
	s.stop()
	before := string(text)
	if code, err := run([]string{file}, io.Discard, io.Discard); err == nil || code != unknown {
		t.Errorf("without a registry: %d, %v", code, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != before {
		t.Errorf("a failure changed the file: %v", err)
	}
}

func TestWrongCallsAreErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "Dockerfile")
	must(t, os.WriteFile(empty, []byte("FROM scratch\n"), 0o600))
	for _, args := range [][]string{{}, {"a", "b"}, {"-none"}, {filepath.Join(t.TempDir(), "none")}, {"-check", empty}} {
		if code, err := run(args, io.Discard, io.Discard); err == nil || code != unknown {
			t.Errorf("%q: %d, %v", args, code, err)
		}
	}
}
