package hostile

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/diseq/diseq/test/oracle"
	"github.com/diseq/diseq/test/system"
)

// Options is what a run does, and what honest clients may expect of it.
type Options struct {
	// Time is how long the attacks last. Before, the honest clients have the network for
	// themselves for Quiet.
	Time, Quiet time.Duration
	// Rate is how many messages the honest clients submit in a second.
	Rate int
	// Share is how much of the messages that became final in each second before the attacks must
	// become final during them, 0 for no claim. Latency is how long 99 of 100 may take, 0 for no
	// claim.
	Share   float64
	Latency time.Duration
	// Probe is how long the readiness of a node may take to be answered, 0 for no claim.
	Probe time.Duration
	// Delta is that of the synchrony wait, 0 for a chain without it. With it no node may abstain
	// while it is attacked, if Settled is set.
	Delta   time.Duration
	Settled bool
	// Memory is how many bytes a node may have more than it had at most before.
	Memory int64
}

// Run attacks a network of four validators, of which one's key is stolen and its process down.
func Run(t *testing.T, o Options) {
	var flags []string
	if o.Delta > 0 {
		flags = []string{"--synchrony-delta", o.Delta.String()}
	}
	n := system.Start(t, system.Options{Flags: flags})
	h := n.Watch()
	stolen, honest := n.Nodes[3], n.Nodes[:3]
	for _, node := range honest {
		node.OpenProbes()
	}
	stolen.Kill()
	began := time.Now()
	load := system.Load{Nodes: honest, Rate: o.Rate, Batch: 10, Size: 100}.Start(t)
	time.Sleep(o.Quiet) // the measurement, not a wait for something

	before := make([]int64, len(honest))
	for i, node := range honest {
		_, before[i] = node.Resident()
	}
	breaches := breached(t, honest)
	attacked := time.Now()
	probes := probe(t, honest)
	report := storm(t, steal(t, n, stolen, h.Highest), honest, o.Time)
	slowest := probes()
	for i, after := range breached(t, honest) {
		t.Logf("%s has abstained %v times", honest[i].Name, after-breaches[i])
		if o.Settled && after > breaches[i] {
			t.Errorf("%s has abstained %v times", honest[i].Name, after-breaches[i])
		}
	}
	over := time.Now()
	load.Stop()

	for i, node := range honest {
		now, peak := node.Resident()
		t.Logf("%s: %d MiB before the attacks at most, %d MiB at most, %d MiB now", node.Name, before[i]>>20, peak>>20, now>>20)
		if grown := peak - before[i]; grown > o.Memory {
			t.Errorf("%s has taken %d MiB more than before, want %d at most", node.Name, grown>>20, o.Memory>>20)
		}
		if slowest[i] > o.Probe && o.Probe > 0 {
			t.Errorf("%s: /readyz took %v, want %v at most", node.Name, slowest[i], o.Probe)
		}
	}
	n.AllowEvidence() // the thief contradicts itself
	order := n.Audit(h, load)
	t.Logf("%s; /readyz took %v at most", load, slices.Max(slowest))
	for _, line := range report {
		t.Log(line)
	}
	judge(t, o, load, order, h, began, attacked, over)
}

