package membership

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// world is a cluster and a chain as far as the planner can spoil them, with an operator that
// carries out its plans, dies at any write, and observes with caches that lag.
type world struct {
	t *rapid.T
	// faults lets nodes fail by themselves. Without them every loss of a quorum is the operator's.
	faults bool

	// the spec
	n, threshold int
	retire       []string
	hibernated   bool

	// the chain
	set      Set
	spent    map[string]bool
	declared []*chain.Target // of the present generation, ever
	height   uint64

	// the cluster
	objects map[string]*objects
	file    peersFile
	budget  int
	strict  bool
	// lagging is a list of the objects as a cache may show it.
	lagging map[string]objects

	serials int // names ever made
}

// objects are those of one validator, and its node.
type objects struct {
	serial             int
	keys               chain.Validator
	retired, recorded  bool      // Secret
	volume             types.UID // empty: there is none
	first              types.UID
	set                types.UID // StatefulSet
	up, store, fresh   bool      // pod
	ready              bool      // as Kubernetes has it
	outdated, waitsFor bool
	asleep             bool // its StatefulSet has no replica
	held               uint64
}

type peersFile struct {
	version int
	File
	named map[string]uint32
}

var uids int

func uid() types.UID { uids++; return types.UID(fmt.Sprint("uid-", uids)) }

func newWorld(t *rapid.T, faults bool) *world {
	w := &world{t: t, faults: faults, spent: map[string]bool{}, objects: map[string]*objects{}, height: 1}
	w.n = rapid.IntRange(1, 5).Draw(t, "n")
	w.threshold = rapid.IntRange(w.n/2+1, w.n).Draw(t, "t")
	w.set.Threshold, w.budget, w.file.named = w.threshold, w.threshold, map[string]uint32{}
	for range w.n {
		name := w.make()
		o := w.objects[name]
		o.volume, o.set, o.up, o.ready, o.store, o.recorded = uid(), uid(), true, true, true, true
		o.first = o.volume
		w.file.named[name], w.spent[name] = 0, true
		w.set.Validators = append(w.set.Validators, chain.NamedValidator{Name: name, Validator: o.keys})
	}
	return w
}

// make makes the key of the next validator.
func (w *world) make() string {
	name := fmt.Sprintf("demo-v%d", w.serials)
	w.objects[name] = &objects{serial: w.serials, keys: well(w.serials).Validator}
	w.serials++
	return name
}

func (w *world) inSet(name string) bool {
	return slices.ContainsFunc(w.set.Validators, func(v chain.NamedValidator) bool { return v.Name == name })
}

// votes is how many of the validators are up.
func (w *world) votes(of []chain.NamedValidator) int {
	up := 0
	for _, v := range of {
		if o := w.objects[v.Name]; o.up {
			up++
		}
	}
	return up
}

// start is a pod that comes up: its node makes its vote store if nothing says that it was made.
func (w *world) start(name string) {
	o := w.objects[name]
	if o.set == "" || o.volume == "" || o.asleep {
		return
	}
	if !o.recorded && o.volume == o.first {
		o.store = true
	}
	o.up, o.fresh, o.waitsFor, o.outdated = true, true, false, o.outdated && o.up
}

// stop is a pod that goes down.
func (w *world) stop(name string) {
	o := w.objects[name]
	o.up, o.ready = false, false
}

// probe is the kubelet's look at a pod: that of a validator outside of the set is not ready.
func (w *world) probe(name string) { w.objects[name].ready = w.objects[name].up && w.inSet(name) }

// any is one of the validators for which is is true; empty if there is none.
func (w *world) any(label string, is func(name string, o *objects) bool) string {
	var names []string
	for name, o := range w.objects {
		if is(name, o) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		w.t.Skip("no " + label)
	}
	return rapid.SampledFrom(names).Draw(w.t, label)
}

