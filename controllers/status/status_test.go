package status

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/node/chain"
)

func TestStatusOfANetworkThatIsWell(t *testing.T) {
	s := Of(observed(4, 3))
	s.Conditions = nil
	want := v1alpha1.DiseqNetworkStatus{
		ObservedGeneration: 3, ChainID: "demo-0123abcd", GenesisHash: "ab", Height: 100,
		FinalizedTime: &metav1.Time{Time: now.Add(-time.Minute)},
		Threshold:     3, Validators: 4, ReadyValidators: 4, DisruptionsAllowed: 1, Selector: "diseq.io/network=demo",
		Tolerance: &v1alpha1.Tolerance{Crash: 1, Byzantine: 1, ByzantineWithSynchrony: 2}, LastObserved: &metav1.Time{Time: now},
	}
	for i, name := range []string{"demo-v0", "demo-v1", "demo-v2", "demo-v3"} {
		want.Members = append(want.Members, v1alpha1.Member{Name: name, PublicKey: chain.PublicKey{1, byte(i)}.String(),
			VolumeUID: name + "-volume", Phase: v1alpha1.MemberValidator, Height: 100, Ready: true})
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("status, -want +got:\n%s", diff)
	}
}

func TestStatusTellsOfTheSynchronyWait(t *testing.T) {
	s := Of(observed(4, 3, waits, of(deaf, 1)))
	if s.SynchronyDelta == nil || s.SynchronyDelta.Duration != 100*time.Millisecond || s.Tolerance.ByzantineWithSynchrony != 2 {
		t.Errorf("delta %v, tolerance %+v", s.SynchronyDelta, s.Tolerance)
	}
	if m := s.Members[1]; s.ReadyValidators != 3 || s.DisruptionsAllowed != 0 || m.Ready || m.Phase != v1alpha1.MemberValidator ||
		m.Reason != "abstains: it does not hear enough other validators within 100ms" {
		t.Errorf("%d ready, %d disruptions allowed, member %+v", s.ReadyValidators, s.DisruptionsAllowed, m)
	}
	if without := Of(observed(4, 3)); without.SynchronyDelta != nil {
		t.Errorf("without the wait its delta is %v", without.SynchronyDelta)
	}
}

func TestStatusBeforeTheGenesis(t *testing.T) {
	s := Of(observed(4, 3, nothing))
	if s.Tolerance != nil || s.Validators != 0 || s.Threshold != 0 || s.DisruptionsAllowed != 0 || s.FinalizedTime != nil || s.ChainID != "" {
		t.Errorf("%+v", s)
	}
	if len(s.Members) != 1 || s.Members[0].Phase != v1alpha1.MemberJoining {
		t.Errorf("members %+v", s.Members)
	}
}

func TestDisruptionsAllowed(t *testing.T) {
	for _, tt := range []struct {
		n, t  int
		lost  []int
		want  int32
		ready int32
	}{
		{4, 3, nil, 1, 4}, {4, 3, []int{1}, 0, 3}, {4, 3, []int{0, 1, 2}, 0, 1}, {7, 4, nil, 3, 7}, {4, 4, nil, 0, 4},
	} {
		s := Of(observed(tt.n, tt.t, of(gone, tt.lost...)))
		if s.DisruptionsAllowed != tt.want || s.ReadyValidators != tt.ready {
			t.Errorf("%d of %d without %v: %d allowed with %d ready, want %d with %d",
				tt.t, tt.n, tt.lost, s.DisruptionsAllowed, s.ReadyValidators, tt.want, tt.ready)
		}
	}
}

