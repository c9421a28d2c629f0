package hostile_test

import (
	"os"
	"testing"
	"time"

	"github.com/diseq/diseq/test/hostile"
	"github.com/diseq/diseq/test/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// soak returns how long the attacks of make hostile last: HOSTILE_TIME.
func soak(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("HOSTILE_TIME"))
	if err != nil {
		t.Skip("make hostile runs this test: it takes as long as HOSTILE_TIME says")
	}
	return d
}

// kubelet is how long a pod's readiness probe waits. One that waits for longer than a second mostly
// lost its first packet: here the attackers share the kernel's queue of loopback with the nodes.
const kubelet = 2 * time.Second

func TestHonestClientsAreServed(t *testing.T) {
	d := soak(t)
	hostile.Run(t, hostile.Options{
		Time: d, Quiet: max(20*time.Second, d/10), Rate: 300, Share: 0.7, Latency: time.Second, Probe: kubelet, Memory: 512 << 20,
	})
}

// With the synchrony wait a validator abstains when messages wait too long. No liar brings that
// about.
func TestNobodyAbstains(t *testing.T) {
	hostile.Run(t, hostile.Options{
		Time: max(20*time.Second, soak(t)/5), Quiet: 10 * time.Second, Rate: 100, Delta: 500 * time.Millisecond, Settled: true, Memory: 512 << 20,
	})
}
