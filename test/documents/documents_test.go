package documents

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCommandsOfASection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.md")
	const text = "# A\n\n    before\n\n## Two\n\nDo\n\n    one \\\n      two\n\nand\n\n    three\n\n### Below\n\n    four\n\n## Three\n\n    after\n\n### Empty\n\nnothing\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Commands(file, "## Two")
	if want := []string{"one \\\n  two\n", "three\n", "four\n"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if got, err := Commands(file, "### Below"); err != nil || !slices.Equal(got, []string{"four\n"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, heading := range []string{"## Four", "### Empty"} {
		if got, err := Commands(file, heading); err == nil {
			t.Errorf("%s: %q", heading, got)
		}
	}
}
