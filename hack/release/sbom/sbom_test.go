package main

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"
)

var built = debug.BuildInfo{
	GoVersion: "go1.26.1 X:none", Path: "github.com/diseq/diseq/cmd/diseq",
	Main: debug.Module{Path: "github.com/diseq/diseq", Version: "(devel)"},
	Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:a="},
		{Path: "example.com/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example.com/fork_b", Version: "v2.0.1", Sum: "h1:f="}},
	},
	Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "amd64"}, {Key: "vcs.time", Value: "2026-11-30T10:00:00Z"}},
}

const sums = `example.com/a v1.0.0 h1:a=
example.com/a v1.0.0/go.mod h1:other=
example.com/fork_b v2.0.1 h1:f=
`

func TestABillHasEveryModuleOfTheBinary(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	d, err := bill("diseq", &built, sha256.Sum256([]byte("x")), readSums(sums))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range d.Packages {
		got = append(got, p.References[0].Locator)
		if ids[p.SPDXID] {
			t.Errorf("%s is there twice", p.SPDXID)
		}
		ids[p.SPDXID] = true
	}
	want := []string{
		"pkg:golang/github.com/diseq/diseq@(devel)", "pkg:golang/stdlib@1.26.1", "pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/fork_b@v2.0.1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("packages %q, want %q", got, want)
	}
	if len(d.Relationships) != 4 || d.CreationInfo.Created != "2026-11-30T10:00:00Z" || !strings.HasPrefix(d.Packages[0].Checksums[0].Value, "2d711642") {
		t.Errorf("%+v", d)
	}
	for _, r := range d.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("a relationship of something unknown: %+v", r)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	if d, err := bill("diseq", &built, [32]byte{}, nil); err != nil || d.CreationInfo.Created != "1970-01-01T00:00:01Z" {
		t.Errorf("created %s: %v", d.CreationInfo.Created, err)
	}
}

func TestAModuleThatIsNotInGoSumIsAnError(t *testing.T) {
	for _, other := range []string{"", "example.com/a v1.0.0 h1:evil=\nexample.com/fork_b v2.0.1 h1:f=\n", "example.com/a v1.0.0 h1:a=\n"} {
		if _, err := bill("diseq", &built, [32]byte{}, readSums(other)); err == nil || !strings.Contains(err.Error(), "go.sum") {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// A binary is read as it is: this test itself.
func TestABinaryIsRead(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(copied, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"--sums", "../go.sum", copied}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(copied + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil || d.SPDXVersion != "SPDX-2.3" || d.Packages[0].Name != "binary" {
		t.Errorf("%v: %s", err, raw)
	}
	if err := run([]string{"main.go"}); err == nil {
		t.Error("a text is a binary")
	}
}
