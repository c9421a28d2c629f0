package membership

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

func TestWhoCountsForAQuorum(t *testing.T) {
	for _, tt := range []struct {
		name           string
		change         func(*Member)
		back, caughtUp bool
		why            string
	}{
		{"well", func(*Member) {}, true, true, ""},
		{"no pod", gone, false, false, "has no pod"},
		{"stopping", stopping, false, false, "is stopping"},
		{"not ready", down, false, false, "is not ready"},
		{"waiting", waiting("ImagePullBackOff"), false, false, "does not run: ImagePullBackOff"},
		{"silent", silent, false, false, "does not answer: no answer in time"},
		{"not asked", func(m *Member) { m.Answer = nil }, false, false, "does not answer"},
		{"as far behind as a node may be", at(90), true, true, ""},
		{"behind", at(89), false, false, "is 11 blocks behind"},
		{"ahead", at(1000), true, true, ""},
		{"not ready and says why", notReady("the state is 70 heights behind the blocks"), false, false,
			"is not ready: the state is 70 heights behind the blocks"},
		{"its node is not ready and its pod is still", func(m *Member) { m.Answer.Ready = false }, false, false, "is not ready"},
		{"its node is ready and its pod is not yet", func(m *Member) { m.Pod.Ready = false }, false, false, "is not ready"},
		{"rejoining", role(nodeclient.RoleRejoining), true, false, "is rejoining and does not vote yet"},
		{"observer", role(nodeclient.RoleObserver), true, false, "does not vote: its role is observer"},
		{"not in the set", func(m *Member) { m.PublicKey, m.Spent, m.VoteStore = chain.PublicKey{9}, false, false }, true, false, "has no vote store yet"},
		{"no longer in the set", func(m *Member) { m.PublicKey = chain.PublicKey{9} }, true, false, "has left the validator set"},
		{"no key yet", func(m *Member) { m.PublicKey, m.Spent, m.VoteStore = chain.PublicKey{}, false, false }, true, false, "has no vote store yet"},
		{"the key of another one", func(m *Member) { m.PublicKey = chain.PublicKey{1, 0} }, true, false, "has the key of another validator"},
		{"outdated", func(m *Member) { m.Pod.Outdated = true }, true, true, ""},
		{"deaf", deaf, true, false, "abstains: it does not hear enough other validators within 100ms"},
		{"deaf and rejoining", func(m *Member) { deaf(m); role(nodeclient.RoleRejoining)(m) }, true, false, "is rejoining and does not vote yet"},
		{"deaf and behind", func(m *Member) { deaf(m); at(89)(m) }, false, false, "is 11 blocks behind"},
		{"not settled", unsettled, true, false, "abstains until it has heard enough other validators within 100ms for a while"},
		{"does not tell of the wait", func(m *Member) { m.Answer.Synchrony = nil }, true, false,
			"does not report its synchrony state (is it an older version?)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			net := healthy(4, 3, waits(100*time.Millisecond), of(tt.change, 1))
			s := net.Standings()[1]
			if up := net.Standings().Up(); (up == 4) != (s.CaughtUp || s.Abstains) || s.Abstains && (!s.Back || s.CaughtUp) {
				t.Errorf("%d are up, and it abstains: %v", up, s.Abstains)
			}
			if s.Back != tt.back || s.CaughtUp != tt.caughtUp || s.Why != tt.why {
				t.Errorf("back %v, caught up %v, %q; want %v, %v, %q", s.Back, s.CaughtUp, s.Why, tt.back, tt.caughtUp, tt.why)
			}
		})
	}
}

