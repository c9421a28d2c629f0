package patient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/store"
)

func newWriter(ctx context.Context) *Writer {
	return &Writer{Ctx: ctx, Full: prometheus.NewCounter(prometheus.CounterOpts{}), Logger: slog.New(slog.DiscardHandler)}
}

// Promise 22.
func TestAWriteWaitsWhileTheDiskIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := fmt.Errorf("blocks.db: %w", store.ErrDiskFull)
		broken := errors.New("broken")
		for _, last := range []error{nil, broken} {
			answers := []error{full, full, full, last}
			began, writes := time.Now(), 0
			w := newWriter(t.Context())
			err := w.write("block", func() error {
				if waiting := writes > 0; (w.Waiting() != nil) != waiting {
					t.Errorf("write %d: it waits: %v, want %v", writes+1, w.Waiting(), waiting)
				}
				writes++
				return answers[writes-1]
			})
			if !errors.Is(err, last) || writes != len(answers) || time.Since(began) != 3*retryInterval {
				t.Errorf("%v after %d writes and %v, want %v after %d and %v", err, writes, time.Since(began), last, len(answers), 3*retryInterval)
			}
			if w.Waiting() != nil {
				t.Error("it waits after its end")
			}
		}
	})
}

func TestAWriteThatWaitsEndsWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := newWriter(ctx).write("block", func() error { return store.ErrDiskFull })
		if !errors.Is(err, store.ErrDiskFull) || ctx.Err() == nil {
			t.Errorf("%v before the node stops, want %v after", err, store.ErrDiskFull)
		}
	})
}
