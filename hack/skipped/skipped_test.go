package skipped

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatIsLeftOutIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skipped")
	t.Setenv("DISEQ_SKIPPED", path)
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) { Test(t, "no %s here", name) })
	}
	told, err := os.ReadFile(path)
	if want := "TestWhatIsLeftOutIsTold/one: no one here\nTestWhatIsLeftOutIsTold/two: no two here\n"; err != nil || string(told) != want {
		t.Errorf("told is %q, want %q: %v", told, want, err)
	}
}
