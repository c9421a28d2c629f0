package e2e

import (
	"context"
	"testing"
	"time"
)

// pollEvery is how often a condition is checked: often enough for times in tenths of a second,
// seldom enough for a small cluster.
const pollEvery = 200 * time.Millisecond

// soon is how long anything may take: enough for a machine that is busy with other things. The
// logged times show what took longer than usual.
const soon = 4 * time.Minute

// Eventually calls condition until it returns nil and returns how long that took. After within, the
// test ends with the last error.
func Eventually(tb testing.TB, within time.Duration, what string, condition func(context.Context) error) time.Duration {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), within)
	defer cancel()
	begun, told := time.Now(), time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := condition(ctx)
		elapsed := time.Since(begun).Round(100 * time.Millisecond)
		if err == nil {
			tb.Logf("%6.1fs %s", elapsed.Seconds(), what)
			return elapsed
		}
		if last == nil || ctx.Err() == nil {
			last = err // a check that the deadline cut off says less than the one before
		}
		if time.Since(told) > 20*time.Second {
			told = time.Now()
			tb.Logf("%6.1fs waiting: %s: %v", elapsed.Seconds(), what, last)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("%s: not within %v: %v", what, within, last)
		}
	}
}

// must ends the test on an error of what the test itself does.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
