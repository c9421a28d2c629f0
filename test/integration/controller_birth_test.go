package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/api/v1alpha1"
)

func TestANetworkComesUp(t *testing.T) {
	c := newCluster(t)
	o := newOperator(t, c)
	c.apply("demo")
	n := o.settle("demo")
	if n.Status.ReadyValidators != 4 || n.Status.Threshold != 3 || n.Status.Validators != 4 || n.Status.ChainID == "" {
		t.Errorf("status %+v", n.Status)
	}
	if got := len(c.statements); got != 4 {
		t.Errorf("%d validators made a vote store, want 4", got)
	}
}

// Identities first, each recorded before its Secret is made. Then the genesis document from all of
// them, pods third; each volume is recorded before anything runs on it.
//
// Promise 56.
func TestANetworkIsBornInTwoPhases(t *testing.T) {
	c := newCluster(t)
	o := newOperator(t, c)
	c.apply("demo")
	o.settle("demo")
	first := func(prefix string) int {
		return slices.IndexFunc(o.journal.writes, func(w string) bool { return strings.HasPrefix(w, prefix) })
	}
	last := func(prefix string) int {
		at := -1
		for i, w := range o.journal.writes {
			if strings.HasPrefix(w, prefix) {
				at = i
			}
		}
		return at
	}
	secrets, genesis, volumes := last("create Secret"), first("apply ConfigMap demo-genesis"), first("apply PersistentVolumeClaim")
	keys, sets := first("patch status"), first("apply StatefulSet")
	recorded := keys + 1 + slices.IndexFunc(o.journal.writes[keys+1:], func(w string) bool { return strings.HasPrefix(w, "patch status") })
	if keys < 0 || keys > first("create Secret") || secrets < 0 || genesis < 0 || volumes < 0 || recorded < 0 || sets < 0 ||
		secrets > genesis || genesis > volumes || last("apply PersistentVolumeClaim") > recorded || recorded > sets {
		t.Errorf("keys end at %d, genesis %d, volumes from %d, recorded at %d, StatefulSets from %d, of\n%s",
			secrets, genesis, volumes, recorded, sets, strings.Join(o.journal.writes, "\n"))
	}
	for _, m := range c.network("demo").Status.Members {
		if m.VolumeUID == "" || m.Phase != v1alpha1.MemberValidator {
			t.Errorf("member %+v", m)
		}
	}
}
