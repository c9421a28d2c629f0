package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Gauges are the values that are read when Prometheus asks for them.
type Gauges struct {
	Height, StateHeight uint64
	Round               uint32
	// BlockTime is the timestamp of the last final block.
	BlockTime time.Time
	// Generation, Validators and Threshold are those of the set in force.
	Generation, Threshold uint32
	Validators, Headroom  int

	StorageLow, MayVote, SynchronyHealthy bool
	// Reveals are those of each validator of the set in force. A series goes when its validator has
	// left: with many sets there is no bound on their number.
	Reveals []Reveals
}

// Reveals are the beacon epochs of a committing validator.
type Reveals struct {
	Validator    string
	Made, Missed uint64
}

// Collect registers the gauges, which read returns.
func (m *Metrics) Collect(read func() Gauges) { m.Registry.MustRegister(gauges(read)) }

type gauges func() Gauges

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
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		heightDesc, roundDesc, stateDesc, sinceDesc, timestampDesc, generationDesc, validatorsDesc, thresholdDesc, headroomDesc, storageLowDesc,
		madeDesc, votesFromDesc, synchronyDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (read gauges) Collect(ch chan<- prometheus.Metric) {
	g := read()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	flag := func(d *prometheus.Desc, set bool) {
		v := 0.0
		if set {
			v = 1
		}
		gauge(d, v)
	}
	gauge(heightDesc, float64(g.Height))
	gauge(roundDesc, float64(g.Round))
	gauge(stateDesc, float64(g.StateHeight))
	gauge(sinceDesc, time.Since(g.BlockTime).Seconds())
	gauge(timestampDesc, float64(g.BlockTime.UnixMilli())/1000)
	gauge(generationDesc, float64(g.Generation))
	gauge(validatorsDesc, float64(g.Validators))
	gauge(thresholdDesc, float64(g.Threshold))
	gauge(headroomDesc, float64(g.Headroom))
	flag(storageLowDesc, g.StorageLow)
	flag(votesFromDesc, g.MayVote)
	flag(synchronyDesc, g.SynchronyHealthy)
	for _, r := range g.Reveals {
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(r.Made), r.Validator, "made")
		ch <- prometheus.MustNewConstMetric(madeDesc, prometheus.CounterValue, float64(r.Missed), r.Validator, "missed")
	}
}
