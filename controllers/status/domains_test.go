package status

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/diseq/diseq/api/v1alpha1"
)

// on puts validators on machines, by their serial numbers, and machines into zones.
func on(machines string, zones map[string]string) func(*Observation) {
	return func(o *Observation) {
		for i, name := range strings.Fields(machines) {
			o.Network.Seen.Members[i].Pod.Machine, o.Network.Seen.Members[i].Pod.Zone = name, zones[name]
		}
	}
}

// A machine that carries two validators takes both with it: losses are counted by machine and by
// zone, too.
func TestLossesAreCountedByMachineAndByZone(t *testing.T) {
	zones := map[string]string{"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c"}
	domain := func(inUse, mayFail int32, critical ...string) *v1alpha1.FailureDomain {
		return &v1alpha1.FailureDomain{InUse: inUse, MayFail: mayFail, Critical: critical}
	}
	for _, tt := range []struct {
		name string
		seen Observation
		want v1alpha1.FailureDomains
		says string // of QuorumHealthy
	}{
		{"each on a machine of its own", observed(4, 3, on("a1 a2 b1 c1", nil)), v1alpha1.FailureDomains{Machines: domain(4, 1)},
			"SpareValidators: 1 more may fail, and any 1 of 4 machines: 4 of 4 validators"},
		{"two on one", observed(4, 3, on("a1 a2 b1 a2", nil)), v1alpha1.FailureDomains{Machines: domain(3, 0, "a2")},
			"SharedMachine: 1 more may fail, but the loss of the machine a2 (demo-v1, demo-v3) would stop the chain: 4 of 4 validators"},
		{"all on one", observed(4, 3, on("a1 a1 a1 a1", nil)), v1alpha1.FailureDomains{Machines: domain(1, 0, "a1")},
			"SharedMachine: 1 more may fail, but the loss of the machine a1 (demo-v0, demo-v1, demo-v2, demo-v3) would stop the chain: "},
		{"seven on four: the largest go first", observed(7, 4, on("a1 a1 a2 a2 b1 b1 c1", nil)), v1alpha1.FailureDomains{Machines: domain(4, 1)},
			"SpareValidators: 3 more may fail, and any 1 of 4 machines: "},
		{"seven on seven", observed(7, 4, on("a1 a2 b1 b2 c1 c2 d1", nil)), v1alpha1.FailureDomains{Machines: domain(7, 3)},
			"SpareValidators: 3 more may fail, and any 3 of 7 machines: "},
		{"machines may fail, and a zone may not", observed(4, 3, on("a1 a2 b1 c1", zones)),
			v1alpha1.FailureDomains{Machines: domain(4, 1), Zones: domain(3, 0, "a")},
			"SharedMachine: 1 more may fail, and any 1 of 4 machines, but the loss of the zone a (demo-v0, demo-v1) would stop the chain: "},
		{"three zones of seven", observed(7, 4, on("a1 a2 b1 b2 c1 c2 c2", zones)),
			v1alpha1.FailureDomains{Machines: domain(6, 2), Zones: domain(3, 1)},
			"SpareValidators: 3 more may fail, and any 2 of 6 machines, and any 1 of 3 zones: "},
		{"a zone is not known", observed(4, 3, on("a1 a2 b1 d1", zones)), v1alpha1.FailureDomains{Machines: domain(4, 1)},
			"SpareValidators: 1 more may fail, and any 1 of 4 machines: "},
		{"one is down: a machine counts by those that count", observed(7, 5, on("a1 a2 b1 b2 c1 c2 a1", nil), of(silent, 6)),
			v1alpha1.FailureDomains{Machines: domain(6, 1)}, "SpareValidators: 1 more may fail, and any 1 of 6 machines: 6 of 7 "},
		{"nobody may fail", observed(4, 3, on("a1 a2 b1 c1", nil), of(silent, 3)),
			v1alpha1.FailureDomains{Machines: domain(3, 0, "a1", "a2", "b1")}, "NoSpareValidator: no validator may fail until one more is back: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Of(tt.seen)
			if diff := cmp.Diff(&tt.want, s.FailureDomains); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionQuorumHealthy)
			if got := c.Reason + ": " + c.Message; !strings.HasPrefix(got, tt.says) {
				t.Errorf("got  %s\nwant %s", got, tt.says)
			}
		})
	}
	if s := Of(observed(4, 3, of(silent, 0, 1, 2, 3))); s.FailureDomains != nil {
		t.Errorf("nobody counts, and %+v", s.FailureDomains)
	}
}

func TestMachinesThatMayFail(t *testing.T) {
	for _, tt := range []struct {
		sizes       []int
		spare, want int
	}{
		{[]int{1, 1, 1, 1}, 1, 1}, {[]int{2, 1, 1}, 1, 0}, {[]int{2, 2, 2, 1}, 3, 1}, {[]int{2, 2, 2, 1}, 4, 2}, {[]int{1}, 0, 0}, {[]int{1, 1}, 5, 2},
	} {
		d := domains{}
		for i, size := range tt.sizes {
			d[string(rune('a'+i))] = make([]string, size)
		}
		if got := d.mayFail(tt.spare); got != tt.want {
			t.Errorf("%v with %d to spare: %d, want %d", tt.sizes, tt.spare, got, tt.want)
		}
	}
}
