package membership

import (
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

// wants asks for another set.
func wants(n, t int) func(*Network) {
	return func(net *Network) { net.Validators, net.Threshold = n, t }
}

// newcomer is a validator that is not in the set and may be named in a target.
func newcomer(i int) Member {
	m := well(i)
	m.Spent, m.Steady = false, true
	m.Pod.Ready, m.Pod.Since = false, time.Unix(1, 0)
	m.Answer.Role, m.Answer.Ready, m.Answer.CaughtUp, m.Answer.Reason = nodeclient.RoleObserver, false, true, "is not in the validator set"
	m.Answer.VoteStore, m.Answer.VotesFromHeight = true, new(uint64(1))
	return m
}

// newcomers adds those with the next k serial numbers.
func newcomers(k int, changes ...func(*Member)) func(*Network) {
	return func(n *Network) {
		for range k {
			m := newcomer(n.NextSerial)
			for _, change := range changes {
				change(&m)
			}
			n.Members = append(n.Members, m)
			n.NextSerial++
		}
	}
}

// left is a validator that has left the set with an empty pool.
func left(m *Member) {
	m.Spent = true
	m.Answer.Pool.HeldMessages = new(uint64)
}

// changed is a network whose set changed at height 90, with the checkpoint in its peers file.
func changed(n *Network) {
	n.Set.Generation, n.Set.Height, n.Set.Hash = 1, 90, chain.Hash{9}
	n.File.Checkpoint = &chain.Checkpoint{Height: 90, Hash: chain.Hash{9}}
	for i := range n.Members {
		n.Members[i].NamedFor = 1
	}
}

// declared has the target with a threshold and the validators of these numbers in the peers file.
func declared(t uint32, serials ...int) func(*Network) {
	return func(n *Network) {
		n.File.Target = &chain.Target{Follows: n.Set.Generation, Threshold: t}
		for i := range n.Members {
			if m := &n.Members[i]; slices.Contains(serials, m.Serial) {
				m.NamedFor = n.Set.Generation + 1
				n.File.Target.Validators = append(n.File.Target.Validators, chain.NamedValidator{Name: m.Name, Validator: m.Validator})
			}
		}
		n.Budget, n.Strict = 6, true
	}
}

func budget(b int) func(*Network) {
	return func(n *Network) { n.Budget, n.Strict = b, b > n.Set.Threshold }
}

func retire(names ...string) func(*Network) { return func(n *Network) { n.Retire = names } }

// endorses makes a node report that it endorses the target that stands.
func endorses(n *Network) {
	for i := range n.Members {
		if a := n.Members[i].Answer; a != nil && n.Members[i].Serial < 2 {
			a.Target = &nodeclient.Target{Hash: n.File.Target.Next(0).Hash(), Endorsed: true, Linked: 3, LinkedNeeded: 4}
		}
	}
}

func unlisted(m *Member) { m.Listed = false }

func stopped(m *Member) { gone(m); m.StatefulSet, m.Listed = StatefulSet{}, false }

// text is a plan in one line, without its message.
func (p SetPlan) text() string {
	text := string(p.Action)
	add := func(format string, args ...any) { text += "; " + fmt.Sprintf(format, args...) }
	if len(p.Grow) > 0 {
		add("grow %s", strings.Trim(fmt.Sprint(p.Grow), "[]"))
	}
	if t := p.Target; t != nil {
		var names []string
		for _, v := range t.Validators {
			names = append(names, strings.TrimPrefix(v.Name, "demo-v"))
		}
		add("target %d of %s after %d", t.Threshold, strings.Join(names, " "), t.Follows)
	}
	if p.Checkpoint != nil {
		add("checkpoint %d", p.Checkpoint.Height)
	}
	add("budget %d", p.Budget)
	if p.Strict {
		text += " strict"
	}
	for _, d := range p.Drop {
		add("drop %s", strings.TrimPrefix(d.Member, "demo-v"))
		if d.KeepVolume {
			text += " keeping its volume"
		}
	}
	return text
}

// Each line is a clause of docs/kubernetes.md, "Scaling".
//
// Promise 62.
// Promise 74.
// Promise 75.
func TestPlanSet(t *testing.T) {
	for _, tt := range []struct {
		name    string
		network Network
		want    string
		message string
	}{
		{"as specified", healthy(4, 3), "SetKept; budget 3", ""},
		{"before there is a chain", Network{Validators: 7, Threshold: 4}, "NoChain; budget 4", ""},
		{"the set is not known", healthy(4, 3, wants(7, 4), func(n *Network) { n.Set = Set{} }, declared(4, 0, 1, 2, 3)),
			"SetUnknown; target 4 of 0 1 2 3 after 0; budget 6 strict", "the operator does not know the validator set yet: it reads the changes"},
		{"the peers file is ahead of what the operator knows", healthy(4, 3, declared(4, 0, 1, 2, 3), func(n *Network) { n.File.Target.Follows = 1 }),
			"SetUnknown; target 4 of 0 1 2 3 after 1; budget 6 strict", ""},

		// grow
		{"newcomers are made all at once", healthy(4, 3, wants(7, 4)), "WaitForNewcomers; grow 4 5 6; budget 3",
			"threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): 0 of 3 newcomers are ready"},
		{"serial numbers go on above all that there were", healthy(4, 3, wants(5, 3), func(n *Network) { n.NextSerial = 12 }),
			"WaitForNewcomers; grow 12; budget 3", ""},
		{"a number that the observation got wrong", healthy(4, 3, wants(5, 3), func(n *Network) { n.NextSerial = 2 }), "WaitForNewcomers; grow 4; budget 3", ""},
		{"newcomers that are there are used", healthy(4, 3, wants(7, 4), newcomers(2)), "WaitForNewcomers; grow 6; budget 3",
			"threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): 2 of 3 newcomers are ready"},
		{"a newcomer of which only the Secret was made", healthy(4, 3, wants(5, 3), newcomers(1, stopped)), "WaitForNewcomers; budget 3",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 has no pod"},
		{"a newcomer that is behind", healthy(4, 3, wants(5, 3), newcomers(1, at(89))), "WaitForNewcomers; budget 3",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 is 11 blocks behind"},
		{"one that has only just caught up", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.Steady = false })), "WaitForNewcomers; budget 3",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 has been caught up for less than 5s"},
		{"one whose vote store is not recorded", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.VoteStore = false })), "WaitForNewcomers; budget 3",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 has a vote store of which there is no record yet"},
		{"one that may not vote", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.Answer.VotesFromHeight = nil })), "WaitForNewcomers; budget 3", ""},
		{"one that may vote later", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { *m.Answer.VotesFromHeight = 103 })), "WaitForNewcomers; budget 3", ""},
		{"one whose pod finds no room", healthy(4, 3, wants(5, 3), newcomers(1, waiting("Unschedulable"))), "WaitForNewcomers; budget 3",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v4): 0 of 1 newcomers are ready: demo-v4 does not run: Unschedulable. " +
				"Make room for the pods that do not run, or correct the spec. Newcomers that the spec no longer asks for go at once"},
		{"one that lost its vote store is given up for another name", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.Answer.VoteStore = false })),
			"WaitForNewcomers; grow 5; budget 3; drop 4", ""},
		{"one that lost its volume", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.Volume.UID = "another" })),
			"WaitForNewcomers; grow 5; budget 3; drop 4", ""},
		{"one that is being stopped is not taken back", healthy(4, 3, wants(5, 3), newcomers(1, unlisted)), "WaitForNewcomers; grow 5; budget 3; drop 4", ""},
		{"one that has retired does not come back", healthy(4, 3, wants(5, 3), newcomers(1, stopped, func(m *Member) { m.Retired = true })),
			"WaitForNewcomers; grow 5; budget 3", ""},
		{"one that has left does not come back", healthy(4, 3, changed, wants(5, 3), newcomers(1, left)),
			"WaitForNewcomers; grow 5; checkpoint 90; budget 3; drop 4", ""},
		{"fewer are wanted: what is nearer to the set stays", healthy(4, 3, wants(5, 3), newcomers(1, waiting("Unschedulable")), newcomers(1)),
			"Declare; budget 4 strict; drop 4", ""},
		{"a newcomer that is to retire", healthy(4, 3, wants(5, 3), newcomers(1), retire("demo-v4")), "WaitForNewcomers; grow 5; budget 3; drop 4", ""},
		{"too few vote: nothing is made", healthy(4, 3, wants(7, 4), of(gone, 0, 1)), "WaitForVotes; budget 3",
			"threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): no change is possible until 1 more of the 4 validators vote, " +
				"because 3 must endorse it and 2 do not count: demo-v0 has no pod, demo-v1 has no pod. Bring them back"},

		// target
		{"first the budget", healthy(4, 3, wants(7, 4), newcomers(3)), "Declare; budget 6 strict", ""},
		{"which has to hold for pods that are not ready", healthy(1, 1, wants(2, 2), newcomers(1), func(n *Network) { n.Budget = 2 }), "Declare; budget 2 strict", ""},
		{"then the target", healthy(4, 3, wants(7, 4), newcomers(3), budget(6)), "Declare; target 4 of 0 1 2 3 4 5 6 after 0; budget 6 strict", ""},
		{"it waits for each newcomer", healthy(4, 3, wants(7, 4), newcomers(2), newcomers(1, at(89)), budget(6)), "WaitForNewcomers; budget 3", ""},
		{"too few of the present set vote", healthy(4, 3, wants(7, 4), newcomers(3), budget(6), of(silent, 0, 1)), "WaitForVotes; budget 6 strict", ""},
		{"enough vote", healthy(4, 3, wants(7, 4), newcomers(3), budget(6), of(silent, 0)), "Declare; target 4 of 0 1 2 3 4 5 6 after 0; budget 6 strict", ""},
		{"too few of the next set would vote", healthy(4, 3, wants(4, 4), budget(4), of(silent, 0)), "WaitForVotes; budget 3",
			"threshold 3 of 4 validators becomes 4 of 4: the next set needs 4 of its 4 validators, and 3 are caught up: demo-v0 does not answer"},
		{"an update rolls", healthy(4, 3, wants(7, 4), newcomers(3), budget(6), outdated(0)), "WaitForUpdate; budget 3",
			"threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): the change waits until the update of the pods is over: restarting demo-v0"},
		{"newcomers are updated", healthy(4, 3, wants(5, 3), newcomers(1, func(m *Member) { m.Pod.Outdated = true }), budget(5)), "WaitForUpdate; budget 3", ""},
		{"an update waits for a restarted pod", healthy(7, 4, wants(8, 5), newcomers(1), budget(9), outdated(1), of(gone, 0)), "WaitForUpdate; budget 4", ""},
		{"an update waits for a validator that is to be replaced", healthy(4, 3, retire("demo-v3"), newcomers(1), budget(4), outdated(0), of(stopping, 3)),
			"Declare; target 3 of 0 1 2 4 after 0; budget 4 strict", ""},
		{"an update that cannot go on does not hold the change up", healthy(4, 4, wants(5, 3), newcomers(1), budget(5), outdated(0)),
			"Declare; target 3 of 0 1 2 3 4 after 0; budget 5 strict", ""},
		{"the threshold alone is a change", healthy(4, 3, wants(4, 4), budget(4)), "Declare; target 4 of 0 1 2 3 after 0; budget 4 strict", ""},

		// one at a time
		{"a target stands", healthy(4, 3, wants(7, 4), newcomers(3), declared(4, 0, 1, 2, 3, 4, 5, 6), endorses),
			"WaitForBlock; target 4 of 0 1 2 3 4 5 6 after 0; budget 6 strict",
			"threshold 3 of 4 validators becomes 4 of 7 (joining demo-v4, demo-v5, demo-v6): the next set is declared; 2 of 4 validators endorse it, and 3 must; " +
				"3 of its members are linked, and 4 must be. Their nodes have not read it yet, which may take two minutes: demo-v2, demo-v3"},
		{"a node refuses it", healthy(4, 3, wants(4, 4), declared(4, 0, 1, 2, 3), endorses, of(func(m *Member) { m.Answer.Target.Problem = "it has a key twice" }, 1)),
			"WaitForBlock; target 4 of 0 1 2 3 after 0; budget 6 strict", "threshold 3 of 4 validators becomes 4 of 4: the next set is declared; 1 of 4 validators endorse it, " +
				"and 3 must; 3 of its members are linked, and 4 must be. Not endorsed by demo-v1: it has a key twice"},
		{"what becomes of a newcomer then changes nothing", healthy(4, 3, wants(5, 3), newcomers(1), declared(3, 0, 1, 2, 3, 4), of(gone, 4)),
			"WaitForBlock; target 3 of 0 1 2 3 4 after 0; budget 6 strict", ""},
		{"nor what becomes of a member", healthy(4, 3, wants(3, 2), declared(2, 0, 1, 2), of(gone, 0)), "WaitForBlock; target 2 of 0 1 2 after 0; budget 6 strict", ""},
		{"nor a list that is too short", healthy(4, 3, wants(5, 3), newcomers(1), declared(3, 0, 1, 2, 3, 4), func(n *Network) { n.Members = n.Members[:4] }),
			"WaitForBlock; target 3 of 0 1 2 3 4 after 0; budget 6 strict", ""},
		{"another spec replaces it", healthy(4, 3, wants(6, 4), newcomers(3), declared(4, 0, 1, 2, 3, 4, 5, 6)),
			"Declare; target 4 of 0 1 2 3 4 5 after 0; budget 6 strict", ""},
		{"another spec whose newcomers are not there yet leaves it", healthy(4, 3, wants(8, 5), newcomers(3), declared(4, 0, 1, 2, 3, 4, 5, 6)),
			"WaitForNewcomers; grow 7; target 4 of 0 1 2 3 4 5 6 after 0; budget 6 strict",
			"threshold 3 of 4 validators becomes 5 of 8 (joining demo-v4, demo-v5, demo-v6, demo-v7): 3 of 4 newcomers are ready. " +
				"Until then the set of 7 validators that was declared before may come into force"},
		{"a named newcomer that lost its vote store is replaced", healthy(4, 3, wants(5, 3), newcomers(2), declared(3, 0, 1, 2, 3, 4),
			of(func(m *Member) { m.Answer.VoteStore = false }, 4)), "Declare; target 3 of 0 1 2 3 5 after 0; budget 6 strict",
			"threshold 3 of 4 validators becomes 3 of 5 (joining demo-v5): declaring the next set. Until then the set of 5 validators that was declared " +
				"before may come into force; demo-v4 was named in a set that may come into force, and is stopped after the next change"},
		{"an old target is taken out", healthy(4, 3, declared(3, 0, 1, 2, 3), changed, budget(3)), "SetKept; checkpoint 90; budget 3", ""},

		// edited back
		{"edited back before there is a target: newcomers go at once", healthy(4, 3, newcomers(3)), "WaitForLeavers; budget 3; drop 4; drop 5; drop 6",
			"the set is threshold 3 of 4 validators, as the spec asks for; stopping demo-v4, demo-v5, demo-v6"},
		{"edited back after that: the present set again", healthy(4, 3, newcomers(1), declared(3, 0, 1, 2, 3, 4)),
			"Declare; target 3 of 0 1 2 3 after 0; budget 5 strict",
			"declaring the present set once more, so that the set declared before does not come into force: threshold 3 of 4 validators becomes 3 of 4; " +
				"demo-v4 was named in a set that may come into force, and is stopped after the next change"},
		{"even if too few vote", healthy(4, 3, newcomers(1), declared(3, 0, 1, 2, 3, 4), of(gone, 0, 1)), "Declare; target 3 of 0 1 2 3 after 0; budget 5 strict", ""},
		{"the present set is declared again", healthy(4, 3, newcomers(1), declared(3, 0, 1, 2, 3, 4), declared(3, 0, 1, 2, 3)),
			"WaitForBlock; target 3 of 0 1 2 3 after 0; budget 6 strict", ""},
		{"somebody deleted the peers file with the target", healthy(4, 3, newcomers(1), declared(3, 0, 1, 2, 3, 4), func(n *Network) { n.File = File{} }),
			"Declare; target 3 of 0 1 2 3 after 0; budget 5 strict", ""},
		{"the generation has moved: what was named goes", healthy(4, 3, newcomers(1), changed), "WaitForLeavers; checkpoint 90; budget 3; drop 4", ""},

		// the choice of leavers
		{"the highest serial number leaves", healthy(7, 4, wants(4, 3), budget(9)), "Declare; target 3 of 0 1 2 3 after 0; budget 6 strict", ""},
		{"first a member that is down, then one that is behind", healthy(7, 4, wants(4, 3), of(gone, 1), of(at(89), 2), budget(6)),
			"Declare; target 3 of 0 3 4 5 after 0; budget 6 strict", ""},
		{"first of all those to retire", healthy(7, 4, wants(5, 3), of(gone, 1), retire("demo-v0"), budget(6)), "Declare; target 3 of 2 3 4 5 6 after 0; budget 5 strict", ""},
		{"one is replaced", healthy(4, 3, retire("demo-v2")), "WaitForNewcomers; grow 4; budget 3",
			"threshold 3 of 4 validators becomes 3 of 4 (joining demo-v4; leaving demo-v2): 0 of 1 newcomers are ready"},
		{"all are replaced", healthy(2, 2, retire("demo-v0", "demo-v1"), newcomers(2), budget(4)), "Declare; target 2 of 2 3 after 0; budget 4 strict", ""},
		{"who left remains in the list", healthy(4, 3, changed, newcomers(1, left, stopped, func(m *Member) { m.Retired = true }), retire("demo-v4", "demo-v9")),
			"SetKept; checkpoint 90; budget 3", ""},

		// leave
		{"all rules hold", healthy(3, 2, changed, newcomers(1, left)), "WaitForLeavers; checkpoint 90; budget 2; drop 3", ""},
		{"(1) a member is at the change", healthy(3, 2, changed, newcomers(1, left), of(at(90), 1)), "WaitForLeavers; checkpoint 90; budget 2",
			"the set is threshold 2 of 3 validators, as the spec asks for; demo-v3 waits until demo-v1 is above height 90, where the set changed: it is at height 90"},
		{"(1) a member that runs is silent", healthy(3, 2, changed, newcomers(1, left), of(silent, 1)), "WaitForLeavers; checkpoint 90; budget 2", ""},
		{"(1) a member is silent for a minute: it does not run", healthy(3, 2, changed, newcomers(1, left), of(silent, 1), of(mute, 1)),
			"WaitForLeavers; checkpoint 90; budget 2; drop 3", ""},
		{"(1) a member does not run", healthy(3, 2, changed, newcomers(1, left), of(waiting("ImagePullBackOff"), 1)), "WaitForLeavers; checkpoint 90; budget 2; drop 3", ""},
		{"(1) too few are there", healthy(3, 2, changed, newcomers(1, left), of(gone, 0, 1)), "WaitForLeavers; checkpoint 90; budget 2",
			"the set is threshold 2 of 3 validators, as the spec asks for; demo-v3 waits until 2 validators are above height 90, where the set changed: 1 are"},
		{"(2) the checkpoint is not in the peers file", healthy(3, 2, changed, newcomers(1, left), func(n *Network) { n.File.Checkpoint = nil }),
			"WaitForLeavers; checkpoint 90; budget 2", ""},
		{"no checkpoint before a quorum has the block", healthy(3, 2, changed, of(at(89), 1, 2), func(n *Network) { n.File.Checkpoint = nil }),
			"SetKept; budget 2", ""},
		{"it stays that of the change before", healthy(3, 2, changed, of(at(89), 1, 2), func(n *Network) { n.File.Checkpoint.Height = 50 }),
			"SetKept; checkpoint 50; budget 2", ""},
		{"a quorum is enough", healthy(3, 2, changed, of(at(90), 1), of(at(89), 2), func(n *Network) { n.File.Checkpoint = nil }),
			"SetKept; checkpoint 90; budget 2", ""},
		{"(2) the checkpoint is of the change before", healthy(3, 2, changed, newcomers(1, left), func(n *Network) { n.File.Checkpoint.Height = 50 }),
			"WaitForLeavers; checkpoint 90; budget 2", ""},
		{"(3) its pool is not empty", healthy(3, 2, changed, newcomers(1, left, func(m *Member) { *m.Answer.Pool.HeldMessages = 7 })),
			"WaitForLeavers; checkpoint 90; budget 2", "the set is threshold 2 of 3 validators, as the spec asks for; demo-v3 holds 7 messages that are not final yet"},
		{"(3) it does not know that it has left", healthy(3, 2, changed, newcomers(1, left, func(m *Member) { m.Answer.Pool.HeldMessages = nil })),
			"WaitForLeavers; checkpoint 90; budget 2", ""},
		{"(3) it does not answer", healthy(3, 2, changed, newcomers(1, left, silent)), "WaitForLeavers; checkpoint 90; budget 2", ""},
		{"(3) it does not answer for a minute", healthy(3, 2, changed, newcomers(1, left, gone, mute)), "WaitForLeavers; checkpoint 90; budget 2; drop 3 keeping its volume", ""},
		{"it was stopped, and the rest is to be done", healthy(3, 2, changed, newcomers(1, left, stopped, func(m *Member) { m.Listed = true })),
			"WaitForLeavers; checkpoint 90; budget 2; drop 3 keeping its volume", ""},
		{"it is gone, and so is its Secret", healthy(3, 2, changed, newcomers(1, left, stopped, func(m *Member) { m.Secret = false })), "SetKept; checkpoint 90; budget 2", ""},
		{"a member of the set never goes, whatever its Secret holds", healthy(3, 2, of(func(m *Member) { m.PublicKey, m.Spent = chain.PublicKey{9}, false }, 1)),
			"SetKept; budget 3", ""},
		{"the next change does not wait for it", healthy(3, 2, changed, newcomers(1, left, silent), wants(2, 2), budget(9)),
			"Declare; target 2 of 0 1 after 1; checkpoint 90; budget 3 strict", ""},

		// budget
		{"all that both sets together can spare", healthy(4, 3, wants(7, 4), newcomers(3)), "Declare; budget 6 strict", ""},
		{"until the new set has its quorum", healthy(7, 4, changed, budget(6), of(notProbed, 1, 2, 3, 4)), "SetKept; checkpoint 90; budget 6 strict", ""},
		{"and no longer", healthy(7, 4, changed, budget(6), of(notProbed, 1, 2, 3)), "SetKept; checkpoint 90; budget 4", ""},
		{"it stays while newcomers have not been looked at for long", healthy(4, 3, wants(7, 4), newcomers(3, func(m *Member) { m.Steady = false }), budget(6)),
			"WaitForNewcomers; budget 6 strict", ""},
		{"and falls when one is no longer fit", healthy(4, 3, wants(7, 4), newcomers(2), newcomers(1, gone), budget(6)), "WaitForNewcomers; budget 3", ""},
		{"a lost quorum without a change raises nothing", healthy(4, 3, of(gone, 1, 2)), "SetKept; budget 3", ""},
		{"with a target that replaces another: never less", healthy(7, 4, wants(3, 2), declared(4, 0, 1, 2, 3, 4, 5), budget(9)),
			"Declare; target 2 of 0 1 2 after 0; budget 7 strict", ""},

		{"the pod of one that has left is ready for a moment", healthy(3, 2, changed, newcomers(2, left, func(m *Member) { m.Pod.Ready, *m.Answer.Pool.HeldMessages = true, 1 })),
			"WaitForLeavers; checkpoint 90; budget 4", ""},

		// paused, refused
		{"paused", healthy(4, 3, paused, wants(7, 4)), "PauseSet; budget 3", "the network is paused: set spec.paused to false to go on. threshold 3 of 4 validators becomes 4 of 7"},
		{"paused with a target", healthy(4, 3, paused, newcomers(1), declared(3, 0, 1, 2, 3, 4)), "PauseSet; target 3 of 0 1 2 3 4 after 0; budget 6 strict", ""},
		{"paused with nothing to do", healthy(4, 3, paused), "SetKept; budget 3", ""},

		// hibernated: the nodes that would change the set do not run
		{"hibernated", healthy(4, 3, hibernates, wants(7, 4)), "HibernateSet; budget 3", "the network is hibernated, and a change of the set needs its nodes: set spec.hibernated to false to go on. threshold 3 of 4 validators becomes 4 of 7"},
		{"hibernated with a target", healthy(4, 3, hibernates, newcomers(1), declared(3, 0, 1, 2, 3, 4)), "HibernateSet; target 3 of 0 1 2 3 4 after 0; budget 6 strict", ""},
		{"hibernated with nothing to do", healthy(4, 3, hibernates), "SetKept; budget 3", ""},
		{"hibernated with a newcomer that is not needed", healthy(4, 3, hibernates, newcomers(1)), "HibernateSet; budget 3", "the network is hibernated, and a change of the set needs its nodes: set spec.hibernated to false to go on. the set is threshold 3 of 4 validators, as the spec asks for; stopping demo-v4"},
		{"hibernated and not known", healthy(4, 3, hibernates, func(n *Network) { n.Set = Set{} }), "HibernateSet; budget 3", "the network is hibernated, and the operator reads the validator set from the nodes when they run again"},
		{"hibernated and paused", healthy(4, 3, hibernates, paused, wants(7, 4)), "PauseSet; budget 3", ""},
		{"a set that no chain can have", healthy(4, 3, wants(7, 3)), "RefuseSet; budget 3",
			"the spec asks for threshold 3 of 7 validators, and no chain can have that: allowed are 4 to 7"},

		// a network that was deleted and applied again
		{"its peers file is gone, and nobody is outside of the set", healthy(4, 3, of(forgotten, 0, 1, 2, 3)), "SetKept; budget 3", ""},
		{"a newcomer that may have been named", healthy(4, 3, newcomers(1, forgotten)), "Declare; target 3 of 0 1 2 3 after 0; budget 4 strict", ""},
		{"the leave that was under way is finished", healthy(4, 3, changed, newcomers(3, left), of(forgotten, 0, 1, 2, 3, 4, 5, 6), wants(3, 2), budget(6)),
			"Declare; target 2 of 0 1 2 after 1; checkpoint 90; budget 3 strict; drop 4; drop 5; drop 6", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan := PlanSet(tt.network)
			if got := plan.text(); got != tt.want {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, plan.Message)
			}
			if !strings.HasPrefix(plan.Message, tt.message) {
				t.Errorf("message\n%s, want\n%s", plan.Message, tt.message)
			}
			if quiet := plan.Action == SetKept || plan.Action == NoChain; (plan.Message == "") != quiet || (plan.Brief == "") != quiet {
				t.Errorf("%s with message %q, %q", plan.Action, plan.Brief, plan.Message)
			}
			for _, d := range plan.Drop {
				i := slices.IndexFunc(tt.network.Members, func(m Member) bool { return m.Name == d.Member })
				if m := tt.network.Members[i]; d.StatefulSet != m.StatefulSet.UID || d.Spent != m.Spent {
					t.Errorf("%+v is not %+v", d, m)
				}
			}
			if again := PlanSet(reversed(tt.network)); !cmp.Equal(again, plan) {
				t.Errorf("the order of the members changes the plan:\n%s", cmp.Diff(plan, again))
			}
		})
	}
}