// observe is the network as the operator sees it. Lists of volumes and StatefulSets may be old, or
// lack some; Secrets, the peers file and what a list lacks of a known name come from the API
// server.
func (w *world) observe(stale bool) Network {
	n := Network{Name: "demo", Chain: true, Validators: w.n, Threshold: w.threshold, Retire: w.retire, Set: w.set, File: w.file.File, Budget: w.budget, Strict: w.strict, Hibernated: w.hibernated}
	listed := map[string]objects{}
	for name, o := range w.objects {
		listed[name] = *o
	}
	if stale {
		listed = maps.Clone(w.lagging)
		for _, name := range slices.Sorted(maps.Keys(listed)) {
			if rapid.IntRange(0, 3).Draw(w.t, "lacks "+name) == 0 {
				delete(listed, name)
			}
		}
	}
	names := map[string]bool{}
	for name := range w.spent {
		names[name] = w.inSet(name)
	}
	for name := range w.file.named {
		names[name] = true
	}
	for name, o := range listed {
		names[name] = names[name] || o.volume != "" || o.set != ""
	}
	for name := range names {
		n.NextSerial = max(n.NextSerial, w.objects[name].serial+1)
	}
	for w.objects[fmt.Sprintf("demo-v%d", n.NextSerial)] != nil { // Secrets, by name
		if o := w.objects[fmt.Sprintf("demo-v%d", n.NextSerial)]; !o.retired {
			names[fmt.Sprintf("demo-v%d", n.NextSerial)] = true
		}
		n.NextSerial++
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] {
			n.Members = append(n.Members, w.member(name, listed))
		}
	}
	return n
}

func (w *world) member(name string, listed map[string]objects) Member {
	live := w.objects[name]
	seen, ok := listed[name]
	if !ok || seen.set == "" {
		seen.set = live.set
	}
	if !ok || seen.volume == "" {
		seen.volume = live.volume
	}
	_, entry := w.file.named[name]
	m := Member{Name: name, Serial: live.serial, Validator: live.keys, Secret: true, Retired: live.retired, Spent: w.spent[name],
		Listed: entry, NamedFor: w.file.named[name], VoteStore: live.recorded,
		Volume:      Volume{Exists: seen.volume != "", UID: seen.volume, FirstUID: live.first},
		StatefulSet: StatefulSet{Exists: seen.set != "", UID: seen.set}}
	if live.set == "" {
		m.Mute = rapid.Bool().Draw(w.t, "mute "+name)
		return m
	}
	m.Pod = &Pod{Name: name + "-0", UID: types.UID(name + "-pod"), Scheduled: true, Outdated: live.outdated, Ready: live.ready}
	if live.waitsFor {
		m.Pod.Waiting = "Unschedulable"
	}
	if !live.up {
		m.Mute = rapid.Bool().Draw(w.t, "mute "+name)
		return m
	}
	m.Answer = &nodeclient.Status{Role: nodeclient.RoleObserver, Height: w.height, VoteStore: live.store, CaughtUp: true}
	if live.store {
		m.Answer.VotesFromHeight = new(uint64)
	}
	switch {
	case w.inSet(name):
		m.Answer.Role, m.Answer.Ready = nodeclient.RoleValidator, true
	case w.spent[name]:
		m.Answer.Pool.HeldMessages = &live.held
	}
	m.Steady = m.unfit(w.height) == "" && !live.fresh
	return m
}

