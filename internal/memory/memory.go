// Package memory bounds the memory that Go's garbage collector lets a process reach, before the
// kernel kills the process at the limit of its cgroup.
package memory

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// share of the limit that the collector may use. The rest is for memory that Go does not count:
// SQLite's, the stacks of threads.
const share = 0.9

// again is how often the limit is read again: it changes when a container is resized in place.
const again = time.Minute

// Limit sets GOMEMLIMIT to nine tenths of the limit of the process's cgroup, and follows the limit
// until ctx ends. That limit holds, wherever it comes from: the container's own resources, a
// LimitRange, a resize in place, systemd. It returns the bytes, and 0 if there is no limit.
//
// The environment variables GOMEMLIMIT and AUTOMEMLIMIT=off override that.
func Limit(ctx context.Context) (int64, error) { return limit(ctx, memlimit.FromCgroup, again) }

func limit(ctx context.Context, of memlimit.Provider, again time.Duration) (int64, error) {
	bytes, err := memlimit.Set(memlimit.WithRatio(share), memlimit.WithProvider(of), memlimit.WithRefreshInterval(ctx, again))
	switch {
	case errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return 0, nil
	case err != nil:
		return 0, err
	case bytes == math.MaxInt64:
		return 0, nil
	}
	return bytes, nil
}