// breached returns how often each node has found itself unhealthy.
func breached(t *testing.T, nodes []*system.Node) (counts []float64) {
	for _, node := range nodes {
		n, err := node.Metric("diseq_synchrony_breaches_total")
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

// judge compares how the honest clients were served before and during the attacks.
func judge(t *testing.T, o Options, load *system.Ledger, order *oracle.Order, h *system.History, began, attacked, over time.Time) {
	rate := func(from, to time.Time) float64 {
		// The first seconds are left out: links open, and connections are made.
		from = from.Add(min(5*time.Second, to.Sub(from)/4))
		seconds := int(to.Sub(from) / time.Second)
		final := load.FinalPerSecond(order, h, from, seconds)
		sum := 0
		for _, n := range final {
			sum += n
		}
		return float64(sum) / float64(max(1, seconds))
	}
	quiet, loud := rate(began, attacked), rate(attacked, over)
	calm := load.Latencies(order, h, began.Add(attacked.Sub(began)/4), attacked)
	latencies := load.Latencies(order, h, attacked, over)
	if len(latencies) == 0 {
		t.Fatal("no honest message became final during the attacks")
	}
	p99 := latencies[len(latencies)*99/100]
	t.Logf("honest messages final in a second: %.0f before the attacks, %.0f during them", quiet, loud)
	for when, l := range map[string][]time.Duration{"before": calm, "during": latencies} {
		if len(l) > 0 {
			t.Logf("%s the attacks half of them final within %v, 99 of 100 within %v",
				when, l[len(l)/2].Round(time.Millisecond), l[len(l)*99/100].Round(time.Millisecond))
		}
	}
	if loud < o.Share*quiet {
		t.Errorf("%.0f %% of the messages became final, want %.0f %%", 100*loud/quiet, 100*o.Share)
	}
	if o.Latency > 0 && p99 > o.Latency {
		t.Errorf("99 of 100 messages became final within %v, want %v", p99, o.Latency)
	}
}

// storm runs all attacks on all nodes and returns a report of them. The attacks of the peer take
// turns, on another node each.
func storm(t *testing.T, thief *thief, targets []*system.Node, d time.Duration) (report []string) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var running sync.WaitGroup
	type counted struct {
		name string
		*counts
	}
	first, last := thief.attacks()
	clients := clientAttacks()
	all := make([]counted, 0, len(clients)+len(first)+len(last))
	for _, a := range clients {
		c := &counts{}
		all = append(all, counted{a.name, c})
		for _, target := range targets {
			running.Go(func() { a.run(ctx, target, c) })
		}
	}
	tallies := map[string]*counts{}
	for _, a := range slices.Concat(first, last) {
		tallies[a.name] = &counts{}
		all = append(all, counted{a.name, tallies[a.name]})
	}
	turn := max(2*time.Second, min(20*time.Second, d/time.Duration(len(all))))
	began := time.Now()
	for k, target := range targets {
		running.Go(func() {
			for i := k; ctx.Err() == nil; i++ {
				attacks := first
				if time.Since(began) > d*4/5 {
					attacks = last
				}
				a := attacks[i%len(attacks)]
				now, end := context.WithTimeout(ctx, turn)
				a.run(now, target, tallies[a.name])
				end()
			}
		})
	}
	running.Wait()
	for _, a := range all {
		report = append(report, fmt.Sprintf("%s: %d times, %d refused or cut off", a.name, a.done.Load(), a.refused.Load()))
	}
	for _, node := range targets {
		for _, metric := range []string{
			"diseq_peer_useless_total", "diseq_peer_rejected_total", "diseq_signature_waits_seconds_total", "diseq_http_rejected_total",
		} {
			v, err := node.Metric(metric)
			if err != nil {
				t.Errorf("%s: %v", node.Name, err)
			}
			report = append(report, fmt.Sprintf("%s: %s %.0f", node.Name, metric, v))
		}
		report = append(report, fmt.Sprintf("%s: %v of processor time since its start", node.Name, node.CPU()))
	}
	return report
}

// probe asks each node whether it is ready, all the time, as a kubelet does. The function that it
// returns ends that, and returns how long the slowest answer of each took. A node that does not
// answer, or is not ready, fails the test.
func probe(t *testing.T, nodes []*system.Node) (slowest func() []time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	worst := make([]time.Duration, len(nodes))
	var running sync.WaitGroup
	for i, node := range nodes {
		running.Go(func() {
			every(ctx, 2, func() {
				began := time.Now()
				if err := node.GetProbes("/readyz", nil); err != nil {
					t.Errorf("%s fails its probe: %v", node.Name, err)
				}
				worst[i] = max(worst[i], time.Since(began))
			})
		})
	}
	return func() []time.Duration {
		cancel()
		running.Wait()
		return worst
	}
}
