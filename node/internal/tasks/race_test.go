package tasks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A source that is silent costs its lead, one that fails costs nothing, and the calls that are not
// needed any more are ended.
func TestRace(t *testing.T) {
	const lead = time.Second
	failed := errors.New("failed")
	for _, c := range []struct {
		name  string
		takes []time.Duration // by source; negative: it fails then
		took  time.Duration
		from  int // -1: none has it
		asked []int
	}{
		{"the first has it", []time.Duration{10, 10}, 10, 0, []int{0}},
		{"the first is silent", []time.Duration{time.Hour, 10}, lead + 10, 1, []int{0, 1}},
		{"two are silent", []time.Duration{time.Hour, time.Hour, 10, 10}, 3*lead + 10, 2, []int{0, 1, 2}},
		{"the first fails", []time.Duration{-10, 10}, 20, 1, []int{0, 1}},
		{"the first is slow and all the same the faster one", []time.Duration{lead + 10, 20}, lead + 10, 0, []int{0, 1}},
		{"all fail", []time.Duration{-10, -10}, 20, -1, []int{0, 1}},
		{"there is none", nil, 0, -1, nil},
		{"it is over before", []time.Duration{time.Hour}, time.Minute, -1, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var mu sync.Mutex
				var asked []int
				sources := make([]int, len(c.takes))
				for i := range sources {
					sources[i] = i
				}
				began, from := time.Now(), -1
				won := Race(ctx, sources, lead, func(ctx context.Context, source int) (int, error) {
					mu.Lock()
					asked = append(asked, source)
					mu.Unlock()
					select {
					case <-time.After(max(c.takes[source], -c.takes[source])):
						if c.takes[source] < 0 {
							return 0, failed
						}
						return source, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				}, func(source, value int, err error) bool {
					if err == nil {
						from = value
					}
					return err == nil && source == value
				})
				if took := time.Since(began); won != (c.from >= 0) || from != c.from || took != c.took || !slices.Equal(asked, c.asked) {
					t.Errorf("won %v from %d after %v, asked %v; want from %d after %v, asked %v", won, from, took, asked, c.from, c.took, c.asked)
				}
			})
		})
	}
}
