package memory

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// keep puts the limit of the process back after a test.
func keep(t *testing.T) {
	t.Helper()
	old := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(old) })
}

func TestTheCollectorMayUseNineTenthsOfTheLimit(t *testing.T) {
	broken := errors.New("no such file")
	for name, tt := range map[string]struct {
		provider memlimit.Provider
		returned int64
		limit    int64
		err      error
	}{
		"a limit":        {memlimit.Limit(1 << 30), 966367641, 966367641, nil},
		"no limit":       {func() (uint64, error) { return 0, memlimit.ErrNoLimit }, 0, math.MaxInt64, nil},
		"no cgroup":      {func() (uint64, error) { return 0, memlimit.ErrNoCgroup }, 0, math.MaxInt64, nil},
		"unreadable one": {func() (uint64, error) { return 0, broken }, 0, math.MaxInt64, broken},
	} {
		t.Run(name, func(t *testing.T) {
			keep(t)
			debug.SetMemoryLimit(math.MaxInt64)
			got, err := limit(context.Background(), tt.provider, 0)
			if got != tt.returned || !errors.Is(err, tt.err) {
				t.Errorf("returned %d, %v", got, err)
			}
			if set := debug.SetMemoryLimit(-1); set != tt.limit {
				t.Errorf("the limit is %d, want %d", set, tt.limit)
			}
		})
	}
}

func TestAUsersOwnLimitIsKept(t *testing.T) {
	keep(t)
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	if _, err := limit(context.Background(), memlimit.Limit(4<<30), 0); err != nil || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("the limit is %d, %v", debug.SetMemoryLimit(-1), err)
	}
}

// A container that is resized in place is not started again.
func TestTheLimitIsFollowed(t *testing.T) {
	keep(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var now atomic.Uint64
		now.Store(1 << 30)
		if _, err := limit(ctx, func() (uint64, error) { return now.Load(), nil }, again); err != nil {
			t.Fatal(err)
		}
		now.Store(2 << 30)
		time.Sleep(again + time.Second)
		synctest.Wait()
		if set := debug.SetMemoryLimit(-1); set != 1932735283 {
			t.Errorf("the limit is %d after the resize", set)
		}
	})
}
