package main

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// withSums is a build whose modules have sums as go.sum writes them.
func withSums(sum string) *debug.BuildInfo {
	info := built
	info.Deps = []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0", Sum: sum},
		{Path: "example.com/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example.com/fork_b", Version: "v2.0.1"}},
	}
	return &info
}

const aSum = "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func TestACycloneDXDocumentHasEveryModule(t *testing.T) {
	var out, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&out, &again} {
		if err := writeCycloneDX(w, "diseq", withSums(aSum), [32]byte{1, 2, 3}, "2026-11-30T10:00:00Z"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same binary makes two documents")
	}
	var bom cyclonedx.BOM
	if err := json.Unmarshal(out.Bytes(), &bom); err != nil {
		t.Fatal(err)
	}
	root := bom.Metadata.Component
	if bom.SpecVersion != cyclonedx.SpecVersion1_6 || root.Name != "diseq" || !strings.HasPrefix((*root.Hashes)[0].Value, "010203") ||
		bom.Metadata.Timestamp != "2026-11-30T10:00:00Z" || bom.SerialNumber != "urn:uuid:01020300-0000-8000-8000-000000000000" {
		t.Errorf("%s", out.String())
	}
	var names []string
	for _, c := range *bom.Components {
		names = append(names, c.PackageURL)
	}
	const want = "pkg:golang/std@1.26.1 pkg:golang/example.com/a@v1.0.0 pkg:golang/example.com/fork_b@v2.0.1"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("components %s, want %s", got, want)
	}
	if h := (*bom.Components)[1].Hashes; h == nil || (*h)[0].Value != "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" {
		t.Errorf("hash of a module: %v", h)
	}
	if d := *bom.Dependencies; len(d) != 1 || d[0].Ref != root.BOMRef || strings.Join(*d[0].Dependencies, " ") != want {
		t.Errorf("dependencies %+v", d)
	}
}

func TestASumThatIsNoneIsAnError(t *testing.T) {
	for _, sum := range []string{"h1:short", "h2:" + aSum[3:], aSum[3:]} {
		if err := writeCycloneDX(&bytes.Buffer{}, "diseq", withSums(sum), [32]byte{}, ""); err == nil || !strings.Contains(err.Error(), "example.com/a@v1.0.0") {
			t.Errorf("%s: %v", sum, err)
		}
	}
}