// mute is a node that has been silent for a minute.
func mute(m *Member) { m.Mute = true }

// notProbed is a validator that votes and whose pod Kubernetes has not found ready yet.
func notProbed(m *Member) { m.Pod.Ready = false }

// forgotten is a validator of which nobody knows whether a target named it.
func forgotten(m *Member) { m.NamedFor = 1<<32 - 1 }

// While a target stands no pod that votes is restarted, nor one of a newcomer that the next set
// needs. Broken pods are repaired.
//
// Promise 60.
func TestPodsWhileTheSetChanges(t *testing.T) {
	old := func(m *Member) { m.Pod.Outdated = true }
	pending := func(changes ...func(*Network)) Network {
		return healthy(4, 3, append([]func(*Network){wants(6, 4), newcomers(2), declared(4, 0, 1, 2, 3, 4, 5)}, changes...)...)
	}
	for _, tt := range []struct {
		name    string
		network Network
		want    Action
		victims []string
	}{
		{"a validator is outdated", pending(outdated(0)), WaitForChange, nil},
		{"a broken one", pending(outdated(0, 1), of(waiting("ImagePullBackOff"), 1)), Replace, []string{"demo-v1"}},
		{"a newcomer that the next set needs", pending(of(old, 4)), None, nil},
		{"a newcomer that is broken", pending(of(old, 4), of(waiting("ImagePullBackOff"), 4)), Replace, []string{"demo-v4"}},
		{"a newcomer that is behind", pending(of(old, 4), of(at(89), 4)), Replace, []string{"demo-v4"}},
		{"newcomers before there is a target", healthy(4, 3, wants(6, 4), newcomers(2, old)), Replace, []string{"demo-v4", "demo-v5"}},
		{"a newcomer that was named before", healthy(4, 3, newcomers(1, old, func(m *Member) { m.NamedFor = 1 })), None, nil},
		{"a validator that has left waits for its end", healthy(4, 3, changed, newcomers(1, left, old)), None, nil},
		{"a validator that has left and is broken", healthy(4, 3, changed, newcomers(1, left, old, down)), Replace, []string{"demo-v4"}},
		{"the set has changed", healthy(4, 3, declared(3, 0, 1, 2, 3), changed, outdated(0)), Restart, []string{"demo-v0"}},
		{"the set is not known, and pods run", healthy(4, 3, outdated(0), func(n *Network) { n.Set = Set{} }), WaitForSet, nil},
		{"the set is not known, and pods are broken", healthy(4, 3, outdated(0, 1), of(waiting("ImagePullBackOff"), 1), func(n *Network) { n.Set = Set{} }),
			Replace, []string{"demo-v1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := PlanPods(tt.network)
			var victims []string
			for _, v := range d.Victims {
				victims = append(victims, v.Member)
			}
			if d.Action != tt.want || !slices.Equal(victims, tt.victims) {
				t.Errorf("%s %v (%s), want %s %v", d.Action, victims, d.Message, tt.want, tt.victims)
			}
		})
	}
}

