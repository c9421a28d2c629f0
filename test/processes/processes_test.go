// Package processes tests what happens to a network when the machines and disks under it fail, with
// real processes: they are killed with SIGKILL at random moments, lose their data, find it damaged,
// run out of space, and meet a peer that sends garbage. system.Network.Audit has the promises that
// must hold through all of it.
//
// PROCESSES_ROUNDS multiplies how often the tests with random moments try. How fast a network
// recovers is measured by test/bench; the deadlines here are only there to end.
package processes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/diseq/diseq/test/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// soon is how long anything may take that is a matter of a moment on a machine with time to spare.
const soon = 2 * time.Minute

// rounds returns base, multiplied by PROCESSES_ROUNDS.
func rounds(t *testing.T, base int) int {
	t.Helper()
	factor := os.Getenv("PROCESSES_ROUNDS")
	if factor == "" {
		return base
	}
	n, err := strconv.Atoi(factor)
	if err != nil || n < 1 {
		t.Fatalf("PROCESSES_ROUNDS=%q: want a number from 1", factor)
	}
	return base * n
}

// awaitRandomMoment waits for a random number of further blocks, at least three and fewer than
// limit, on nodes.
func awaitRandomMoment(t *testing.T, h *system.History, limit uint64, nodes ...*system.Node) {
	t.Helper()
	h.Await(t, soon, h.Highest()+3+rand.Uint64N(limit-3), nodes...)
}

// except returns nodes without those of dead.
func except(nodes []*system.Node, dead ...*system.Node) []*system.Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *system.Node) bool { return slices.Contains(dead, n) })
}

// finalize submits a message until it is final: equal bytes are one message.
func finalize(t *testing.T, n *system.Node, message string) {
	t.Helper()
	system.Eventually(t, soon, fmt.Sprintf("%s: %q is final", n.Name, message), func() error {
		_, err := n.Finalize(message)
		return err
	})
}

// errNotYet says that a condition does not hold yet.
var errNotYet = errors.New("not yet")