func TestMemberPhases(t *testing.T) {
	replaced := func(m *membership.Member) { m.Volume.UID = "another" }
	for _, tt := range []struct {
		name   string
		change func(*membership.Member)
		last   v1alpha1.MemberPhase
		want   v1alpha1.MemberPhase
		reason string
	}{
		{"votes", func(*membership.Member) {}, "", v1alpha1.MemberValidator, ""},
		{"votes again", func(*membership.Member) {}, v1alpha1.MemberRejoining, v1alpha1.MemberValidator, ""},
		{"is rejoining", rejoins, v1alpha1.MemberValidator, v1alpha1.MemberRejoining, "is rejoining and does not vote yet"},
		{"is silent", silent, v1alpha1.MemberValidator, v1alpha1.MemberValidator, "does not answer: no answer in time"},
		{"is silent while it was rejoining", silent, v1alpha1.MemberRejoining, v1alpha1.MemberRejoining, "does not answer: no answer in time"},
		{"is silent on a new volume", func(m *membership.Member) { silent(m); replaced(m) }, "", v1alpha1.MemberRejoining,
			"does not answer: no answer in time"},
		{"votes on a new volume", replaced, "", v1alpha1.MemberValidator, ""},
		{"is silent on the new volume on which it voted", func(m *membership.Member) { silent(m); replaced(m) }, v1alpha1.MemberValidator,
			v1alpha1.MemberValidator, "does not answer: no answer in time"},
		{"is to join", func(m *membership.Member) { m.PublicKey, m.Spent = chain.PublicKey{9}, false }, "", v1alpha1.MemberJoining,
			"has no vote store yet"},
		{"may join", joins, "", v1alpha1.MemberReady, "is not in the validator set"},
		{"has left", left, v1alpha1.MemberValidator, v1alpha1.MemberLeaving, "has left the validator set"},
		{"has left and is stopped", func(m *membership.Member) {
			left(m)
			m.Retired, m.Listed, m.StatefulSet = true, false, membership.StatefulSet{}
		}, v1alpha1.MemberLeaving, v1alpha1.MemberRetired, "has left the validator set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := observed(4, 3, of(tt.change, 1))
			o.Old.Members = []v1alpha1.Member{{Name: "demo-v1", Phase: tt.last, Height: 7}}
			m := Of(o).Members[1]
			if m.Phase != tt.want || m.Reason != tt.reason || m.Ready != (tt.reason == "") {
				t.Errorf("got %+v, want phase %s, reason %q", m, tt.want, tt.reason)
			}
			if silent := o.Network.Seen.Members[1].Answer == nil; silent && m.Height != 7 {
				t.Errorf("a silent node's height became %d", m.Height)
			}
		})
	}
}

func TestAMemberShowsTheSizeOfItsVolumeAndItsResizes(t *testing.T) {
	size := resource.MustParse("1Gi")
	status := Of(observed(4, 3, of(func(m *membership.Member) { m.Volume.Capacity = &size }, 1, 2), of(grows, 1), of(cannotGrow, 2), of(resized, 2)))
	for i, want := range []v1alpha1.Member{
		{}, {VolumeSize: &size, Resizes: []string{"its volume grows from 1Gi to 2Gi: the storage is growing"}},
		{VolumeSize: &size, Resizes: []string{"its volume grows from 1Gi to 2Gi and that failed: quota", "its pod is being resized"}}, {},
	} {
		if got := status.Members[i]; !equality.Semantic.DeepEqual(got.VolumeSize, want.VolumeSize) || !slices.Equal(got.Resizes, want.Resizes) {
			t.Errorf("%s: %v, %q", got.Name, got.VolumeSize, got.Resizes)
		}
	}
}