// A newcomer is steady when it was fit at every look of five seconds, and a node is mute when it
// answered at none of a minute.
func TestWhatTakesMoreThanOneLook(t *testing.T) {
	var memory Memory
	now := time.Unix(1_800_000_000, 0)
	look := func(after time.Duration, changes ...func(*Member)) Member {
		now = now.Add(after)
		n := healthy(4, 3, newcomers(1, changes...))
		n.Members[4].Steady = false
		memory.Observe(&n, now)
		return n.Members[4]
	}
	another := func(m *Member) { m.Pod.UID = types.UID("another") }
	for i, tt := range []struct {
		after        time.Duration
		change       func(*Member)
		steady, mute bool
	}{
		{0, nil, false, false}, {4 * time.Second, nil, false, false}, {time.Second, nil, true, false},
		{time.Second, at(89), false, false}, {time.Second, nil, false, false}, {5 * time.Second, nil, true, false},
		{2 * time.Second, another, false, false}, {5 * time.Second, another, true, false},
		{time.Minute, another, false, false}, // nobody looked
		{2 * time.Second, silent, false, false}, {14 * time.Second, gone, false, false}, {14 * time.Second, silent, false, false},
		{14 * time.Second, silent, false, false}, {14 * time.Second, silent, false, false}, {4 * time.Second, silent, false, true},
		{2 * time.Second, nil, false, false}, {2 * time.Second, silent, false, false},
	} {
		if tt.change == nil {
			tt.change = func(*Member) {}
		}
		if m := look(tt.after, tt.change); m.Steady != tt.steady || m.Mute != tt.mute {
			t.Errorf("look %d: steady %v, mute %v; want %v, %v", i, m.Steady, m.Mute, tt.steady, tt.mute)
		}
	}
}