// reconcile looks once and carries the plan out, unless the operator dies before.
func (w *world) reconcile(stale, dies bool) SetPlan {
	n, version := w.observe(stale), w.file.version
	plan, pods := PlanSet(n), PlanPods(n)
	w.judge(n, plan)
	for _, o := range w.objects {
		o.fresh = false
	}
	alive := func() bool { return !dies || rapid.IntRange(0, 7).Draw(w.t, "dies") != 0 }
	drops := map[string]Leaver{}
	for _, d := range plan.Drop {
		drops[d.Member] = d
	}
	// Secrets and volumes, and the records of vote stores
	for _, serial := range plan.Grow {
		if !alive() {
			return plan
		}
		name := fmt.Sprintf("demo-v%d", serial)
		switch o := w.objects[name]; {
		case o == nil && serial != w.serials:
			w.t.Fatalf("%s is made, and %d names were", name, w.serials)
		case o == nil:
			w.make()
		default:
			w.t.Fatalf("%s is made twice", name)
		}
		n.Members = append(n.Members, w.member(name, nil))
	}
	for _, m := range n.Members {
		o := w.objects[m.Name]
		if o.up && o.store && !o.recorded {
			if !alive() {
				return plan
			}
			o.recorded = true
		}
		if _, drop := drops[m.Name]; drop || m.Retired || o.volume != "" || n.Hibernated {
			continue
		}
		if !alive() {
			return plan
		}
		o.volume = uid()
		if o.first == "" {
			o.first = o.volume
		}
	}
	if !w.faults && rapid.IntRange(0, 3).Draw(w.t, "drained meanwhile") == 0 {
		w.drain()
	}
	if !alive() {
		return plan
	}
	w.budget, w.strict = plan.Budget, plan.Strict
	if !alive() || !w.writeFile(n, plan, drops, version) || !alive() {
		return plan
	}
	for _, m := range n.Members {
		if o := w.objects[m.Name]; o.set != "" && o.asleep != n.Hibernated {
			if o.asleep = n.Hibernated; o.asleep {
				w.stop(m.Name)
			}
			if !alive() {
				return plan
			}
		}
	}
	for _, m := range n.Members {
		if _, entry := w.file.named[m.Name]; entry && !n.Hibernated && !m.Retired && w.objects[m.Name].set == "" && drops[m.Name].Member == "" {
			w.objects[m.Name].set = uid()
			if !alive() {
				return plan
			}
		}
	}
	for _, d := range plan.Drop {
		if !w.drop(d, alive) {
			return plan
		}
	}
	for _, v := range pods.Victims {
		w.delete(v.Member, n)
	}
	return plan
}

// judge checks what a plan promises, before it is carried out.
func (w *world) judge(n Network, plan SetPlan) {
	if n.Hibernated && plan.writes(n) {
		w.t.Fatalf("the network is hibernated, and the set is changed: %s", plan.text())
	}
	if t := plan.Target; t != nil && t.Follows == w.set.Generation {
		for _, v := range t.Validators {
			if o := w.objects[v.Name]; o.keys != v.Validator || !w.inSet(v.Name) && (w.spent[v.Name] || !o.recorded) {
				w.t.Fatalf("the target names %s, spent %v: %+v", v.Name, w.spent[v.Name], o)
			}
		}
		if len(t.Validators) == 0 || int(t.Threshold) > len(t.Validators) || 2*int(t.Threshold) <= len(t.Validators) {
			w.t.Fatalf("the target has threshold %d of %d", t.Threshold, len(t.Validators))
		}
	}
	if n.File.Target != nil && plan.Target == nil && n.target() != nil {
		w.t.Fatalf("the target that stands is taken out: %s", plan.text())
	}
	if plan.Budget < w.set.Threshold && n.Set.Generation == w.set.Generation {
		w.t.Fatalf("the budget %d is below the threshold %d", plan.Budget, w.set.Threshold)
	}
}

// writeFile writes the peers file over the version that was seen.
func (w *world) writeFile(n Network, plan SetPlan, drops map[string]Leaver, version int) bool {
	named := map[string]uint32{}
	for _, m := range n.Members {
		_, drop := drops[m.Name]
		spent := drop && drops[m.Name].Spent
		if before, entry := w.file.named[m.Name]; entry && (!drop || spent) {
			named[m.Name] = before
		} else if !drop && !m.Retired && (!m.StatefulSet.Exists || w.inSet(m.Name)) {
			named[m.Name] = 0
		}
	}
	fresh := plan.Target != nil && plan.Target != n.File.Target
	if plan.Target != nil {
		for _, v := range plan.Target.Validators {
			named[v.Name] = max(named[v.Name], plan.Target.Follows+1)
		}
	}
	if w.file.version != version {
		return false
	}
	for name := range w.file.named {
		if _, stays := named[name]; !stays && w.inSet(name) {
			w.t.Fatalf("%s is in the set and leaves the peers file", name)
		}
	}
	w.file = peersFile{version: version + 1, File: File{Target: plan.Target, Checkpoint: plan.Checkpoint}, named: named}
	if fresh && plan.Target.Follows == w.set.Generation {
		w.declared = append(w.declared, plan.Target)
		if !w.faults {
			if up := w.votes(plan.Target.Validators); up < int(plan.Target.Threshold) {
				w.t.Fatalf("declared threshold %d of %d with %d up", plan.Target.Threshold, len(plan.Target.Validators), up)
			}
		}
	}
	return true
}

