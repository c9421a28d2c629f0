package processes

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A step of a transcript is a command, with what it prints.
type step struct{ command, output string }

// transcript returns the steps in the console blocks of a section. A command begins with "$ ", and
// goes on while its lines end with a backslash.
func transcript(t *testing.T, document, heading string) (steps []step) {
	t.Helper()
	_, section, ok := strings.Cut(document, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the document has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	inside, more := false, false
	for line := range strings.Lines(section) {
		command, begins := strings.CutPrefix(line, "$ ")
		last := len(steps) - 1
		switch {
		case strings.HasPrefix(line, "```"):
			inside = !inside && strings.TrimSpace(line) == "```console"
		case !inside:
		case begins:
			steps = append(steps, step{command: command})
		case last < 0:
			t.Fatalf("%q stands before the first command", line)
		case more:
			steps[last].command += line
		default:
			steps[last].output += line
		}
		more = inside && (begins || more) && strings.HasSuffix(line, "\\\n")
	}
	return steps
}

// masks are what differs from run to run, and its name. The order matters.
var masks = []struct {
	of   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`/[^ "]*/(bin|\.devnet)\b`), "DIR/$1"},
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\bdevnet-[0-9a-f]{8}\b`), "CHAIN"},
	{regexp.MustCompile(`\b[0-9a-f]{16,}\b`), "HEX"},
	{regexp.MustCompile(`\b[0-9]+(\.[0-9]+)? ?(ms|s|µs)\b`), "DURATION"},
	// Three votes make a block final, and the fourth may be there as well.
	{regexp.MustCompile(`\bfinal by [34] of 4 (.*) unless [23] or more`), "final by T of 4 $1 unless some"},
	{regexp.MustCompile(`\b(block|blocks|height|round|pid|generation [0-9]+ is in force above block) [0-9]+`), "$1 N"},
}

func masked(text string) string {
	for _, m := range masks {
		text = m.of.ReplaceAllString(text, m.with)
	}
	return strings.TrimSpace(text)
}

// matches reports whether an output is the documented one. A line "..." stands for any lines.
func matches(documented, output string) bool {
	var pattern strings.Builder
	for i, part := range strings.Split("\n"+masked(documented)+"\n", "\n...\n") {
		if i > 0 {
			pattern.WriteString(`\n([^\n]*\n)*`)
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile("^" + pattern.String() + "$").MatchString("\n" + masked(output) + "\n")
}

// TestMatchesSeesDifferences holds the comparison of transcripts to its rules.
func TestMatchesSeesDifferences(t *testing.T) {
	for _, c := range []struct {
		documented, output string
		want               bool
	}{
		{"final at height 3\n", "final at height 12\n", true},
		{"final at height 3\n", "refused at height 3\n", false},
		{"by 3 validators", "by 2 validators", false},
		{"a\n...\nz\n", "a\nb\nc\nz\n", true},
		{"a\n...\nz\n", "a\nz\n", true},
		{"a\n...\nz\n", "a\nb\n", false},
		{"...\nz\n", "a\nz\n", true},
		{"", "", true},
		{"", "an error\n", false},
		{"took 0.8 s, 2026-11-30T17:00:00.1Z", "took 12 s, 2027-01-01T00:00:00Z", true},
		{"pid 1, /home/you/diseq/.devnet/x", "pid 22, /tmp/y/.devnet/x", true},
	} {
		if got := matches(c.documented, c.output); got != c.want {
			t.Errorf("%q and %q: got %v", c.documented, c.output, got)
		}
	}
}

// A terminal is a shell in a clone: a command sees the variables and directories of those before.
type terminal struct {
	t     *testing.T
	in    io.Writer
	lines chan string
}

func openTerminal(t *testing.T, dir string) *terminal {
	t.Helper()
	shell := exec.Command("bash", "--norc")
	shell.Dir = dir
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	shell.Stderr = shell.Stdout
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, in: in, lines: make(chan string)}
	done := make(chan struct{})
	go func() {
		defer close(x.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case x.lines <- s.Text():
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // commands in the background, too
		_ = shell.Wait()
	})
	return x
}

// run returns what a command prints.
func (x *terminal) run(command string) (output string) {
	x.t.Helper()
	const end = "--- end of the command"
	if _, err := fmt.Fprintf(x.in, "%s\necho '%s'\n", strings.TrimSuffix(command, "\n"), end); err != nil {
		x.t.Fatal(err)
	}
	for deadline := time.After(soon); ; {
		select {
		case line, ok := <-x.lines:
			if !ok || line == end {
				return output
			}
			output += line + "\n"
		case <-deadline:
			x.t.Fatalf("$ %snot at its end after %v; so far:\n%s", command, soon, output)
		}
	}
}

// TestTutorialOnAClusterIsTheDemonstration holds the commands for a cluster to those that make demo
// prints at its end, where they are tried.
func TestTutorialOnAClusterIsTheDemonstration(t *testing.T) {
	document, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(document), "\n## On a cluster\n")
	section, _, _ = strings.Cut(section, "\n## ")
	demo, err := os.ReadFile("../../hack/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(demo), "\nwhat_next() {\n")
	list, _, closed := strings.Cut(list, "\n}\n")
	if !ok || !closed {
		t.Fatal("hack/demo.sh has no function what_next")
	}
	printed := map[string]bool{"make demo": true, "hack/kind/kind.sh run --name diseq -- bash": true, "make demo-down": true}
	names := strings.NewReplacer("$namespace", "diseq-demo", "$name", "demo", `\$`, "$")
	for line := range strings.Lines(list) {
		command, _, _ := strings.Cut(names.Replace(line), " # ")
		printed[strings.TrimSpace(command)] = true
	}
	count := 0
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			count++
			if !printed[strings.TrimSpace(command)] {
				t.Errorf("make demo does not print %q", strings.TrimSpace(command))
			}
		}
	}
	if count < 10 {
		t.Errorf("the section has %d commands, want at least 10", count)
	}
}

// TestTutorial runs every command of docs/tutorial.md on a network of processes, in its order, and
// holds each output to the documented one.
func TestTutorial(t *testing.T) {
	document, err := os.ReadFile("../../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := transcript(t, string(document), "On this machine")
	c := startClone(t, steps[0].command)
	if !matches(steps[0].output, c.output()) {
		t.Errorf("$ %sprints\n%s\ndocumented is\n%s", steps[0].command, masked(c.output()), masked(steps[0].output))
	}
	x := openTerminal(t, c.dir)
	for _, s := range steps[1:] {
		if output := x.run(s.command); !matches(s.output, output) {
			t.Errorf("$ %sprints\n%s\ndocumented is\n%s", s.command, masked(output), masked(s.output))
		}
	}
	c.interrupt()
	if t.Failed() {
		said, err := os.ReadFile(filepath.Join(c.dir, "v1.log"))
		t.Logf("the node that was started again said, %v:\n%s", err, said)
	}
}
