// Package wait pauses a goroutine for a time, or until its context ends.
package wait

import (
	"context"
	"time"
)

// For returns nil after d, or the error of ctx if ctx ends first.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
