package membership

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// healthy returns a network of n caught-up validators at height 100, all of whose pods are up to
// date.
func healthy(n, t int, changes ...func(*Network)) Network {
	net := Network{Name: "demo", Chain: true, Validators: n, Threshold: t, Set: Set{Threshold: t}, NextSerial: n, Budget: t}
	for i := range n {
		m := well(i)
		net.Set.Validators = append(net.Set.Validators, chain.NamedValidator{Name: m.Name, Validator: m.Validator})
		net.Members = append(net.Members, m)
	}
	for _, change := range changes {
		change(&net)
	}
	return net
}

// well is a caught-up validator at height 100.
func well(i int) Member {
	name := fmt.Sprintf("demo-v%d", i)
	volume := types.UID(name + "-volume")
	return Member{
		Name: name, Serial: i, Validator: chain.Validator{PublicKey: chain.PublicKey{1, byte(i)}, VRFKey: chain.VRFKey{31: byte(i + 1)}},
		Secret: true, Listed: true, Spent: true, VoteStore: true,
		Volume:      Volume{Exists: true, UID: volume, FirstUID: volume},
		StatefulSet: StatefulSet{Exists: true, UID: types.UID(name + "-set")},
		Pod:         &Pod{Name: name + "-0", UID: types.UID(name + "-pod"), Ready: true, Scheduled: true},
		Answer: &nodeclient.Status{Role: nodeclient.RoleValidator, Ready: true, Height: 100,
			Synchrony: &nodeclient.Synchrony{DeltaMS: 100, Healthy: true, Settled: true}},
	}
}

// of changes the members with the serial numbers.
func of(change func(*Member), serials ...int) func(*Network) {
	return func(n *Network) {
		for i := range n.Members {
			if slices.Contains(serials, n.Members[i].Serial) {
				change(&n.Members[i])
			}
		}
	}
}

func outdated(serials ...int) func(*Network) {
	return of(func(m *Member) { m.Pod.Outdated = true }, serials...)
}

// asked are validators whose restart is asked for.
func asked(serials ...int) func(*Network) {
	return of(func(m *Member) { m.Pod.Outdated, m.Pod.Asked = true, true }, serials...)
}

func down(m *Member) { m.Pod.Ready, m.Answer = false, nil }

func waiting(why string) func(*Member) {
	return func(m *Member) { down(m); m.Pod.Waiting = why }
}

// waits gives the network the synchrony wait.
func waits(delta time.Duration) func(*Network) { return func(n *Network) { n.Set.Delta = delta } }

func deaf(m *Member) { m.Answer.Synchrony = &nodeclient.Synchrony{DeltaMS: 100} }

func unsettled(m *Member) { m.Answer.Synchrony = &nodeclient.Synchrony{DeltaMS: 100, Healthy: true} }

func fresh(m *Member) { m.Pod.Fresh = true }

func gone(m *Member) { m.Pod, m.Answer = nil, nil }

func stopping(m *Member) { m.Pod.Terminating = true }

func silent(m *Member) { m.Answer, m.Silence = nil, errors.New("no answer in time") }

func at(height uint64) func(*Member) { return func(m *Member) { m.Answer.Height = height } }

func role(role string) func(*Member) { return func(m *Member) { m.Answer.Role = role } }

func notReady(reason string) func(*Member) {
	return func(m *Member) { m.Pod.Ready, m.Answer.Ready, m.Answer.Reason = false, false, reason }
}

// full is a validator that votes and has no room for messages.
func full(m *Member) {
	notReady("storage is low")(m)
	m.Answer.CaughtUp, m.Answer.StorageLow = true, true
}

func unobserved(m *Member) { m.StatefulSet.Unobserved = true }

func leaving(m *Member) { m.Volume.Terminating = true }

func allowDowntime(n *Network) { n.AllowDowntime = true }

func paused(n *Network) { n.Paused = true }

// hibernates is a network that is to be hibernated, with nodes that have stopped.
func hibernates(n *Network) {
	n.Hibernated = true
	for i := range n.Members {
		gone(&n.Members[i])
	}
}

