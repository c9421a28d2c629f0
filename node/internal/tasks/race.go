package tasks

import (
	"context"
	"sync"
	"time"
)

// Race gets something that several sources may have. It calls get with the first source, and with
// the next one each time that a source has failed, or that the one before has had its lead. The
// lead doubles each time, so that a slow network does not carry everything many times. Each call is
// a goroutine of its own. So a source that is silent, or slow on purpose, costs its lead and no
// more. take judges each result, one after the other, on the caller's goroutine. Once take
// returns true the other calls are ended, and Race returns true. It returns false when all sources
// have failed, or ctx has ended.
func Race[S, T any](
	ctx context.Context, sources []S, lead time.Duration, get func(context.Context, S) (T, error), take func(S, T, error) bool,
) bool {
	type result struct {
		source S
		value  T
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	results := make(chan result, len(sources))
	timer := time.NewTimer(lead)
	defer timer.Stop()
	running := 0
	begin := func() {
		if len(sources) == 0 {
			return
		}
		source := sources[0]
		sources = sources[1:]
		running++
		calls.Go(func() {
			value, err := get(ctx, source)
			results <- result{source, value, err}
		})
		timer.Reset(lead)
	}
	for begin(); running > 0; {
		select {
		case <-ctx.Done():
			return false
		case r := <-results:
			running--
			if take(r.source, r.value, r.err) {
				return true
			}
			begin()
		case <-timer.C:
			lead *= 2
			begin()
		}
	}
	return false
}
