package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads gauges from the node when Prometheus asks for them.
type collector struct{ *backend }

var (
	heightDesc = prometheus.NewDesc("diseq_height", "Last final height.", nil, nil)
	roundDesc  = prometheus.NewDesc("diseq_round", "Round of the height that is being decided.", nil, nil)
	stateDesc  = prometheus.NewDesc("diseq_state_height", "Newest height whose state root this node has computed.", nil, nil)
	sinceDesc  = prometheus.NewDesc("diseq_last_final_block_seconds",
		"Time since the timestamp of the last final block, by this node's clock. An idle network makes no blocks.", nil, nil)
	timestampDesc = prometheus.NewDesc("diseq_block_timestamp_seconds",
		"Timestamp of the last final block, in seconds since 1970. Compare it with a clock that is not this node's.", nil, nil)
	headroomDesc   = prometheus.NewDesc("diseq_headroom", "Validators heard from recently, this node included, minus the threshold.", nil, nil)
	storageLowDesc = prometheus.NewDesc("diseq_storage_low",
		"1 while this node has no room on its disk for messages and refuses submissions.", nil, nil)
	generationDesc = prometheus.NewDesc("diseq_set_generation",
		"Generation of the validator set in force: 0 for that of the genesis document, one more with each change.", nil, nil)
	validatorsDesc = prometheus.NewDesc("diseq_validators", "Validators of the set in force.", nil, nil)
	thresholdDesc  = prometheus.NewDesc("diseq_threshold", "Threshold of the set in force.", nil, nil)
	madeDesc       = prometheus.NewDesc("diseq_vrf_commitments_total",
		"Beacon epochs by committing validator of the set in force, and whether its commitment became final in time.",
		[]string{"validator", "result"}, nil)
	synchronyDesc = prometheus.NewDesc("diseq_synchrony_healthy",
		"1 if this node hears within Delta what a threshold of validators says. Always 0 on a chain without the synchrony wait.", nil, nil)
	votesFromDesc = prometheus.NewDesc("diseq_may_vote", "1 if this node may vote at the next height.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		heightDesc, roundDesc, stateDesc, sinceDesc, timestampDesc, generationDesc, validatorsDesc, thresholdDesc, headroomDesc, storageLowDesc,
		madeDesc, votesFromDesc, synchronyDesc,
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
	gauge(timestampDesc, float64(tip.Block.Header.Time().UnixMilli())/1000)
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
	if c.role() == roleValidator && !c.awaitsRecord() {
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
