// Package clientcmd is what the commands of users have in common: diseq and kubectl diseq submit,
// follow and verify in the same way, and report errors in the same way. The commands say where the
// nodes are, and who the user is.
package clientcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of a command.
const (
	ExitFailure = 1
	// ExitUsage is for a command that was called wrongly.
	ExitUsage = 2
)

// Run runs a command and returns its exit code. An error is one line on stderr, with what advice
// says about it, which may be nothing.
func Run(
	ctx context.Context, root *cobra.Command, advice func(*cobra.Command, error) string,
	args []string,
	stdin io.Reader, stdout, stderr io.Writer,
) int {
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	running := false
	root.PersistentPreRun = func(*cobra.Command, []string) { running = true }
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var usage UsageError
	// an error before a command runs is about how it was called
	wrong := !running || errors.As(err, &usage)
	text := OneLine(err)
	if help := advice(command, err); help != "" {
		text = strings.TrimSuffix(text, ".") + ": " + help
	}
	if wrong {
		text += fmt.Sprintf(" (see %s --help)", command.CommandPath())
	}
	fmt.Fprintf(stderr, "%s: %s\n", command.CommandPath(), text)
	if wrong {
		return ExitUsage
	}
	return ExitFailure
}

// UsageError is a mistake in how the command was called.
type UsageError struct{ error }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Usage makes a UsageError of an error.
func Usage(err error) error { return UsageError{err} }

// OneLine is the text of an error in one line. Nodes have their words in errors, so that the text
// is [Plain].
func OneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = Plain(strings.ReplaceAll(strings.TrimSpace(lines[i]), "\t", " "))
	}
	// a heading and the lines below it
	return strings.ReplaceAll(strings.Join(lines, "; "), ":; ", ": ")
}

// PrintJSON prints a value as indented JSON.
func PrintJSON(w io.Writer, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(out, '\n'))
	return err
}

// OpenInput opens a file, or stdin for "-".
func OpenInput(path string, stdin io.Reader) (io.ReadCloser, error) {
	if path == "-" && stdin != nil {
		return io.NopCloser(stdin), nil
	}
	return os.Open(path)
}

// ReadLimited reads a file, or stdin for "-", of at most limit bytes.
func ReadLimited(path string, stdin io.Reader, limit int64) ([]byte, error) {
	in, err := OpenInput(path, stdin)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(out)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return out, nil
}
