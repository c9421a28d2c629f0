package nodes

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// fault is one that is there; end takes it off.
type fault struct {
	name string
	end  func()
}

// trouble lets faults come and go for a number of steps: at most as many nodes are down as the
// network goes on without.
func (w *world) trouble(steps int) {
	w.Helper()
	var faults []fault
	end := func(i int) {
		w.note("end of %s", faults[i].name)
		faults[i].end()
		faults = slices.Delete(faults, i, i+1)
	}
	for range steps {
		time.Sleep(time.Duration(100+w.rng.IntN(1500)) * time.Millisecond)
		for i := range slices.Backward(faults) {
			if w.rng.IntN(3) == 0 {
				end(i)
			}
		}
		if len(faults) < 4 {
			if f := w.draw(); f.end != nil {
				faults = append(faults, f)
			}
		}
	}
	for len(faults) > 0 {
		end(0)
	}
	w.wire.calm()
}

// draw makes a fault; one without an end is over at once.
func (w *world) draw() fault {
	a, b := w.pair()
	switch w.rng.IntN(6) {
	case 0:
		return w.partition()
	case 1:
		latency := time.Duration(20+w.rng.IntN(800)) * time.Millisecond
		return w.slow(a, b, latency)
	case 2:
		w.note("connections between %s and %s lost", a, b)
		w.wire.lose(a, b)
	case 3:
		return w.isolate(a)
	default:
		return w.killSome()
	}
	return fault{}
}

func (w *world) pair() (a, b string) {
	p := w.rng.Perm(len(w.nodes))
	return w.nodes[p[0]].name, w.nodes[p[1]].name
}

// hold holds ways until the fault ends; the name says which.
func (w *world) hold(name string, ways []way) fault {
	w.note("%s", name)
	for _, at := range ways {
		w.wire.set(at, condition{latency: usualLatency, held: true})
	}
	return fault{name: name, end: func() {
		for _, at := range ways {
			w.wire.set(at, condition{latency: usualLatency})
		}
	}}
}

// partition parts the nodes in two, at random; a third of the time one side still hears the other.
func (w *world) partition() fault {
	p := w.rng.Perm(len(w.nodes))
	split := 1 + w.rng.IntN(len(p)-1)
	oneWay := w.rng.IntN(3) == 0
	var ways []way
	sides := [2][]string{}
	for i, k := range p {
		side := min(i/split, 1)
		sides[side] = append(sides[side], w.nodes[k].name)
	}
	for _, a := range sides[0] {
		for _, b := range sides[1] {
			ways = append(ways, way{a, b})
			if !oneWay {
				ways = append(ways, way{b, a})
			}
		}
	}
	arrow := " | "
	if oneWay {
		arrow = " -/-> "
	}
	return w.hold("partition "+strings.Join(sides[0], ",")+arrow+strings.Join(sides[1], ","), ways)
}

// isolate cuts a node off from its peers, not from its clients.
func (w *world) isolate(host string) fault {
	var ways []way
	for _, m := range w.nodes {
		if m.name != host {
			ways = append(ways, way{host, m.name}, way{m.name, host})
		}
	}
	return w.hold(host+" isolated", ways)
}

func (w *world) slow(a, b string, latency time.Duration) fault {
	name := fmt.Sprintf("%s -> %s takes %v", a, b, latency)
	w.note("%s", name)
	w.wire.set(way{a, b}, condition{latency: latency})
	return fault{name: name, end: func() { w.wire.set(way{a, b}, condition{latency: usualLatency}) }}
}

// killSome kills a node or more, as long as the threshold is up.
func (w *world) killSome() fault {
	if w.quorums != nil {
		return w.killSpare()
	}
	var up []*member
	for _, m := range w.validators() {
		if m.life != nil {
			up = append(up, m)
		}
	}
	most := len(up) - int(w.genesis.Threshold)
	if most < 1 {
		return fault{}
	}
	w.rng.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	victims := up[:1+w.rng.IntN(most)]
	w.kill(victims...)
	return fault{name: "a death", end: func() {
		for _, m := range victims {
			w.launch(m)
		}
	}}
}

// killSpare kills a node or two that each set can do without, members or not.
func (w *world) killSpare() fault {
	var victims []*member
	for _, i := range w.rng.Perm(len(w.all)) {
		m := w.all[i]
		more := append(slices.Clone(victims), m)
		needed := func(q quorum) bool { return slices.Contains(q.members, m) && !q.spares(more...) }
		if m.life != nil && len(more) <= 1+w.rng.IntN(2) && !slices.ContainsFunc(w.quorums, needed) {
			victims = more
		}
	}
	if len(victims) == 0 {
		return fault{}
	}
	w.kill(victims...)
	return fault{name: "a death", end: func() {
		for _, m := range victims {
			w.launch(m)
		}
	}}
}
