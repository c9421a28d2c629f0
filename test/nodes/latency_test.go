package nodes

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Under a light load a message waits for messages between nodes, of which the way to finality takes
// six, and for little else. Processors and disks take no time here, so that the figures show the
// waits alone.
func TestAMessageWaitsForVotesAndForLittleElse(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3}, func(w *world) {
		w.start(w.nodes...)
		const messages, pause = 200, 10 * time.Millisecond
		took := make([]time.Duration, messages)
		var clients sync.WaitGroup
		for i := range messages {
			// Each a little later than the one before, in relation to the blocks.
			<-time.After(pause + time.Duration(i%7)*time.Millisecond/3)
			clients.Go(func() {
				begun := time.Now()
				if _, err := w.nodes[i%4].client.SubmitWait(w.ctx, fmt.Appendf(nil, "message %d", i)); err != nil {
					w.Errorf("message %d: %v", i, err)
				}
				took[i] = time.Since(begun)
			})
		}
		clients.Wait()
		slices.Sort(took)
		median, p99 := took[messages/2], took[messages*99/100]
		height := w.nodes[0].status().Height
		w.Logf("of %d messages, one in %v: median %v, 99 in 100 within %v; %d blocks", messages, pause, median, p99, height)
		if limit := 9 * usualLatency; median > limit {
			w.Errorf("the median is %v, want %v at most: six messages and a half block", median, limit)
		}
	})
}