func TestHeightAndTimeOfTheLastBlock(t *testing.T) {
	old := metav1.NewTime(now.Add(-time.Hour))
	at := func(m *membership.Member) { m.Answer.FinalizedTimestamp = 0 }
	future := func(m *membership.Member) { m.Answer.FinalizedTimestamp = math.MaxUint64 }
	tomorrow := func(m *membership.Member) { m.Answer.FinalizedTimestamp = uint64(now.Add(24 * time.Hour).UnixMilli()) }
	for _, tt := range []struct {
		name   string
		seen   Observation
		height int64
		time   time.Time
	}{
		{"the first that saw it", observed(4, 3), 100, now.Add(-time.Minute)},
		{"nobody answers", observed(4, 3, of(silent, 0, 1, 2, 3)), 42, old.Time},
		{"all have just been started", observed(4, 3, of(at, 0, 1, 2, 3)), 100, old.Time},
		{"a clock is ahead", observed(4, 3, of(tomorrow, 0)), 100, now.Add(-time.Minute)},
		{"all clocks are ahead", observed(4, 3, of(tomorrow, 0, 1, 2, 3)), 100, now},
		{"absurd times are none", observed(4, 3, of(future, 0, 1, 2, 3)), 100, old.Time},
		{"a time long ago", observed(4, 3, of(func(m *membership.Member) { m.Answer.FinalizedTimestamp = 1 }, 0)), 100, now.Add(-time.Minute)},
		{"a liar", observed(4, 3, of(func(m *membership.Member) { m.Answer.Height = math.MaxUint64 }, 0)), 100, now.Add(-time.Minute)},
		{"a liar where none is tolerated", observed(3, 2, of(func(m *membership.Member) { m.Answer.Height = math.MaxUint64 }, 0)), 100,
			now.Add(-time.Minute)},
		{"the only one that answers", observed(4, 3, of(silent, 1, 2, 3)), 42, now.Add(-time.Minute)},
		{"all lie", observed(4, 3, of(func(m *membership.Member) { m.Answer.Height = math.MaxUint64 }, 0, 1, 2, 3)), math.MaxInt64,
			now.Add(-time.Minute)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.seen.Old.Height, tt.seen.Old.FinalizedTime = 42, &old
			s := Of(tt.seen)
			if s.Height != tt.height || !s.FinalizedTime.Time.Equal(tt.time) {
				t.Errorf("height %d at %s, want %d at %s", s.Height, s.FinalizedTime, tt.height, tt.time)
			}
		})
	}
}

// A false height that is in the status ends when all validators answer. Otherwise the height does
// not fall: the nodes that have reached it may be away.
func TestAFalseHeightDoesNotStayForEver(t *testing.T) {
	for _, tt := range []struct {
		name string
		seen Observation
		old  int64
		want int64
	}{
		{"all answer", observed(3, 2), math.MaxInt64, 100},
		{"all answer, and one lies still", observed(3, 2, of(func(m *membership.Member) { m.Answer.Height = math.MaxUint64 }, 0)), math.MaxInt64, 100},
		{"one is silent", observed(3, 2, of(silent, 0)), 1000, 1000},
		{"a little lower", observed(3, 2), 100 + membership.Slack, 100 + membership.Slack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.seen.Old.Height = tt.old
			if h := Of(tt.seen).Height; h != tt.want {
				t.Errorf("height %d, want %d", h, tt.want)
			}
		})
	}
}

func TestTransitionTimesStayUntilTheStatusChanges(t *testing.T) {
	first := Of(observed(4, 3))
	later := observed(4, 3, of(gone, 1))
	later.Now, later.Old = now.Add(time.Hour), first
	second := Of(later)
	for kind, want := range map[string]time.Time{
		// True/AllValidatorsReady, then True/ThresholdReady
		v1alpha1.ConditionAvailable:     now,
		v1alpha1.ConditionQuorumHealthy: now.Add(time.Hour), // True, then False
	} {
		c := meta.FindStatusCondition(second.Conditions, kind)
		if !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("%s changed at %s, want %s", kind, c.LastTransitionTime, want)
		}
	}
	if c := meta.FindStatusCondition(first.Conditions, v1alpha1.ConditionAvailable); c.Reason != AllValidatorsReady {
		t.Errorf("the old status was changed: %+v", c)
	}
}

