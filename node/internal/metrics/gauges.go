package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Gauges are the values that are read when Prometheus asks for them.
type Gauges struct {
	// Name, ChainID and Version say which node this is.
	Name, ChainID, Version string

	Height, StateHeight uint64
	Round               uint32
	// BlockTime is the timestamp of the last final block.
	BlockTime time.Time
	// Generation, Validators and Threshold are those of the set in force.
	Generation, Threshold uint32
	Validators, Headroom  int

	// Member says that the node is in the set in force, ChangePending that its peers file declares
	// a target which is not in force yet.
	StorageLow, MayVote, Member, ChangePending bool
	// SynchronyHealthy is nil on a chain without the synchrony wait.
	SynchronyHealthy *bool
	// FreeDisk is the free space of the data directory's disk, nil if it cannot be read.
	FreeDisk *uint64
	// Peers are those of the peers file and of the set in force. A series goes when its peer has
	// left.
	Peers []Peer
	// Reveals are those of each validator of the set in force. A series goes when its validator has
	// left: with many sets there is no bound on their number.
	Reveals []Reveals
}

// Peer is another node, as this node knows it.
type Peer struct {
	Name string
	// Height is the newest final height that the peer has reported.
	Height uint64
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
	infoDesc = desc("node_info", "Always 1. The labels are the node's name, its chain and its version.", "name", "chain_id", "version")

	heightDesc = desc("height", "Last final height.")
	roundDesc  = desc("round", "Round of the height that is being decided. Above 0 for long, leaders are missing or the network is slow.")
	stateDesc  = desc("state_height", "Newest height whose state root this node has computed.")

	timestampDesc = desc("block_timestamp_seconds",
		"Timestamp of the last final block, in seconds since 1970. An idle network makes no blocks. "+
			"Compare it with a clock that is not this node's.")
	generationDesc = desc("set_generation",
		"Generation of the validator set in force: 0 for that of the genesis document, one more with each change.")
	pendingDesc = desc("set_change_pending", "1 while the node's peers file declares a validator set that is not in force yet, else 0.")

	validatorsDesc = desc("validators", "Validators of the set in force.")
	thresholdDesc  = desc("threshold", "Threshold of the set in force.")
	headroomDesc   = desc("headroom", "Validators connected or heard from in the last 5 s, this node included, minus the threshold.")
	memberDesc     = desc("in_validator_set", "1 if this node is in the validator set in force, else 0.")
	voteDesc       = desc("may_vote", "1 if this node may vote at the next height, else 0: for observers, and while a validator is rejoining.")
	synchronyDesc  = desc("synchrony_healthy",
		"1 if this node hears within Delta what a threshold of validators says, else 0. Absent on a chain without the synchrony wait.")

	storageLowDesc = desc("storage_low", "1 while this node has no room on its disk for messages and refuses submissions, else 0.")
	freeDesc       = desc("storage_free_bytes",
		"Free space on the disk of the data directory, in bytes. Below 512 MiB a validator takes no messages.")

	peerHeightDesc = desc("peer_final_height", "Newest final height that the peer has reported to this node.", "peer")
	revealsDesc    = desc("vrf_commitments_total",
		"Beacon epochs by committing validator of the set in force, and whether its commitment became final in time: made or missed. "+
			"Epochs of a few heights are often missed.", "validator", "result")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("diseq_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		infoDesc, heightDesc, roundDesc, stateDesc, timestampDesc, generationDesc, pendingDesc, validatorsDesc, thresholdDesc,
		headroomDesc, memberDesc, voteDesc, synchronyDesc, storageLowDesc, freeDesc, peerHeightDesc, revealsDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (read gauges) Collect(ch chan<- prometheus.Metric) {
	g := read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	flag := func(d *prometheus.Desc, set bool) {
		v := 0.0
		if set {
			v = 1
		}
		gauge(d, v)
	}
	gauge(infoDesc, 1, g.Name, g.ChainID, g.Version)
	gauge(heightDesc, float64(g.Height))
	gauge(roundDesc, float64(g.Round))
	gauge(stateDesc, float64(g.StateHeight))
	gauge(timestampDesc, float64(g.BlockTime.UnixMilli())/1000)
	gauge(generationDesc, float64(g.Generation))
	flag(pendingDesc, g.ChangePending)
	gauge(validatorsDesc, float64(g.Validators))
	gauge(thresholdDesc, float64(g.Threshold))
	gauge(headroomDesc, float64(g.Headroom))
	flag(memberDesc, g.Member)
	flag(voteDesc, g.MayVote)
	flag(storageLowDesc, g.StorageLow)
	if g.SynchronyHealthy != nil {
		flag(synchronyDesc, *g.SynchronyHealthy)
	}
	if g.FreeDisk != nil {
		gauge(freeDesc, float64(*g.FreeDisk))
	}
	heights := map[string]uint64{} // a peers file may give two peers one name
	for _, p := range g.Peers {
		heights[p.Name] = max(heights[p.Name], p.Height)
	}
	for name, height := range heights {
		gauge(peerHeightDesc, float64(height), name)
	}
	for _, r := range g.Reveals {
		ch <- prometheus.MustNewConstMetric(revealsDesc, prometheus.CounterValue, float64(r.Made), r.Validator, "made")
		ch <- prometheus.MustNewConstMetric(revealsDesc, prometheus.CounterValue, float64(r.Missed), r.Validator, "missed")
	}
}
