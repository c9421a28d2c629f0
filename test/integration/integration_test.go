// Package integration tests the operator and its API against a real API server (package harness).
package integration

import (
	"os"
	"testing"

	"github.com/diseq/diseq/test/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

var sharedNamespace string

// shared is a namespace for tests that leave nothing in it.
func shared(t *testing.T) string {
	t.Helper()
	if sharedNamespace == "" {
		sharedNamespace = harness.Namespace(t)
	}
	return sharedNamespace
}
