package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
)

// The kinds of refused input, besides those of package verify, as the metrics' labels name them.
const (
	kindCommitment = "commitment"
	kindEndorsed   = "endorsement"
	kindBatch      = "batch"
	kindBlock      = "invalid block"
	kindBody       = "block body"
)

// damagedState is the state trie among the kinds of damage, besides those of package repair.
const damagedState = "state"

// metrics are the chain's progress as this node sees it. Mempool, store, peer and server add their
// own to the registry.
type metrics struct {
	registry     *prometheus.Registry
	finality     prometheus.Histogram
	proofSeconds prometheus.Histogram
	messages     prometheus.Counter
	caughtUp     prometheus.Counter
	diskFull     prometheus.Counter
	waits        prometheus.Counter
	breaches     prometheus.Counter
	rejected     *prometheus.CounterVec
	withheld     *prometheus.CounterVec
	evidence     *prometheus.CounterVec
	damage       *prometheus.CounterVec
}

func newMetrics() *metrics {
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
	return &metrics{
		registry: registry,
		finality: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_finality_seconds", Help: "Time from a block's timestamp until the block is final on this node.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		proofSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_vrf_proof_seconds", Help: "Time to make a VRF proof.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 8),
		}),
		messages: counter("diseq_final_messages_total", "Messages that became final since the start of the node."),
		caughtUp: counter("diseq_caught_up_blocks_total", "Final blocks fetched from peers to catch up."),
		diskFull: counter("diseq_disk_full_total",
			"Writes of votes and blocks that failed on a full disk. The node repeats them until there is space."),
		waits: counter("diseq_synchrony_waits_total", "Synchrony waits begun, after a notarization or before the first vote."),
		breaches: counter("diseq_synchrony_breaches_total",
			"Synchrony breaches: this node stalled, or a link exceeded Delta or lost messages."),
		rejected: counters("diseq_rejected_total", "Input from peers that was refused, by kind.", "what",
			verify.KindVote, verify.KindCertificate, verify.KindProposal, kindCommitment, kindEndorsed, kindBatch, kindBlock, kindBody),
		withheld: counters("diseq_votes_withheld_total", "Votes withheld from valid blocks, by reason.", "reason",
			voter.ReasonClock, voter.ReasonCommitment, voter.ReasonLinks),
		evidence: counters("diseq_evidence_total", "Pieces of evidence of equivocation stored, by the rule that was broken.", "rule",
			string(chain.RuleE1), string(chain.RuleE2), string(chain.RuleE3), string(chain.RulePropose)),
		damage: counters("diseq_damage_total",
			"Damage found on disk while the node runs: to final blocks, to the state, to anything else in a database.", "what",
			repair.WhatBlock, damagedState, repair.WhatDatabase),
	}
}

// voter are those that the voter counts.
func (m *metrics) voter() voter.Metrics {
	return voter.Metrics{
		Waits: m.waits, Breaches: m.breaches, Withheld: m.withheld,
		InvalidBlocks: m.rejected.WithLabelValues(kindBlock), Misfits: m.rejected.WithLabelValues(kindBody),
	}
}

// final counts a final block.
func (m *metrics) final(f *chain.FinalBlock, now time.Time) {
	m.messages.Add(float64(len(f.Messages)))
	if d := now.Sub(f.Header.Time()); d >= 0 {
		m.finality.Observe(d.Seconds())
	}
}

// collector reads gauges from the node when Prometheus asks for them.
type collector struct{ *backend }

var (
	heightDesc = prometheus.NewDesc("diseq_height", "Last final height.", nil, nil)
	roundDesc  = prometheus.NewDesc("diseq_round", "Round of the height that is being decided.", nil, nil)
	stateDesc  = prometheus.NewDesc("diseq_state_height", "Newest height whose state root this node has computed.", nil, nil)
	sinceDesc  = prometheus.NewDesc("diseq_last_final_block_seconds",
		"Time since the timestamp of the last final block, by this node's clock. An idle network makes no blocks.", nil, nil)
	headroomDesc   = prometheus.NewDesc("diseq_headroom", "Validators heard from recently, this node included, minus the threshold.", nil, nil)
	storageLowDesc = prometheus.NewDesc("diseq_storage_low",
		"1 while this node has no room on its disk for messages and refuses submissions.", nil, nil)
	generationDesc = prometheus.NewDesc("diseq_set_generation",
		"Generation of the validator set in force: 0 for that of the genesis document, one more with each change.", nil, nil)
	validatorsDesc = prometheus.NewDesc("diseq_validators", "Validators of the set in force.", nil, nil)
	thresholdDesc  = prometheus.NewDesc("diseq_threshold", "Threshold of the set in force.", nil, nil)
	madeDesc       = prometheus.NewDesc("diseq_vrf_commitments_total",
		"Beacon epochs by committing validator of the set in force, and whether its commitment became final in time.", []string{"validator", "result"}, nil)
	synchronyDesc = prometheus.NewDesc("diseq_synchrony_healthy",
		"1 if this node hears within Delta what a threshold of validators says. Always 0 on a chain without the synchrony wait.", nil, nil)
	votesFromDesc = prometheus.NewDesc("diseq_may_vote", "1 if this node may vote at the next height.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		heightDesc, roundDesc, stateDesc, sinceDesc, generationDesc, validatorsDesc, thresholdDesc, headroomDesc, storageLowDesc, madeDesc,
		votesFromDesc, synchronyDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	tip := c.ledger.Tip()
	gauge(heightDesc, float64(tip.Height()))
	if v := c.voter.View(); v != nil {
		gauge(roundDesc, float64(v.Round))
	}
	state, _ := c.state.Newest()
	gauge(stateDesc, float64(state))
	gauge(sinceDesc, time.Since(tip.Block.Header.Time()).Seconds())
	set := c.ledger.Sets().Open()
	named, _, _ := c.ledger.Sets().ByGeneration(set.Generation)
	gauge(generationDesc, float64(set.Generation))
	gauge(validatorsDesc, float64(len(set.Validators)))
	gauge(thresholdDesc, float64(set.Threshold))
	gauge(headroomDesc, float64(c.network.headroom(set)))
	low := 0.0
	if c.storageLow() != nil {
		low = 1
	}
	gauge(storageLowDesc, low)
	voting := 0.0
	if c.role() == roleValidator {
		voting = 1
	}
	gauge(votesFromDesc, voting)
	healthy := 0.0
	if c.voter.Health().Healthy {
		healthy = 1
	}
	gauge(synchronyDesc, healthy)
	// A series goes when its validator has left: with many sets there is no bound on their number.
	reveals := c.ledger.Beacon().Reveals()
	for _, v := range named.Validators {
		r := reveals[v.PublicKey]
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(r.Made), v.Name, "made")
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(r.Missed), v.Name, "missed")
	}
}
