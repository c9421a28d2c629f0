package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/diseq/diseq/node/internal/seats"
)

// shared is something that clients take places of. Clients without a name take theirs among those
// that the reserve of the access file leaves, and compete for them with each other alone.
type shared struct {
	places   int
	patience time.Duration
	all      *seats.Limiter

	mu sync.Mutex
	// strangers bounds clients without a name; it is nil while the reserve keeps nothing. A change
	// of the reserve makes a new one. Places taken of the old one count among all until they are
	// released.
	strangers *seats.Limiter
	left      int
}

func newShared(places int, patience time.Duration) *shared {
	return &shared{places: places, patience: patience, all: seats.New(int64(places), patience), left: places}
}

// of returns the limiter of strangers if the client of a request is one, nil if it is not, or if
// nothing is reserved.
func (s *shared) of(r *http.Request) *seats.Limiter {
	v := visitOf(r)
	if v == nil || !v.id.Anonymous() {
		return nil
	}
	left := max(1, v.id.Share(s.places))
	s.mu.Lock()
	defer s.mu.Unlock()
	if left != s.left {
		s.left, s.strangers = left, nil
		if left < s.places {
			s.strangers = seats.New(int64(left), s.patience)
		}
	}
	return s.strangers
}

// take takes a place for a request.
func (s *shared) take(r *http.Request, c seats.Claim) (*held, error) {
	c.GiveWay = sync.OnceFunc(c.GiveWay)
	h := &held{}
	for _, l := range []*seats.Limiter{s.of(r), s.all} {
		if l == nil {
			continue
		}
		place, err := l.Take(r.Context(), c)
		if err != nil {
			h.Release()
			return nil, err
		}
		h.places = append(h.places, place)
	}
	return h, nil
}

// held are the places of one request, which it takes, uses and leaves together.
type held struct{ places []*seats.Seat }

// IdleFrom says from when on the places count as idle.
func (h *held) IdleFrom(t time.Time) {
	for _, place := range h.places {
		place.IdleFrom(t)
	}
}

// GaveWay reports whether the request was asked to give way.
func (h *held) GaveWay() bool {
	for _, place := range h.places {
		if place.GaveWay() {
			return true
		}
	}
	return false
}

// Release gives the places back. Further calls do nothing.
func (h *held) Release() {
	for _, place := range h.places {
		place.Release()
	}
}