// As many validators as may lie, with the chain safe and live, cannot make others look behind, nor
// can a single one where none may lie; nor can observers.
func TestTheHeightThatMembersAreMeasuredBy(t *testing.T) {
	const absurd = 1<<64 - 1
	for _, tt := range []struct {
		n, t, liars int
		delta       time.Duration
		want        uint64
	}{
		{4, 3, 0, 0, 100}, {4, 3, 1, 0, 100}, {4, 3, 2, 0, absurd}, // tolerates 1
		{3, 2, 0, 0, 100}, {3, 2, 1, 0, 100}, {3, 2, 2, 0, absurd}, // tolerates none: a majority of 3
		{5, 3, 1, 0, 100}, {5, 3, 2, 0, absurd},
		{5, 3, 2, time.Second, 100}, {5, 3, 3, time.Second, absurd}, // the synchrony wait tolerates t - 1, and 2 may be down
		{7, 5, 2, 0, 100}, {7, 5, 3, 0, absurd},
		{4, 4, 1, 0, 100}, {2, 2, 1, 0, 100},
		{1, 1, 1, 0, absurd}, // there is nobody else
	} {
		t.Run(fmt.Sprintf("%d liars in %d of %d, Delta %v", tt.liars, tt.t, tt.n, tt.delta), func(t *testing.T) {
			net := healthy(tt.n, tt.t, waits(tt.delta))
			for i := range tt.liars {
				net.Members[i].Answer.Height = absurd
			}
			observer := well(50)
			observer.Answer.Height = absurd
			net.Members = append(net.Members, observer)
			if h := net.Height(); h != tt.want {
				t.Errorf("height %d, want %d", h, tt.want)
			}
		})
	}
	if h := (Network{}).Height(); h != 0 {
		t.Errorf("height %d of nothing", h)
	}
}

// A height counts as reached if more validators claim it than may lie.
func TestAHeightIsReachedByTheWordOfMoreThanMayLie(t *testing.T) {
	for _, tt := range []struct {
		n, t, silent int
		height       uint64
		reached, all bool
	}{
		{4, 3, 0, 100, true, true}, {4, 3, 2, 100, true, false}, {4, 3, 3, 100, false, false},
		{3, 2, 1, 100, true, false}, {3, 2, 2, 100, false, false},
		{1, 1, 0, 100, true, true}, {1, 1, 1, 0, false, false},
	} {
		net := healthy(tt.n, tt.t)
		for i := range tt.silent {
			silent(&net.Members[i])
		}
		if h, reached := net.Reached(); h != tt.height || reached != tt.reached || net.AllAnswer() != tt.all {
			t.Errorf("%d of %d are silent: height %d, reached %v, all answer %v, want %+v", tt.silent, tt.n, h, reached, net.AllAnswer(), tt)
		}
	}
}

// Where the chain withstands no liar, one does not stop the updates of the others either.
//
// Promise 60.
func TestALiarWhereNoneIsToleratedHoldsNobodyUp(t *testing.T) {
	net := healthy(3, 2)
	net.Members[0].Answer.Height = 1 << 62
	for _, s := range net.Standings() {
		if !s.CaughtUp {
			t.Errorf("%s %s", s.Name, s.Why)
		}
	}
}

func TestStandingsAreBySerialNumber(t *testing.T) {
	standings := reversed(healthy(12, 7)).Standings()
	for i, s := range standings {
		if s.Serial != i {
			t.Fatalf("%s is number %d", s.Name, i)
		}
	}
}

func TestMissingNamesAFew(t *testing.T) {
	s := healthy(9, 5, of(gone, 1, 2, 3, 4, 5, 6, 7)).Standings()
	if got := s.Missing("demo-v1"); !strings.HasPrefix(got, "demo-v2 has no pod, demo-v3") || !strings.HasSuffix(got, "demo-v6 has no pod, and 1 more") {
		t.Error(got)
	}
	if got := healthy(4, 3).Standings().Missing(""); got != "" {
		t.Error(got)
	}
}

