package mempool

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// spaceChecked is for how long one look at the free space counts.
	spaceChecked = time.Second
	// writeFailed is for how long after a failed write the pool reports that it cannot store
	// messages. A quota may refuse writes while the disk has space, so that only another write can
	// show that it ended.
	writeFailed = 10 * time.Second
)

// space says whether messages can be stored. It logs when that changes.
type space struct {
	free   func() (uint64, error) // nil for no check
	logger *slog.Logger

	mu      sync.Mutex
	checked time.Time
	low     error
	err     error // of a write that failed at a time
	failed  time.Time
}

// check returns an [ErrStorageLow] while the free space is below [MinFreeDisk].
func (s *space) check() error {
	if s.free == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.checked.IsZero() && now.Sub(s.checked) < spaceChecked {
		return s.low
	}
	s.checked = now
	bytes, err := s.free()
	switch {
	case err != nil:
		s.logger.Warn("the free disk space is unknown", "err", err)
		s.low = nil
	case bytes < MinFreeDisk:
		low := fmt.Errorf("%w: %d MiB are free on the disk, %d MiB must be", ErrStorageLow, bytes>>20, MinFreeDisk>>20)
		if s.low == nil {
			s.logger.Error("this node accepts no messages until there is space: free space on the disk or grow the volume", "err", low)
		}
		s.low = low
	case s.low != nil:
		s.logger.Info("there is space on the disk again: this node accepts messages")
		s.low = nil
	}
	return s.low
}

// writable returns an [ErrStorageLow] as check does, and for writeFailed after a failed write.
func (s *space) writable() error {
	if err := s.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil && time.Since(s.failed) < writeFailed {
		return fmt.Errorf("%w: the last write failed: %w", ErrStorageLow, s.err)
	}
	return nil
}

// wrote notes the outcome of a write of messages.
func (s *space) wrote(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.failed = err, time.Now()
}
