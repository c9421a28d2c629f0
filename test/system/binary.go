package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Binary is the path of the diseq that runs, set by [Main].
var Binary string

// Main is a TestMain: it builds diseq once for all tests of a package, unless DISEQ names a binary,
// and runs them.
func Main(m *testing.M) int {
	if Binary = os.Getenv("DISEQ"); Binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "diseq-system-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// a leftover in the temporary directory does no harm
	defer func() { _ = os.RemoveAll(dir) }()
	Binary = filepath.Join(dir, "diseq")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", Binary, "github.com/diseq/diseq/cmd/diseq")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build diseq:", err)
		return 1
	}
	return m.Run()
}