func TestObservePod(t *testing.T) {
	created := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	later := metav1.NewTime(created.Add(time.Hour))
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "demo-v0-0", UID: "u", CreationTimestamp: created}}
		change(p)
		return p
	}
	container := func(state corev1.ContainerState, last *corev1.ContainerStateTerminated) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{State: state, LastTerminationState: corev1.ContainerState{Terminated: last}}}
	}
	waits := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want Pod
	}{
		{"just made", pod(func(*corev1.Pod) {}), Pod{Since: created.Time}},
		{"ready", pod(func(p *corev1.Pod) {
			p.Spec.NodeName = "worker"
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: later}}
			p.Labels = map[string]string{"topology.kubernetes.io/zone": "a"}
		}), Pod{Ready: true, Scheduled: true, Machine: "worker", Zone: "a", Fresh: true}},
		{"ready for a while", pod(func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(later.Add(-4 * time.Second))}}
		}), Pod{Ready: true}},
		{"no longer ready", pod(func(p *corev1.Pod) {
			p.Spec.NodeName = "worker"
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: later}}
		}), Pod{Scheduled: true, Machine: "worker", Since: later.Time}},
		{"stopping", pod(func(p *corev1.Pod) { p.DeletionTimestamp = &later }), Pod{Terminating: true, Since: created.Time}},
		{"unschedulable", pod(func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/3 nodes are available"}}
		}), Pod{Waiting: "Unschedulable", Message: "0/3 nodes are available", Since: created.Time}},
		{"on its way", pod(func(p *corev1.Pod) { p.Status.ContainerStatuses = container(waits("ContainerCreating", ""), nil) }),
			Pod{Since: created.Time}},
		{"a wrong image", pod(func(p *corev1.Pod) { p.Status.ContainerStatuses = container(waits("ErrImagePull", "not found"), nil) }),
			Pod{Waiting: "ErrImagePull", Message: "not found", Since: created.Time}},
		{"a wrong image of an init container", pod(func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = container(waits("ImagePullBackOff", "not found"), nil)
			p.Status.ContainerStatuses = container(waits("PodInitializing", ""), nil)
		}), Pod{Waiting: "ImagePullBackOff", Message: "not found", Since: created.Time}},
		{"it ends again and again", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(waits("CrashLoopBackOff", "back-off 5m0s"),
				&corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"})
		}), Pod{Waiting: "CrashLoopBackOff", Message: "OOMKilled, exit code 137: the container needed more than its memory limit", Since: created.Time}},
		{"it ends and says why", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(waits("CrashLoopBackOff", "back-off 5m0s"),
				&corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "genesis: no such file\n"})
		}), Pod{Waiting: "CrashLoopBackOff", Message: "Error, exit code 1: genesis: no such file", Since: created.Time}},
		{"it writes more than a line", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(waits("CrashLoopBackOff", "back-off 5m0s"),
				&corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "{\"msg\":\"node starts\"}\ndiseq node: \x1b[31mpeers: no such file\n"})
		}), Pod{Waiting: "CrashLoopBackOff", Message: "Error, exit code 1: diseq node: [31mpeers: no such file", Since: created.Time}},
		{"Kubernetes says it in lines", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(waits("CreateContainerError", "no space\n\tleft\n"), nil)
		}), Pod{Waiting: "CreateContainerError", Message: "no space left", Since: created.Time}},
		{"it has just been started once more", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				&corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"})
			p.Status.ContainerStatuses[0].RestartCount = 3
		}), Pod{Waiting: "CrashLoopBackOff", Message: "Error, exit code 1", Since: created.Time}},
		{"it ends at once, and has been started for the third time", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				&corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", StartedAt: metav1.NewTime(later.Add(-time.Minute)), FinishedAt: later})
			p.Status.ContainerStatuses[0].RestartCount = 2
		}), Pod{Waiting: "CrashLoopBackOff", Message: "Error, exit code 1", Since: created.Time}},
		{"it ran for long, and has been started for the third time", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				&corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", StartedAt: created, FinishedAt: later})
			p.Status.ContainerStatuses[0].RestartCount = 2
		}), Pod{Since: created.Time}},
		{"it was killed once", pod(func(p *corev1.Pod) {
			p.Status.ContainerStatuses = container(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				&corev1.ContainerStateTerminated{ExitCode: 137, Reason: "Error"})
			p.Status.ContainerStatuses[0].RestartCount = 1
		}), Pod{Since: created.Time}},
		{"evicted", pod(func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "the node was low on memory"
		}), Pod{Waiting: "Evicted", Message: "the node was low on memory", Since: created.Time}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			want.Name, want.UID, want.Outdated = "demo-v0-0", "u", true
			if got := (Set{}).ObservePod(tt.pod, true, later.Add(time.Second)); *got != want {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

// A validator that has just been started does not vote for 2 Delta: it is fresh for longer than
// that.
//
// Promise 60.
func TestSettlingOutlastsTheSynchronyWait(t *testing.T) {
	ready := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: ready},
	}}}
	for delta, least := range map[time.Duration]time.Duration{0: 4 * time.Second, 100 * time.Millisecond: 4 * time.Second, time.Minute: 2 * time.Minute} {
		set := Set{Delta: delta}
		if !set.ObservePod(pod, false, ready.Add(least)).Fresh {
			t.Errorf("with Delta %v it is not fresh any more after %v", delta, least)
		}
		if set.ObservePod(pod, false, ready.Add(least+7*time.Second)).Fresh {
			t.Errorf("with Delta %v it is fresh still after %v", delta, least+7*time.Second)
		}
	}
}
