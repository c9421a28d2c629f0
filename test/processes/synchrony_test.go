package processes

import (
	"fmt"
	"testing"
	"time"

	"github.com/diseq/diseq/test/system"
)

const delta = 250 * time.Millisecond

func synchronous(t *testing.T) *system.Network {
	t.Helper()
	n := system.Start(t, system.Options{Flags: []string{"--synchrony-delta", delta.String()}})
	for _, node := range n.Nodes {
		awaitHealth(t, node, true)
	}
	return n
}

func awaitHealth(t *testing.T, node *system.Node, want bool) {
	t.Helper()
	system.Eventually(t, soon, fmt.Sprintf("%s is healthy: %v", node.Name, want), func() error {
		got, err := node.Metric("diseq_synchrony_healthy")
		if err == nil && (got == 1) != want {
			err = fmt.Errorf("diseq_synchrony_healthy is %v", got)
		}
		return err
	})
}

// A validator whose process stands still notices it itself and abstains; three of four go on, with
// the wait.
//
// Promise 1.
func TestPausedValidatorAbstainsFromTheSynchronyWait(t *testing.T) {
	n := synchronous(t)
	h := n.Watch()
	load := system.Load{Nodes: n.Nodes[:3], Rate: 20, Batch: 2, Size: 100}.Start(t)
	h.Await(t, soon, 3, n.Nodes...)
	paused := n.Nodes[3]
	before, err := paused.Metric("diseq_synchrony_breaches_total")
	if err != nil {
		t.Fatal(err)
	}
	paused.Freeze()
	h.Await(t, soon, h.Highest()+3, n.Nodes[:3]...)
	paused.Thaw()
	system.Eventually(t, soon, "the pause is counted", func() error {
		after, err := paused.Metric("diseq_synchrony_breaches_total")
		if err == nil && after <= before {
			err = fmt.Errorf("%v breaches, before the pause %v", after, before)
		}
		return err
	})
	awaitHealth(t, paused, true)
	system.Eventually(t, soon, "who was paused votes again", func() error {
		s, err := paused.Status()
		if err == nil && (s.Synchrony == nil || !s.Synchrony.Settled) {
			err = fmt.Errorf("%+v", s.Synchrony)
		}
		return err
	})
	h.Await(t, soon, h.Highest()+3, n.Nodes...)
	load.Stop()
	n.Audit(h, load)
	n.Stop()
}

// Where fewer than the threshold are left the others know that they hear too little: nothing
// becomes final until they are back.
//
// Promise 1.
func TestSynchronyWaitOutlivesALostQuorum(t *testing.T) {
	n := synchronous(t)
	finalize(t, n.Nodes[0], t.Name())
	n.Kill(n.Nodes[2:]...)
	awaitHealth(t, n.Nodes[0], false)
	awaitHealth(t, n.Nodes[1], false)
	n.Nodes[2].Start()
	awaitHealth(t, n.Nodes[0], true)
	finalize(t, n.Nodes[1], t.Name()+", again")
}
