package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
)

// The kinds of refused input, besides those of package verify, as the metrics' labels name them.
const (
	kindCommitment = "commitment"
	kindBatch      = "batch"
	kindBlock      = "invalid block"
	kindBody       = "block body"
)

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
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		finality: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_finality_seconds", Help: "Time from a block's timestamp until the block is final on this node.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		proofSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_vrf_proof_seconds", Help: "Time to make a VRF proof.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 8),
		}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "diseq_final_messages_total", Help: "Messages that became final since the start of the node."}),
		caughtUp: prometheus.NewCounter(prometheus.CounterOpts{Name: "diseq_caught_up_blocks_total", Help: "Final blocks fetched from peers to catch up."}),
		diskFull: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_disk_full_total", Help: "Writes of votes and blocks that failed on a full disk; the node repeats them until there is space.",
		}),
		waits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_synchrony_waits_total", Help: "Synchrony waits begun, after a notarization or before the first vote.",
		}),
		breaches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_synchrony_breaches_total", Help: "Synchrony breaches: this node stalled, or a link exceeded Delta or lost messages.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_rejected_total", Help: "Input from peers that was refused, by kind.",
		}, []string{"what"}),
		withheld: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_votes_withheld_total", Help: "Votes withheld from valid blocks, by reason.",
		}, []string{"reason"}),
		evidence: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_evidence_total", Help: "Pieces of evidence of equivocation stored, by the rule that was broken.",
		}, []string{"rule"}),
	}
	// A series that begins at 1 has no increase: alerts would miss the first event of each.
	for _, kind := range []string{
		verify.KindVote, verify.KindCertificate, verify.KindProposal, kindCommitment, kindBatch, kindBlock,
	} {
		m.rejected.WithLabelValues(kind)
	}
	for _, reason := range []string{voter.ReasonClock, voter.ReasonCommitment} {
		m.withheld.WithLabelValues(reason)
	}
	for _, rule := range []chain.Rule{chain.RuleE1, chain.RuleE2, chain.RuleE3, chain.RulePropose} {
		m.evidence.WithLabelValues(string(rule))
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.finality, m.proofSeconds, m.messages, m.caughtUp, m.diskFull, m.waits, m.breaches, m.rejected, m.withheld, m.evidence)
	return m
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
	headroomDesc = prometheus.NewDesc("diseq_headroom", "Validators connected or heard from recently, this node included, minus the threshold.", nil, nil)
	madeDesc     = prometheus.NewDesc("diseq_vrf_commitments_total",
		"Beacon epochs by committing validator, and whether its commitment became final in time.", []string{"validator", "result"}, nil)
	synchronyDesc = prometheus.NewDesc("diseq_synchrony_healthy",
		"1 if this node hears within Delta what a threshold of validators says. Always 0 on a chain without the synchrony wait.", nil, nil)
	votesFromDesc = prometheus.NewDesc("diseq_may_vote", "1 if this node may vote at the next height.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{heightDesc, roundDesc, stateDesc, sinceDesc, headroomDesc, madeDesc, votesFromDesc, synchronyDesc} {
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
	gauge(headroomDesc, float64(c.network.headroom()))
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
	made, missed := c.ledger.Beacon().Counts()
	for i, v := range c.genesis.Validators {
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(made[i]), v.Name, "made")
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(missed[i]), v.Name, "missed")
	}
}
