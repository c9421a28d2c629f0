package membership

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// anyNetwork draws a network in any state that can be observed, and in some that cannot.
func anyNetwork(t *rapid.T) Network {
	n := rapid.IntRange(1, 10).Draw(t, "n")
	threshold := rapid.IntRange(n/2+1, n).Draw(t, "t")
	net := healthy(n, threshold)
	net.AllowDowntime = rapid.Bool().Draw(t, "allow downtime")
	net.Set.Delta = rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond}).Draw(t, "delta")
	net.Paused = rapid.IntRange(0, 9).Draw(t, "paused") == 0
	for i := range net.Members {
		m := &net.Members[i]
		m.Pod.Outdated = rapid.Bool().Draw(t, "outdated")
		anyTrouble(t, m)
	}
	return net
}

// anyTrouble makes a member that is well one that often is not.
func anyTrouble(t *rapid.T, m *Member) {
	troubles := []func(*Member){
		gone, down, silent, stopping, unobserved, leaving, waiting("CrashLoopBackOff"), notReady("just started"),
		at(90), at(89), at(200), at(1<<64 - 1), role(nodeclient.RoleRejoining), role(nodeclient.RoleObserver),
		deaf, unsettled, func(m *Member) { m.Answer.Synchrony = nil },
		func(m *Member) { m.Pod.Ready = false },
		func(m *Member) { m.Answer.Ready = false },
		func(m *Member) { m.PublicKey = chain.PublicKey{1} },
		func(m *Member) { m.PublicKey = chain.PublicKey{} },
	}
	i := rapid.IntRange(-len(troubles), len(troubles)-1).Draw(t, "trouble")
	if i >= 0 {
		troubles[i](m)
	}
}

// deleted is the network without the victims' pods; it fails on a victim that is not there.
func deleted(t *rapid.T, net Network, d Decision) Network {
	net.Members = slices.Clone(net.Members)
	for _, v := range d.Victims {
		i := slices.IndexFunc(net.Members, func(m Member) bool { return m.Name == v.Member })
		if i < 0 || net.Members[i].Pod == nil {
			t.Fatalf("victim %+v does not exist", v)
		}
		pod := net.Members[i].Pod
		switch {
		case pod.Name != v.Pod || pod.UID != v.UID:
			t.Fatalf("victim %+v is not pod %+v", v, pod)
		case !pod.Outdated || pod.Terminating:
			t.Fatalf("victim %+v should not go: %+v", v, pod)
		}
		gone(&net.Members[i])
	}
	return net
}

func caughtUp(net Network) int { return net.Standings().CaughtUp() }

// Promise 60.
func TestNoDecisionCostsTheQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net := anyNetwork(t)
		d := PlanPods(net)
		after := deleted(t, net, d)
		switch d.Action {
		case Restart:
			if len(d.Victims) != 1 {
				t.Fatalf("restarts %d pods at once", len(d.Victims))
			}
			if !net.AllowDowntime && caughtUp(after) < net.Set.Threshold {
				t.Fatalf("%s: %d of threshold %d are left", d.Message, caughtUp(after), net.Set.Threshold)
			}
		case Replace:
			if before, after := caughtUp(net), caughtUp(after); len(d.Victims) == 0 || after < before {
				t.Fatalf("%s: %d were caught up, %d are", d.Message, before, after)
			}
		default:
			if len(d.Victims) > 0 {
				t.Fatalf("%s with victims %v", d.Action, d.Victims)
			}
		}
		if net.Paused && len(d.Victims) > 0 {
			t.Fatalf("paused, and %s", d.Message)
		}
		if (d.Action == None) != (d.Message == "") {
			t.Fatalf("%s with message %q", d.Action, d.Message)
		}
		if again := PlanPods(reversed(net)); !cmp.Equal(d, again) {
			t.Fatalf("the order of the members changes the decision:\n%s", cmp.Diff(d, again))
		}
	})
}

// The chain must not stop for an update even if nodes fail on their own meanwhile, and the planner
// sees that a reconcile late: what it takes itself always leaves the threshold of those that it saw
// caught up.
//
// Promise 60.
func TestRestartsAreOneAtATimeWhateverHappensMeanwhile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net := healthy(rapid.IntRange(2, 10).Draw(t, "n"), 0)
		net.Set.Threshold = rapid.IntRange(len(net.Members)/2+1, len(net.Members)).Draw(t, "t")
		for i := range net.Members {
			net.Members[i].Pod.Outdated = true
		}
		away := map[string]bool{} // restarted and not seen back
		for range 30 {
			d := PlanPods(net)
			if d.Action == Restart {
				if len(away) > 0 {
					t.Fatalf("%s while %v are away", d.Message, away)
				}
				away[d.Victims[0].Member] = true
			}
			net = deleted(t, net, d)
			for i := range net.Members {
				m := &net.Members[i]
				switch event := rapid.SampledFrom([]string{"", "", "back", "fail"}).Draw(t, m.Name); {
				case event == "back" && m.Pod == nil:
					*m = well(m.Serial)
					delete(away, m.Name)
				case event == "fail" && m.Pod != nil && !away[m.Name]:
					m.Answer, m.Silence = nil, errors.New("no answer in time")
				}
			}
		}
	})
}