// needs says that the chain may need a validator: it is in the set, or in one that may follow it.
func (w *world) needs(name string) bool {
	return w.inSet(name) || slices.ContainsFunc(w.declared, func(t *chain.Target) bool {
		return slices.ContainsFunc(t.Validators, func(v chain.NamedValidator) bool { return v.Name == name })
	})
}

// drop carries out one part of a plan; false if the operator died.
func (w *world) drop(d Leaver, alive func() bool) bool {
	o := w.objects[d.Member]
	if _, entry := w.file.named[d.Member]; entry && !d.Spent {
		w.t.Fatalf("%s is stopped with an entry in the peers file", d.Member)
	}
	if o.set != "" && o.set == d.StatefulSet {
		if w.needs(d.Member) {
			w.t.Fatalf("%s is stopped, and the chain may need it", d.Member)
		}
		if d.Spent && o.up && o.held > 0 {
			w.t.Fatalf("%s is stopped with %d messages", d.Member, o.held)
		}
		w.stop(d.Member)
		o.set, o.outdated, o.waitsFor = "", false, false
		if !alive() {
			return false
		}
	}
	if o.set != "" {
		return true // another StatefulSet has its name by now
	}
	delete(w.file.named, d.Member)
	w.file.version++
	if !alive() {
		return false
	}
	o.retired = true
	return true
}

// delete deletes a pod for an update.
func (w *world) delete(name string, n Network) {
	o := w.objects[name]
	if n.target() != nil && o.up && o.store && w.needs(name) {
		w.t.Fatalf("%s is restarted while a target stands", name)
	}
	w.stop(name)
	o.outdated = false
}

// order moves the chain to a set that was declared, if nodes could: enough endorse it and vote, and
// enough of the next set are there.
func (w *world) order(i int) {
	t := w.declared[i]
	if w.votes(w.set.Validators) < w.set.Threshold || w.votes(t.Validators) < int(t.Threshold) {
		return
	}
	w.height++
	for _, v := range t.Validators {
		w.spent[v.Name] = true
	}
	for _, v := range w.set.Validators {
		w.objects[v.Name].held = uint64(rapid.IntRange(0, 2).Draw(w.t, "held"))
	}
	w.set.Generation, w.set.Height, w.set.Hash = w.set.Generation+1, w.height, chain.Hash{byte(w.height), byte(w.height >> 8)}
	w.set.Threshold, w.set.Validators, w.declared = int(t.Threshold), t.Validators, nil
	w.height += 2
}

// evict evicts a pod if the budget allows it, by the rules of Kubernetes.
func (w *world) evict(name string) {
	healthy := 0
	for _, o := range w.objects {
		if o.ready {
			healthy++
		}
	}
	o := w.objects[name]
	if o.ready && healthy-1 < w.budget || !o.ready && w.strict && healthy < w.budget {
		return
	}
	w.stop(name)
}

// drain evicts whatever may be evicted, in some order.
func (w *world) drain() {
	names := slices.Sorted(maps.Keys(w.objects))
	for _, name := range rapid.Permutation(names).Draw(w.t, "drained") {
		if w.objects[name].up {
			w.evict(name)
		}
	}
}

func (w *world) edit() {
	w.n = rapid.IntRange(1, 6).Draw(w.t, "n")
	w.threshold = rapid.IntRange(w.n/2+1, w.n).Draw(w.t, "t")
	w.retire = nil
	for range rapid.IntRange(0, 2).Draw(w.t, "retire") {
		w.retire = append(w.retire, fmt.Sprintf("demo-v%d", rapid.IntRange(0, w.serials).Draw(w.t, "who")))
	}
}

func (w *world) probeAll() {
	for name := range w.objects {
		w.probe(name)
	}
}

func (w *world) remember() {
	w.lagging = map[string]objects{}
	for name, o := range w.objects {
		w.lagging[name] = *o
	}
}

