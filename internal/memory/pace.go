package memory

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// roomy is how far a busy process lets its heap grow, garbage included, before it spends more
	// processor time on collections than it must.
	roomy = 256 << 20
	// most and least are the garbage that may be there beside what is alive, in per cent of that.
	most, least = 300, 50
	// busy is the memory that a busy process allocates a second, at least. A node that orders
	// nothing allocates less.
	busy = 1 << 20
)

// Pace lets the collector trade memory for processor time while a process is busy. A busy process
// has up to three times as much garbage as live memory, as long as the heap stays below 256 MiB.
// An idle one, and one whose live memory is large, has half as much. A limit as set by [Limit]
// holds all the same.
//
// The environment variable GOGC overrides that: then Pace does nothing.
func Pace() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(least)
	p := &pacer{set: func(percent int) { debug.SetGCPercent(percent) }, read: read, percent: least, last: read()}
	p.arm()
}

// pacer chooses the percentage anew after each collection.
type pacer struct {
	set     func(percent int)
	read    func() reading
	percent int
	last    reading
}

// reading is what a process says of itself just after a collection: the bytes that this found
// alive, and those allocated since the start.
type reading struct {
	at               time.Time
	alive, allocated uint64
}

func read() reading {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	return reading{time.Now(), samples[0].Value.Uint64(), samples[1].Value.Uint64()}
}

// sentinel is garbage at once: its cleanup runs after the next collection. A pointer in it keeps
// it from sharing its memory with other small objects, which may live longer.
type sentinel struct{ _ *pacer }

func (p *pacer) arm() {
	runtime.AddCleanup(&sentinel{}, (*pacer).collected, p)
}

func (p *pacer) collected() {
	now := p.read()
	next := percent(now.alive, now.allocated-p.last.allocated, now.at.Sub(p.last.at))
	p.last = now
	if next != p.percent {
		p.percent = next
		p.set(next)
	}
	p.arm()
}

// percent returns the percentage for a process with so much live memory that allocated so much in
// a time. The percentage does not change how much a process allocates, so that the choice does not
// swing.
func percent(alive, allocated uint64, in time.Duration) int {
	if float64(allocated) < busy*in.Seconds() || alive == 0 {
		return least
	}
	room := (roomy - min(alive, roomy)) * 100 / alive
	return int(min(max(room, least), most))
}