// After any history, once all nodes that run are well every pod gets the wanted template.
func TestEveryUpdateConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net := anyNetwork(t)
		net.Paused = false
		// With t = n it takes the annotation.
		net.AllowDowntime = net.AllowDowntime || len(net.Members) == net.Set.Threshold
		restarts := 0
		for step := 0; ; step++ {
			d := PlanPods(net)
			if step > 0 && d.Action == None {
				break
			}
			if step > 2*len(net.Members)+2 {
				t.Fatalf("after %d steps still %s: %s", step, d.Action, d.Message)
			}
			restarts += len(d.Victims)
			net = deleted(t, net, d)
			for i := range net.Members {
				m := &net.Members[i]
				old := m.Pod != nil && m.Pod.Outdated && !m.Pod.Terminating
				ready := m.Pod != nil && m.Pod.Ready
				*m = well(m.Serial)
				m.Pod.Outdated = old
				if !old {
					m.Pod.UID = types.UID(m.Name + "-new")
				}
				m.Pod.Ready = ready || !old // a broken pod with the old template stays broken
				if !m.Pod.Ready {
					m.Answer = nil
				}
			}
		}
		for _, m := range net.Members {
			if m.Pod.Outdated {
				t.Fatalf("%s is outdated and nothing is to be done", m.Name)
			}
		}
		if restarts > len(net.Members) {
			t.Fatalf("%d restarts for %d members", restarts, len(net.Members))
		}
	})
}

// anyChange draws a network in any state, with validators outside of the set, and a spec that asks
// for anything.
func anyChange(t *rapid.T) Network {
	net := anyNetwork(t)
	newcomers(rapid.IntRange(0, 4).Draw(t, "newcomers"))(&net)
	net.Validators = rapid.IntRange(1, 10).Draw(t, "wanted")
	net.Threshold = rapid.IntRange(1, 10).Draw(t, "wanted threshold")
	net.Set.Generation = uint32(rapid.IntRange(0, 2).Draw(t, "generation"))
	net.Budget, net.Strict = rapid.IntRange(0, 10).Draw(t, "budget"), rapid.Bool().Draw(t, "strict")
	net.NextSerial = rapid.IntRange(0, 12).Draw(t, "next serial")
	known := rapid.IntRange(0, 9).Draw(t, "the set is not known") > 0
	outside := []func(*Member){
		left, stopped, unlisted, forgotten, mute, func(m *Member) { m.Retired = true }, func(m *Member) { m.Secret = false },
		func(m *Member) { m.VoteStore = false }, func(m *Member) { m.Steady = false }, func(m *Member) { m.Volume.UID = "another" },
	}
	var target []chain.NamedValidator
	for i := range net.Members {
		m := &net.Members[i]
		if !net.Set.Has(m.PublicKey) && m.Answer != nil {
			anyTrouble(t, m)
			if k := rapid.IntRange(-len(outside), len(outside)-1).Draw(t, "outside"); k >= 0 && m.Answer != nil {
				outside[k](m)
			}
		}
		m.NamedFor = max(m.NamedFor, uint32(rapid.IntRange(0, 3).Draw(t, "named for")))
		if rapid.Bool().Draw(t, "in the target") && !m.Retired && (net.Set.Has(m.PublicKey) || !m.Spent) {
			target = append(target, chain.NamedValidator{Name: m.Name, Validator: m.Validator})
		}
		if rapid.IntRange(0, 5).Draw(t, "to retire") == 0 {
			net.Retire = append(net.Retire, m.Name)
		}
	}
	if len(target) > 0 && rapid.Bool().Draw(t, "a target stands") {
		net.File.Target = &chain.Target{Follows: uint32(rapid.IntRange(0, 3).Draw(t, "follows")), Threshold: uint32(len(target)), Validators: target}
	}
	if !known {
		net.Set = Set{}
	}
	return net
}

// Promise 62.
func TestNoPlanStopsWhoIsNeededOrNamesWhoMayNotBe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		net := anyChange(t)
		plan := PlanSet(net)
		by := map[string]Member{}
		for _, m := range net.Members {
			by[m.Name] = m
		}
		for _, d := range plan.Drop {
			switch m := by[d.Member]; {
			case net.Paused, !net.Set.Known():
				t.Fatalf("%s, and %s is stopped", plan.Action, d.Member)
			case net.Set.Has(m.PublicKey), net.named(&m):
				t.Fatalf("%s is stopped, and the chain may need it", d.Member)
			case d.StatefulSet != m.StatefulSet.UID, d.Spent != m.Spent:
				t.Fatalf("%+v is not %+v", d, m)
			}
		}
		for _, serial := range plan.Grow {
			if _, taken := by[well(serial).Name]; taken || serial < net.NextSerial || net.Paused {
				t.Fatalf("makes number %d", serial)
			}
		}
		if next := plan.Target; next != nil && next != net.File.Target {
			for _, v := range next.Validators {
				m := by[v.Name]
				if in := net.Set.Has(v.PublicKey); !in && (m.Spent || m.Retired || !m.VoteStore || m.lost() || !m.Steady) || slices.Contains(net.Retire, v.Name) {
					t.Fatalf("%s: the target names %+v", plan.Action, m)
				}
			}
			if len(next.Validators) != net.Validators || int(next.Threshold) != net.Threshold || next.Follows != net.Set.Generation {
				t.Fatalf("the target is %+v", next)
			}
		}
		if net.target() != nil && plan.Target == nil {
			t.Fatalf("%s takes the target out", plan.Action)
		}
		if again := PlanSet(reversed(net)); !cmp.Equal(plan, again) {
			t.Fatalf("the order of the members changes the plan:\n%s", cmp.Diff(plan, again))
		}
	})
}

// A report names no other pods to delete than the decision that was carried out.
//
// Promise 64.
func TestAReportHasTheVictimsOfTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var memory Memory
		now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		for range 3 {
			now = now.Add(2 * time.Second)
			seen := anyNetwork(t)
			done := PlanPods(seen)
			reported := memory.Show(seen, now).Explain(done)
			if !cmp.Equal(reported.Victims, done.Victims) || len(done.Victims) > 0 && !cmp.Equal(reported, done) {
				t.Fatalf("reported, -done +reported:\n%s", cmp.Diff(done, reported))
			}
		}
	})
}
