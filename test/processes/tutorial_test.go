package processes

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/diseq/diseq/test/transcript"
)

// TestTutorial runs every command of docs/tutorial.md on a network of processes, in its order, and
// holds each output to the documented one.
func TestTutorial(t *testing.T) {
	document, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := transcript.Steps(t, string(document), "On this machine")
	c := startClone(t, steps[0].Command)
	if !transcript.Matches(steps[0].Output, c.output()) {
		t.Errorf("$ %sprints\n%s\ndocumented is\n%s", steps[0].Command, transcript.Masked(c.output()), transcript.Masked(steps[0].Output))
	}
	transcript.OpenTerminal(t, c.dir).Compare(soon, steps[1:]...)
	c.interrupt()
	if t.Failed() {
		said, err := os.ReadFile(filepath.Join(c.dir, "v1.log"))
		t.Logf("the node that was started again said, %v:\n%s", err, said)
	}
}
