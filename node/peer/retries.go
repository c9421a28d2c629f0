package peer

import (
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// retries decides when a peer is dialled again. A link that fell soon after it was up counts like
// an attempt that failed: with each link a peer is sent everything that it may lack.
type retries struct {
	settings settings
	attempt  int
	// early are the times that a peer which connects to this node is dialled at once. One that
	// comes and goes all the time settles its own back-off.
	early *rate.Limiter
}

// earlyDials is how often a peer may show up and be dialled at once, before each such time takes
// settings.stable.
const earlyDials = 3

func newRetries(s settings) *retries {
	return &retries{settings: s, early: rate.NewLimiter(rate.Every(s.stable), earlyDials)}
}

// after returns how long to wait after a link that lasted for a time, 0 if it was never up, and
// ended with err.
func (r *retries) after(lasted time.Duration, err error) time.Duration {
	if lasted >= r.settings.stable {
		r.attempt = 0
	}
	pause := r.settings.backoff(r.attempt, err)
	r.attempt++
	return pause
}

// atOnce reports whether a peer that has just connected to this node is dialled without the rest of
// the wait.
func (r *retries) atOnce() bool {
	if !r.early.Allow() {
		return false
	}
	r.attempt = 1
	return true
}

// backoff returns how long to wait after the attempt of that number, the first being 0, failed with
// err: doubling, a fifth more or less at random so that nodes which failed together do not return
// together.
func (s settings) backoff(attempt int, err error) time.Duration {
	pause := min(s.maxBackoff, s.minBackoff<<min(attempt, 16))
	if errors.Is(err, errOtherChain) {
		pause = s.refusedBackoff
	}
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}
