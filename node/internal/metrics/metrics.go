// Package metrics counts the chain's progress as one node sees it. Mempool, store, peer and server
// add their own metrics to its registry, and the node its gauges.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
)

// The kinds of refused input, besides those of package verify, as the metrics' labels name them.
const (
	KindCommitment = "commitment"
	KindEndorsed   = "endorsement"
	KindBatch      = "batch"
	KindBlock      = "invalid block"
	KindBody       = "block body"
)

// DamagedState is the state trie among the kinds of damage, besides those of package repair.
const DamagedState = "state"

// finalityBuckets are three in each doubling where networks live, from a rack to the other side of
// the world, so that a quantile is read to within a fifth. Above come chains whose synchrony wait
// has a Delta of seconds, and troubles.
var finalityBuckets = []float64{
	.003, .005, .007, .01, .0125, .016, .02, .025, .032, .04, .05, .063, .08, .1, .125, .16, .2, .25, .32, .4, .5, .63, .8, 1,
	1.5, 2, 3, 5, 8, 15, 30, 60,
}

// Metrics are those of one node.
type Metrics struct {
	Registry     *prometheus.Registry
	Finality     prometheus.Histogram
	ProofSeconds prometheus.Histogram
	Messages     prometheus.Counter
	CaughtUp     prometheus.Counter
	DiskFull     prometheus.Counter
	Waits        prometheus.Counter
	Breaches     prometheus.Counter
	Waited       prometheus.Counter
	Rejected     *prometheus.CounterVec
	Withheld     *prometheus.CounterVec
	Evidence     *prometheus.CounterVec
	Damage       *prometheus.CounterVec
	SyncFaults   *prometheus.CounterVec
}

// New returns metrics with a registry of their own.
func New() *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	// A series that begins at 1 has no increase: alerts would miss the first event of each.
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := auto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	return &Metrics{
		Registry: registry,
		Finality: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_finality_seconds", Help: "Time from a block's timestamp until the block is final on this node.",
			Buckets: finalityBuckets,
		}),
		ProofSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_vrf_proof_seconds", Help: "Time to make a VRF proof.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 8),
		}),
		Messages: counter("diseq_final_messages_total", "Messages that became final since the start of the node."),
		CaughtUp: counter("diseq_caught_up_blocks_total", "Final blocks fetched from peers to catch up."),
		DiskFull: counter("diseq_disk_full_total",
			"Writes of votes and blocks that failed on a full disk. The node repeats them until there is space."),
		Waits: counter("diseq_synchrony_waits_total", "Synchrony waits begun, after a notarization or before the first vote."),
		Breaches: counter("diseq_synchrony_breaches_total",
			"Breaches of the synchrony wait: this node stalled, or a link exceeded Delta or lost messages."),
		Waited: counter("diseq_signature_waits_seconds_total",
			"Time for which peers waited because one of them sent more signatures than its budget of checks allows."),
		Rejected: counters("diseq_rejected_total",
			"Input from peers that was refused, by kind. A block body is refused if it does not fit its header.", "what",
			verify.KindVote, verify.KindCertificate, verify.KindProposal, KindCommitment, KindEndorsed, KindBatch, KindBlock, KindBody),
		Withheld: counters("diseq_votes_withheld_total",
			"Votes withheld from valid blocks, by reason. With clock, the block is more than 2 s ahead of this node's clock.", "reason",
			voter.ReasonClock, voter.ReasonCommitment, voter.ReasonLinks),
		Evidence: counters("diseq_evidence_total", "Pieces of evidence of equivocation stored, by the rule that was broken.", "rule",
			string(chain.RuleE1), string(chain.RuleE2), string(chain.RuleE3), string(chain.RulePropose)),
		Damage: counters("diseq_damage_total",
			"Damage found on disk while the node runs: to a final block, to the state, to anything else in a database.", "what",
			repair.WhatBlock, DamagedState, repair.WhatDatabase),
		SyncFaults: counters("diseq_catchup_faults_total",
			"Answers of peers with final blocks that were given up, by reason: slow (another peer was faster), "+
				"empty (nothing where the peer claimed blocks), wrong, failed (the peer went away).",
			"reason", catchup.FaultSlow, catchup.FaultEmpty, catchup.FaultWrong, catchup.FaultFailed),
	}
}

// Voter are those that the voter counts.
func (m *Metrics) Voter() voter.Metrics {
	return voter.Metrics{
		Waits: m.Waits, Breaches: m.Breaches, Withheld: m.Withheld,
		InvalidBlocks: m.Rejected.WithLabelValues(KindBlock), Misfits: m.Rejected.WithLabelValues(KindBody),
	}
}

// Final counts a final block.
func (m *Metrics) Final(f *chain.FinalBlock, now time.Time) {
	m.Messages.Add(float64(len(f.Messages)))
	if d := now.Sub(f.Header.Time()); d >= 0 {
		m.Finality.Observe(d.Seconds())
	}
}
