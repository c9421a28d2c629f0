// Package integration tests the operator and its API against a real API server (package harness).
package integration

import (
	"os"
	"testing"

	"github.com/diseq/diseq/test/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
