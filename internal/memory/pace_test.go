package memory

import (
	"runtime"
	"testing"
	"time"
)

func TestABusyProcessTradesMemoryForProcessorTime(t *testing.T) {
	for name, tt := range map[string]struct {
		alive, allocated uint64
		in               time.Duration
		want             int
	}{
		"idle":                             {20 << 20, 10 << 20, time.Minute, least},
		"idle, with much that is alive":    {1 << 30, 10 << 20, time.Minute, least},
		"busy":                             {20 << 20, 10 << 20, time.Second, most},
		"busy, collections far apart":      {20 << 20, 60 << 20, time.Minute, most},
		"busy, as much as 256 MiB hold":    {64 << 20, 32 << 20, time.Second, most},
		"busy, less than that":             {128 << 20, 64 << 20, time.Second, 100},
		"busy, with much that is alive":    {220 << 20, 110 << 20, time.Second, least},
		"busy, with more than 256 MiB":     {1 << 30, 1 << 29, time.Second, least},
		"before a collection found a byte": {0, 10 << 20, time.Second, least},
	} {
		if got := percent(tt.alive, tt.allocated, tt.in); got != tt.want {
			t.Errorf("%s: %d%%, want %d%%", name, got, tt.want)
		}
	}
}

func TestReadingsAreOfThisProcess(t *testing.T) {
	kept := make([]byte, 8<<20)
	runtime.GC()
	first := read()
	kept = append(kept, make([]byte, 32<<20)...)
	runtime.GC()
	second := read()
	if first.alive < 8<<20 || second.alive-first.alive < 16<<20 || second.allocated-first.allocated < 32<<20 || !second.at.After(first.at) {
		t.Errorf("read %+v, and %+v after 32 MiB more", first, second)
	}
	runtime.KeepAlive(kept)
}

// The percentage is chosen anew after each collection, not only after the first.
func TestThePaceFollowsTheCollections(t *testing.T) {
	chosen, ended := make(chan int), make(chan struct{})
	defer close(ended)
	// It is busy, idle, busy ...
	now, step := reading{at: time.Unix(1, 0), alive: 20 << 20}, uint64(0)
	p := &pacer{percent: least, last: now, read: func() reading {
		step++
		now.at = now.at.Add(time.Second)
		now.allocated += 10 * busy * (step % 2)
		return now
	}, set: func(percent int) {
		select {
		case chosen <- percent:
		case <-ended:
		}
	}}
	p.arm()
	deadline := time.After(time.Minute)
	for i, want := range []int{most, least, most} {
		for got := 0; got != want; {
			runtime.GC()
			select {
			case got = <-chosen:
				if got != want {
					t.Fatalf("after collection %d it chose %d%%, want %d%%", i+1, got, want)
				}
			case <-deadline:
				t.Fatalf("it chose no percentage after collection %d", i+1)
			case <-time.After(time.Millisecond):
			}
		}
	}
}