// actions are what may happen, in any order.
func (w *world) actions() map[string]func(*rapid.T) {
	running := func(_ string, o *objects) bool { return o.up }
	on := func(f func()) func(*rapid.T) { return func(t *rapid.T) { w.t = t; f() } }
	actions := map[string]func(*rapid.T){
		"reconcile":        on(func() { w.reconcile(false, false) }),
		"reconcile and":    on(func() { w.reconcile(false, false) }),
		"die in reconcile": on(func() { w.reconcile(rapid.Bool().Draw(w.t, "stale"), true) }),
		"old caches":       on(func() { w.reconcile(true, false) }),
		"time":             on(w.remember),
		"edit":             on(w.edit),
		"order": on(func() {
			if len(w.declared) == 0 {
				w.t.Skip("nothing is declared")
			}
			w.order(rapid.IntRange(0, len(w.declared)-1).Draw(w.t, "which"))
		}),
		"start": on(func() { w.start(w.any("down", func(_ string, o *objects) bool { return !o.up && o.set != "" })) }),
		"start all": on(func() {
			for name, o := range w.objects {
				if !o.up {
					w.start(name)
				}
			}
		}),
		"evict":     on(func() { w.evict(w.any("running", running)) }),
		"drain":     on(w.drain),
		"probe":     on(func() { w.probe(w.any("running", running)) }),
		"probe all": on(w.probeAll),
		"empty":     on(func() { w.objects[w.any("who holds", func(_ string, o *objects) bool { return o.held > 0 })].held = 0 }),
		"": func(t *rapid.T) {
			w.t = t
			if up := w.votes(w.set.Validators); !w.faults && up < w.set.Threshold {
				t.Fatalf("%d of threshold %d are up, and nothing failed by itself", up, w.set.Threshold)
			}
		},
	}
	if w.faults {
		actions["fail"] = on(func() { w.stop(w.any("running", running)) })
		actions["cannot run"] = on(func() {
			name := w.any("running", running)
			w.stop(name)
			w.objects[name].waitsFor = true
		})
		actions["wipe"] = on(func() {
			name := w.any("with a store", func(name string, o *objects) bool { return o.store && !w.inSet(name) })
			w.stop(name)
			w.objects[name].store = false
		})
		actions["hibernate"] = on(func() { w.hibernated = true })
		actions["wake"] = on(func() { w.hibernated = false })
		actions["update"] = on(func() {
			for _, o := range w.objects {
				o.outdated = o.set != ""
			}
		})
	}
	return actions
}

// settle lets all be well, and wants the set that the spec asks for within a few steps.
func (w *world) settle() {
	var plan SetPlan
	w.hibernated = false
	for range 40 {
		w.height++
		for name, o := range w.objects {
			o.held = 0
			if !o.up {
				w.start(name)
			}
		}
		w.probeAll()
		plan = w.reconcile(false, false)
		if len(w.declared) > 0 {
			w.order(len(w.declared) - 1)
		}
	}
	var running []string
	for name, o := range w.objects {
		if o.set != "" {
			running = append(running, name)
		}
	}
	if plan.Action != SetKept || len(w.set.Validators) != w.n || w.set.Threshold != w.threshold || len(running) != w.n || w.file.Target != nil {
		w.t.Fatalf("%s: threshold %d of %d, want %d of %d; %s run: %s", plan.Action, w.set.Threshold, len(w.set.Validators), w.threshold, w.n,
			strings.Join(running, " "), plan.Message)
	}
	for _, name := range w.retire {
		if w.inSet(name) {
			w.t.Fatalf("%s is in the set, and was to retire", name)
		}
	}
}

// Without faults of nodes no change of the set and no eviction during it costs the quorum, of the
// set in force or of the one that follows.
//
// Promise 62.
func TestNoChangeCostsAQuorum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, false)
		w.remember()
		t.Repeat(w.actions())
	})
}

// Nodes fail, and the operator dies at any write. All the same no name is made twice, nobody is
// stopped that the chain may need, and no target names a validator that was in the set before. When
// all is well, the set becomes the one that the spec asks for.
//
// Promise 62.
func TestChangesOfTheSetSurviveFaultsAndConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, true)
		w.remember()
		t.Repeat(w.actions())
		w.t = t
		w.settle()
	})
}