func TestWhenAStatusIsWritten(t *testing.T) {
	old := Of(observed(4, 3))
	seen := func(changes ...func(*Observation)) v1alpha1.DiseqNetworkStatus {
		o := observed(4, 3, changes...)
		o.Old = old
		return Of(o)
	}
	higher := func(m *membership.Member) { m.Answer.Height += 1000 }
	newer := func(m *membership.Member) { m.Answer.Height++; m.Answer.FinalizedTimestamp += 30_000 }
	catchingUp := func(height uint64) func(m *membership.Member) {
		return func(m *membership.Member) { m.Answer.Height = height }
	}
	all := []int{0, 1, 2, 3}
	never := *old.DeepCopy()
	never.LastObserved = nil
	idle := seen(of(catchingUp(0), all...))
	idle.Height = 0
	for _, tt := range []struct {
		name        string
		old, wanted v1alpha1.DiseqNetworkStatus
		last        time.Duration // since the last write, by the old status
		due         bool
		in          time.Duration
	}{
		{"nothing changed", old, seen(), 59 * time.Second, false, time.Second},
		{"nothing changed, seen later", old, seen(func(o *Observation) { o.Now = now.Add(time.Hour) }), 20 * time.Second, false, 40 * time.Second},
		{"nothing changed for a minute", old, seen(), time.Minute, true, 0},
		{"higher, just written", old, seen(of(higher, all...)), 0, false, 7 * time.Second},
		{"higher, written before", old, seen(of(higher, all...)), 5 * time.Second, false, 2 * time.Second},
		{"higher, written a while ago", old, seen(of(higher, all...)), 7 * time.Second, true, 0},
		{"a new block", old, seen(of(newer, all...)), 3 * time.Second, false, 4 * time.Second},
		{"higher, and the last write is not known", never, seen(of(higher, all...)), 0, true, 0},
		{"higher, and the last write lies in the future", old, seen(of(higher, all...)), -time.Hour, true, 0},
		{"the first block", idle, seen(), 0, true, 0},
		{"one is lost", old, seen(of(gone, 1)), 0, true, 0},
		{"the generation", old, seen(func(o *Observation) { o.Generation++ }), 0, true, 0},
		{"a reason", old, seen(paused), 0, true, 0},
		{"another one is lost", seen(of(gone, 1)), seen(of(gone, 2)), 0, true, 0},
		{"one catches up", seen(of(catchingUp(50), 1)), seen(of(catchingUp(70), 1)), 0, false, time.Minute},
		{"one has caught up", seen(of(catchingUp(50), 1)), seen(of(catchingUp(90), 1)), 0, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.old = *tt.old.DeepCopy()
			if tt.old.LastObserved != nil {
				tt.old.LastObserved = &metav1.Time{Time: now.Add(-tt.last)}
			}
			due, in := WriteDue(tt.old, tt.wanted, now)
			if due != tt.due || in != tt.in {
				t.Errorf("due %v in %s, want %v in %s", due, in, tt.due, tt.in)
			}
		})
	}
}

// Under traffic, with a reconcile every second, there is one write in seven seconds; without, one a
// minute.
//
// Promise 64.
func TestWritesUnderTraffic(t *testing.T) {
	for traffic, want := range map[int]int{0: 9, 1: 85} {
		written, writes := Of(observed(4, 3)), 0
		for second := range 600 {
			o := observed(4, 3, of(func(m *membership.Member) {
				m.Answer.Height += uint64(50 * second * traffic)
				m.Answer.FinalizedTimestamp += uint64(1000 * second * traffic)
			}, 0, 1, 2, 3))
			o.Now, o.Old = now.Add(time.Duration(second)*time.Second), written
			wanted := Of(o)
			if due, _ := WriteDue(written, wanted, o.Now); due {
				written = wanted
				writes++
			}
		}
		if writes != want {
			t.Errorf("traffic %d: %d writes in ten minutes, want %d", traffic, writes, want)
		}
	}
}

func TestAProblemReadsAsAnError(t *testing.T) {
	if got := (&Problem{Reason: NameConflict, Message: "Service demo is not ours"}).Error(); got != "NameConflict: Service demo is not ours" {
		t.Error(got)
	}
}