func TestPlanPods(t *testing.T) {
	all := []int{0, 1, 2, 3}
	for _, tt := range []struct {
		name    string
		network Network
		want    Action
		victims []string
		message string
	}{
		{name: "nothing is outdated", network: healthy(4, 3), want: None},
		{name: "nothing is outdated and nobody is well", network: healthy(4, 3, of(waiting("CrashLoopBackOff"), all...)), want: None},
		{name: "there is no chain yet", network: healthy(4, 3, outdated(all...), func(n *Network) { n.Chain, n.Set = false, Set{} }), want: None},
		{name: "all are outdated: the lowest serial goes first", network: healthy(4, 3, outdated(all...)),
			want: Restart, victims: []string{"demo-v0"}, message: "restarting demo-v0, which leaves 3 voting (threshold 3)"},
		{name: "a restart is asked for", network: healthy(4, 3, asked(2)), want: Restart, victims: []string{"demo-v2"},
			message: "restarting demo-v2 as asked, which leaves 3 voting (threshold 3)"},
		{name: "a restart of a broken pod is asked for", network: healthy(4, 3, asked(1, 2), of(waiting("CrashLoopBackOff"), 1)),
			want: Replace, victims: []string{"demo-v1"}, message: "replacing demo-v1: not ready, and a restart is asked for"},
		{name: "a restart is asked for that the quorum forbids", network: healthy(4, 3, asked(2), of(at(86), 1)),
			want: WaitForMember, message: "restarting demo-v2 would leave 2 voting (threshold 3): demo-v1 is 14 blocks behind"},
		{name: "a restart is asked for and every restart stops the network", network: healthy(4, 4, asked(2)), want: WaitForDowntime},
		{name: "one is left", network: healthy(4, 3, outdated(3)), want: Restart, victims: []string{"demo-v3"}},
		{name: "paused", network: healthy(4, 3, outdated(1, 2), paused), want: Pause, message: "paused with 2 of 4 pods outdated"},

		{name: "hibernated: all pods are stopping", network: healthy(4, 3, outdated(1, 2), of(down, 1), func(n *Network) { n.Hibernated = true }), want: None},

		// I6: what takes no vote away is replaced at once.
		{name: "a wrong image is repaired", network: healthy(4, 3, outdated(1), of(waiting("ImagePullBackOff"), 1)),
			want: Replace, victims: []string{"demo-v1"}, message: "replacing demo-v1: not ready, with an outdated template"},
		{name: "a wrong image everywhere is repaired without a quorum",
			network: healthy(4, 3, outdated(all...), of(waiting("ImagePullBackOff"), all...)),
			want:    Replace, victims: []string{"demo-v0", "demo-v1", "demo-v2", "demo-v3"}},
		{name: "a wrong image is repaired although t = n", network: healthy(4, 4, outdated(1), of(waiting("CrashLoopBackOff"), 1)),
			want: Replace, victims: []string{"demo-v1"}},
		{name: "a broken pod goes before those that are well", network: healthy(4, 3, outdated(all...), of(down, 2)),
			want: Replace, victims: []string{"demo-v2"}},
		{name: "a pod that the cache shows as not ready, though its node says that it is", want: WaitForQuorum,
			network: healthy(4, 3, outdated(all...), of(func(m *Member) { m.Pod.Ready = false }, 1), of(silent, 3)),
			message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v1 is not ready, demo-v3 does not answer"},
		{name: "a broken pod that is stopping already", network: healthy(4, 3, outdated(1), of(down, 1), of(stopping, 1)), want: None},
		{name: "a broken pod that is up to date is left to Kubernetes", network: healthy(4, 3, of(waiting("CrashLoopBackOff"), 1)), want: None},
		{name: "a broken pod whose StatefulSet has the old template still",
			network: healthy(4, 3, outdated(1), of(waiting("CrashLoopBackOff"), 1), of(unobserved, 1)),
			want:    WaitForMember, message: "the StatefulSet of demo-v1 does not have the new template yet"},

		// I6: no self-inflicted loss of quorum.
		{name: "the example of the design", network: healthy(4, 3, outdated(2), of(at(86), 1)),
			want: WaitForMember, message: "restarting demo-v2 would leave 2 voting (threshold 3): demo-v1 is 14 blocks behind"},
		{name: "two are outdated and one of them is behind: it takes no vote away", network: healthy(4, 3, outdated(1, 2), of(at(86), 2)),
			want: Restart, victims: []string{"demo-v2"}},
		{name: "two are behind", network: healthy(4, 3, outdated(1, 2), of(at(86), 2), of(at(80), 1)),
			want: WaitForQuorum, message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v1 is 20 blocks behind, demo-v2 is 14 blocks behind"},
		{name: "a node within the slack counts", network: healthy(4, 3, outdated(2), of(at(90), 1)), want: Restart, victims: []string{"demo-v2"}},
		{name: "a silent node does not count", network: healthy(4, 3, outdated(0, 1), of(silent, 1)), want: Restart, victims: []string{"demo-v1"}},
		{name: "two silent nodes", network: healthy(4, 3, outdated(0, 1, 2), of(silent, 1, 2)), want: WaitForQuorum,
			message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v1 does not answer: no answer in time, " +
				"demo-v2 does not answer: no answer in time"},
		{name: "a node that judges itself not ready does not count, whatever its pod says", network: healthy(4, 3, outdated(0, 1, 2, 3),
			of(func(m *Member) { m.Answer.Ready, m.Answer.Reason = false, "just started" }, 1, 2)), want: WaitForQuorum,
			message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v1 is not ready: just started, demo-v2 is not ready: just started"},
		{name: "one liar does not make the others look behind", network: healthy(4, 3, outdated(all...), of(at(1<<63), 3)),
			want: Restart, victims: []string{"demo-v0"}},
		{name: "one key is one vote", network: healthy(4, 3, outdated(all...), of(func(m *Member) { m.PublicKey = chain.PublicKey{1, 0} }, 1)),
			want: Restart, victims: []string{"demo-v1"}},

		// One at a time.
		{name: "the restarted pod is gone", network: healthy(7, 4, outdated(1, 2), of(gone, 0)), want: WaitForMember,
			message: "restarting demo-v1 waits for demo-v0, which has no pod"},
		{name: "the restarted pod is stopping still", network: healthy(7, 4, outdated(0, 1), of(stopping, 0)), want: WaitForMember,
			message: "restarting demo-v1 waits for demo-v0, which is stopping"},
		{name: "the restarted pod is not ready yet", network: healthy(7, 4, outdated(1), of(notReady("catching up: 40 heights behind"), 0)),
			want: WaitForMember, message: "restarting demo-v1 waits for demo-v0, which is not ready: catching up: 40 heights behind"},
		{name: "the restarted pod has only just become ready", network: healthy(7, 4, outdated(1), of(fresh, 0)),
			want: WaitForMember, message: "restarting demo-v1 waits for demo-v0, which has been ready for less than 5s"},
		{name: "a new network has nothing to wait for", network: healthy(4, 3, outdated(all...), of(fresh, all...)),
			want: Restart, victims: []string{"demo-v0"}},
		{name: "a bad image costs one validator, not n - t", network: healthy(7, 4, outdated(1, 2, 3, 4, 5, 6), of(waiting("ImagePullBackOff"), 0)),
			want: Stuck, message: "restarting demo-v1 waits for demo-v0, which does not run: ImagePullBackOff"},
		{name: "a bad image without a spare", network: healthy(4, 3, outdated(1, 2, 3), of(waiting("CrashLoopBackOff"), 0)),
			want: Stuck, message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v0 does not run: CrashLoopBackOff"},
		{name: "the StatefulSet of the first is late: the next one goes", network: healthy(4, 3, outdated(0, 1), of(unobserved, 0)),
			want: Restart, victims: []string{"demo-v1"}},
		{name: "all StatefulSets are late", network: healthy(4, 3, outdated(0), of(unobserved, 0)),
			want: WaitForMember, message: "the StatefulSet of demo-v0 does not have the new template yet"},

		// The synchrony wait: a validator that abstains does not vote, however ready it is.
		{name: "all take part in the synchrony wait", network: healthy(4, 3, waits(time.Second), outdated(all...)),
			want: Restart, victims: []string{"demo-v0"}},
		{name: "one does not hear the others in time", network: healthy(4, 3, waits(time.Second), outdated(0, 1, 2), of(deaf, 3)),
			want: WaitForMember, message: "restarting demo-v0 would leave 2 voting (threshold 3): " +
				"demo-v3 abstains: it does not hear enough other validators within 1s"},
		{name: "one has not heard the others for long enough", network: healthy(4, 3, waits(time.Second), outdated(0, 1, 2), of(unsettled, 3)),
			want: WaitForMember, message: "restarting demo-v0 would leave 2 voting (threshold 3): " +
				"demo-v3 abstains until it has heard enough other validators within 1s for a while"},
		{name: "one does not tell", want: WaitForMember,
			network: healthy(4, 3, waits(time.Second), outdated(0, 1, 2), of(func(m *Member) { m.Answer.Synchrony = nil }, 3))},
		{name: "the restarted one does not vote yet, and others enough do", network: healthy(7, 4, waits(time.Second), outdated(1), of(unsettled, 0)),
			want: WaitForMember, message: "restarting demo-v1 waits for demo-v0, which abstains until it has heard enough other validators within 1s for a while"},
		{name: "two abstain", network: healthy(4, 3, waits(time.Second), outdated(all...), of(deaf, 1, 3)), want: WaitForQuorum,
			message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v1 abstains: it does not hear enough other validators within 1s, " +
				"demo-v3 abstains"},
		{name: "who abstains and is outdated takes no vote away", network: healthy(4, 3, waits(time.Second), outdated(0, 3), of(deaf, 3)),
			want: Restart, victims: []string{"demo-v3"}},
		{name: "the restarted one has been ready for longer than without the wait", network: healthy(7, 4, waits(time.Minute), outdated(1), of(fresh, 0)),
			want: WaitForMember, message: "restarting demo-v1 waits for demo-v0, which has been ready for less than 2m5s"},
		{name: "downtime is allowed, and the restarted one has only just become ready", want: WaitForMember,
			network: healthy(4, 4, waits(time.Minute), outdated(1, 2, 3), allowDowntime, of(fresh, 0)),
			message: "restarting demo-v1 would leave 3 voting (threshold 4); demo-v0 has been ready for less than 2m5s"},
		{name: "the restarted one has only just become ready, and another one is gone", want: WaitForMember,
			network: healthy(4, 3, waits(time.Minute), outdated(1, 2), of(fresh, 0), of(gone, 3)),
			message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v3 has no pod; demo-v0 has been ready for less than 2m5s"},
		{name: "downtime is allowed to those who abstain", want: Restart, victims: []string{"demo-v1"},
			network: healthy(4, 3, waits(time.Second), outdated(1, 2, 3), allowDowntime, of(deaf, 0))},
		{name: "without the wait nobody abstains", network: healthy(4, 3, outdated(all...), of(deaf, 3)), want: Restart, victims: []string{"demo-v0"}},

		// I9: a lost volume.
		{name: "a node without room for messages votes: it is not replaced as one that does not", network: healthy(4, 3, outdated(1), of(full, 1), of(gone, 0)),
			want: WaitForMember, message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v0 has no pod"},
		{name: "a node without room for messages holds nothing up", network: healthy(4, 3, outdated(1), of(full, 0)), want: Restart, victims: []string{"demo-v1"}},
		{name: "a rejoining node does not count", network: healthy(4, 3, outdated(1), of(role(nodeclient.RoleRejoining), 0)),
			want: WaitForQuorum, message: "restarting demo-v1 would leave 2 voting (threshold 3): demo-v0 is rejoining and does not vote yet"},
		{name: "a rejoining node holds nothing up that goes without it", network: healthy(5, 3, outdated(1), of(role(nodeclient.RoleRejoining), 0)),
			want: Restart, victims: []string{"demo-v1"}},
		{name: "a rejoining node may be restarted", network: healthy(4, 3, outdated(0), of(role(nodeclient.RoleRejoining), 0)),
			want: Restart, victims: []string{"demo-v0"}},
		{name: "a volume that is being deleted is kept as long as its pod runs", network: healthy(4, 3, outdated(0), of(leaving, 0)),
			want: Stuck, message: "restarting demo-v0 would lose its volume, which is being deleted"},
		{name: "the others go before", network: healthy(4, 3, outdated(0, 1), of(leaving, 0)), want: Restart, victims: []string{"demo-v1"}},

		// t = n.
		{name: "t = n", network: healthy(4, 4, outdated(all...)), want: WaitForDowntime,
			message: "restarting demo-v0 would leave 3 voting (threshold 4): every restart stops this network, " +
				"allow it with the annotation diseq.io/allow-downtime=true"},
		{name: "a single validator", network: healthy(1, 1, outdated(0)), want: WaitForDowntime},
		{name: "t = n and downtime is allowed", network: healthy(4, 4, outdated(all...), allowDowntime), want: Restart,
			victims: []string{"demo-v0"}, message: "restarting demo-v0, which leaves 3 voting (threshold 4): downtime is allowed"},
		{name: "downtime is allowed, one at a time", network: healthy(4, 4, outdated(1, 2, 3), allowDowntime, of(gone, 0)),
			want: WaitForMember, message: "restarting demo-v1 would leave 2 voting (threshold 4): demo-v0 has no pod"},
		{name: "downtime is allowed, and a bad image", network: healthy(4, 4, outdated(1, 2, 3), allowDowntime, of(waiting("CrashLoopBackOff"), 0)),
			want: Stuck},
		{name: "downtime is allowed between versions that do not understand each other", want: Restart, victims: []string{"demo-v1"},
			network: healthy(4, 3, outdated(1, 2, 3), allowDowntime, of(notReady("just started: asking the peers how far they are"), 0))},
		{name: "downtime is allowed under lost quorum", want: Restart, victims: []string{"demo-v2"},
			network: healthy(4, 3, outdated(2, 3), allowDowntime, of(notReady("x"), 0, 1))},

		// I8: lost quorum.
		{name: "lost quorum: what is well stays", network: healthy(4, 3, outdated(0, 1), of(gone, 2), of(waiting("CrashLoopBackOff"), 3)),
			want: WaitForMember, message: "restarting demo-v0 would leave 1 voting (threshold 3): demo-v2 has no pod, " +
				"demo-v3 does not run: CrashLoopBackOff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := PlanPods(tt.network)
			var victims []string
			for _, v := range d.Victims {
				victims = append(victims, v.Member)
			}
			if d.Action != tt.want || !slices.Equal(victims, tt.victims) {
				t.Errorf("got %s %v (%s), want %s %v", d.Action, victims, d.Message, tt.want, tt.victims)
			}
			if !strings.HasPrefix(d.Message, tt.message) {
				t.Errorf("message %q, want %q", d.Message, tt.message)
			}
			if (d.Message == "") != (d.Action == None) {
				t.Errorf("%s with message %q", d.Action, d.Message)
			}
			if again := PlanPods(reversed(tt.network)); !cmp.Equal(again, d) {
				t.Errorf("the order of the members changes the decision:\n%s", cmp.Diff(d, again))
			}
		})
	}
}

func reversed(n Network) Network {
	n.Members = slices.Clone(n.Members)
	slices.Reverse(n.Members)
	return n
}

// Promise 63.
func TestVictimsAreNamedByPodAndUID(t *testing.T) {
	d := PlanPods(healthy(4, 3, outdated(2)))
	want := []Victim{{Member: "demo-v2", Pod: "demo-v2-0", UID: "demo-v2-pod"}}
	if !slices.Equal(d.Victims, want) {
		t.Errorf("got %+v, want %+v", d.Victims, want)
	}
}
