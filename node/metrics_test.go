package node

import (
	"testing"

	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
)

// An alert on increase() misses the first event of a series that is born with it.
func TestSeriesAreThereBeforeTheirFirstEvent(t *testing.T) {
	n := newTestNetwork(t, 4, 3).open(0)
	families, err := n.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"diseq_evidence_total": "E2", "diseq_votes_withheld_total": voter.ReasonClock, "diseq_rejected_total": verify.KindVote,
		"diseq_peer_rejected_total": "malformed", "diseq_catchup_faults_total": catchup.FaultSlow, "diseq_mempool_refused_batches_total": "signature",
		"diseq_mempool_rejected_requests_total": "full", "diseq_vrf_commitments_total": "missed",
	} {
		found := false
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					found = found || f.GetName() == name && l.GetValue() == want
				}
			}
		}
		if !found {
			t.Errorf("no series %s of %s", name, want)
		}
	}
}

// The time of the chain is shown as the chain has it: the node's own clock may be the one that is
// wrong.
func TestTheTimeOfTheLastBlockIsShown(t *testing.T) {
	n := newTestNetwork(t, 4, 3).open(0)
	families, err := n.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "diseq_block_timestamp_seconds" {
			if got, want := f.GetMetric()[0].GetGauge().GetValue(), float64(n.genesis.TimeMS)/1000; got != want {
				t.Errorf("the last block is of %v, want %v", got, want)
			}
			return
		}
	}
	t.Error("no such metric")
}
