// Package transcript runs the commands of a document in a shell and holds their output to the
// documented one.
package transcript

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Step of a transcript is a command, and its output.
type Step struct{ Command, Output string }

// Steps returns the steps in the console blocks of a section. A command begins with "$ ", and
// goes on while its lines end with a backslash.
func Steps(t *testing.T, document, heading string) (steps []Step) {
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
			steps = append(steps, Step{Command: command})
		case last < 0:
			t.Fatalf("%q stands before the first command", line)
		case more:
			steps[last].Command += line
		default:
			steps[last].Output += line
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
	{regexp.MustCompile(`\b(devnet|demo)-[0-9a-f]{8}\b`), "CHAIN"},
	{regexp.MustCompile(`\b[0-9a-f]{16,}\b`), "HEX"},
	{regexp.MustCompile(`\b[0-9]+(\.[0-9]+)? ?(ms|s|µs)\b`), "DURATION"},
	// Three votes make a block final, and the fourth may be there as well.
	{regexp.MustCompile(`\bfinal by [34] of 4 (.*) unless [23] or more`), "final by T of 4 $1 unless some"},
	{regexp.MustCompile(`\b(block|blocks|height|round|pid|generation [0-9]+ is in force above block) [0-9]+`), "$1 N"},
}

// Masked returns a text with a word in the place of each part that differs from run to run.
func Masked(text string) string {
	for _, m := range masks {
		text = m.of.ReplaceAllString(text, m.with)
	}
	return strings.TrimSpace(text)
}

// Matches reports whether an output is the documented one. A line "..." stands for any lines.
func Matches(documented, output string) bool {
	var pattern strings.Builder
	for i, part := range strings.Split("\n"+Masked(documented)+"\n", "\n...\n") {
		if i > 0 {
			pattern.WriteString(`\n([^\n]*\n)*`)
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile("^" + pattern.String() + "$").MatchString("\n" + Masked(output) + "\n")
}

// A Terminal is a shell: a command sees the variables and directories of those before.
type Terminal struct {
	t     *testing.T
	in    io.Writer
	lines chan string
}

// OpenTerminal starts a shell in a directory, with more variables in its environment. It ends with
// the test, with the commands that it runs in the background.
func OpenTerminal(t *testing.T, dir string, environment ...string) *Terminal {
	t.Helper()
	shell := exec.Command("bash", "--norc")
	shell.Dir, shell.Env = dir, append(os.Environ(), environment...)
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
	x := &Terminal{t: t, in: in, lines: make(chan string)}
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

// Run returns the output of a command, errors included. It fails the test if the command does not
// end in time.
func (x *Terminal) Run(command string, within time.Duration) (output string) {
	x.t.Helper()
	const end = "--- end of the command"
	if _, err := fmt.Fprintf(x.in, "%s\necho '%s'\n", strings.TrimSuffix(command, "\n"), end); err != nil {
		x.t.Fatal(err)
	}
	for deadline := time.After(within); ; {
		select {
		case line, ok := <-x.lines:
			if !ok || line == end {
				return output
			}
			output += line + "\n"
		case <-deadline:
			x.t.Fatalf("$ %snot at its end after %v; so far:\n%s", command, within, output)
		}
	}
}

// Compare runs steps, and fails the test for each whose output is not the documented one.
func (x *Terminal) Compare(within time.Duration, steps ...Step) {
	x.t.Helper()
	for _, s := range steps {
		if output := x.Run(s.Command, within); !Matches(s.Output, output) {
			x.t.Errorf("$ %sprints\n%s\ndocumented is\n%s", s.Command, Masked(output), Masked(s.Output))
		}
	}
}
