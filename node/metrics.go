package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
)

// What is refused, and why votes are withheld, as the metrics' labels say it.
const (
	whatVote         = "vote"
	whatCertificate  = "certificate"
	whatProposal     = "proposal"
	whatCommitment   = "commitment"
	whatBatch        = "batch"
	whatBlock        = "invalid block"
	reasonClock      = "clock"
	reasonCommitment = "missing commitment"
)

// metrics are what this package adds to those of the parts: the chain's progress as this node sees
// it.
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

func newMetrics(n *Node, registry *prometheus.Registry) *metrics {
	m := &metrics{
		registry: registry,
		finality: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_finality_seconds", Help: "Time from a block's timestamp to its being final here.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		proofSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "diseq_vrf_proof_seconds", Help: "Time to make a VRF proof.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 8),
		}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "diseq_final_messages_total", Help: "Messages made final since the start."}),
		caughtUp: prometheus.NewCounter(prometheus.CounterOpts{Name: "diseq_caught_up_blocks_total", Help: "Final blocks taken from peers."}),
		diskFull: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_disk_full_total", Help: "Writes of votes and blocks that failed on a full disk and are tried again.",
		}),
		waits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_synchrony_waits_total", Help: "Synchrony waits begun, after notarizations and before votes.",
		}),
		breaches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "diseq_synchrony_breaches_total", Help: "Times at which this node could not tell what others say within Delta.",
		}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_rejected_total", Help: "Input refused, by what it was.",
		}, []string{"what"}),
		withheld: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_votes_withheld_total", Help: "Votes withheld from valid blocks, by reason.",
		}, []string{"reason"}),
		evidence: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "diseq_evidence_total", Help: "Pieces of equivocation evidence found, by rule.",
		}, []string{"rule"}),
	}
	// A series that begins at 1 has no increase: alerts would miss the first of each.
	for _, what := range []string{whatVote, whatCertificate, whatProposal, whatCommitment, whatBatch, whatBlock} {
		m.rejected.WithLabelValues(what)
	}
	for _, reason := range []string{reasonClock, reasonCommitment} {
		m.withheld.WithLabelValues(reason)
	}
	for _, rule := range []chain.Rule{chain.RuleE1, chain.RuleE2, chain.RuleE3, chain.RulePropose} {
		m.evidence.WithLabelValues(string(rule))
	}
	registry.MustRegister(m.finality, m.proofSeconds, m.messages, m.caughtUp, m.diskFull, m.waits, m.breaches, m.rejected, m.withheld,
		m.evidence, &collector{n})
	return m
}

// final notes a final block.
func (m *metrics) final(f *chain.FinalBlock, now time.Time) {
	m.messages.Add(float64(len(f.Messages)))
	if d := now.Sub(time.UnixMilli(int64(min(f.Header.Timestamp, 1<<53)))); d >= 0 {
		m.finality.Observe(d.Seconds())
	}
}

// collector reads gauges from the node when they are asked for.
type collector struct{ n *Node }

var (
	heightDesc = prometheus.NewDesc("diseq_height", "Last final height.", nil, nil)
	roundDesc  = prometheus.NewDesc("diseq_round", "Round of the height being decided.", nil, nil)
	stateDesc  = prometheus.NewDesc("diseq_state_height", "Newest height whose trie root is computed.", nil, nil)
	sinceDesc  = prometheus.NewDesc("diseq_last_final_block_seconds",
		"Time since the last final block, by this node's clock and the block's; an idle network makes no blocks.", nil, nil)
	headroomDesc = prometheus.NewDesc("diseq_headroom", "Validators heard from, this node included, minus the threshold.", nil, nil)
	madeDesc     = prometheus.NewDesc("diseq_vrf_commitments_total",
		"Beacon epochs by committing validator, and whether its commitment was made final in time.", []string{"validator", "result"}, nil)
	synchronyDesc = prometheus.NewDesc("diseq_synchrony_healthy",
		"1 if this node hears within Delta what enough validators say; 0 always on a chain without the synchrony wait.", nil, nil)
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
	tip := c.n.tip.Load()
	if tip == nil || c.n.synchrony == nil {
		return // not open yet
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(heightDesc, float64(tip.block.Header.Height))
	if v := c.n.seq.view.Load(); v != nil {
		gauge(roundDesc, float64(v.round))
	}
	state, _ := c.n.follower.newest()
	gauge(stateDesc, float64(state))
	gauge(sinceDesc, time.Since(time.UnixMilli(int64(min(tip.block.Header.Timestamp, 1<<53)))).Seconds())
	gauge(headroomDesc, float64(c.n.headroom()))
	voting := 0.0
	if c.n.role() == roleValidator {
		voting = 1
	}
	gauge(votesFromDesc, voting)
	healthy := 0.0
	if c.n.synchrony.ok.Load() {
		healthy = 1
	}
	gauge(synchronyDesc, healthy)
	made, missed := c.n.beacon.counts()
	for i, v := range c.n.genesis.Validators {
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(made[i]), v.Name, "made")
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(missed[i]), v.Name, "missed")
	}
}
