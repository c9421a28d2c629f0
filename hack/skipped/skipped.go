// Package skipped leaves a test out where the machine lacks something it takes, and has it told: of
// what a package that passes prints, go test shows nothing without -v. hack/phase.sh names a file
// in DISEQ_SKIPPED and prints what is in it at the end of the phase; a package that read the name
// is not taken from go test's cache the next time.
package skipped

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// Test skips a test and says why.
func Test(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if path := os.Getenv("DISEQ_SKIPPED"); path != "" {
		if err := note(path, fmt.Sprintf("%s: %s\n", t.Name(), reason)); err != nil {
			t.Errorf("telling of a test that is left out: %v", err)
		}
	}
	t.Skip(reason)
}

func note(path, line string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(line)
	return err
}
