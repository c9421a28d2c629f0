package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/diseq/diseq/node/internal/seats"
)

// smallBody is how much of a body every request may hold. For more, it takes one of
// Limits.LargeBodies places.
const smallBody = 64 << 10

// readBody reads a body of at most limit bytes. The caller calls release once it no longer needs
// memory in proportion to the body; it is never nil.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	release = func() {}
	if r.ContentLength > limit {
		return nil, release, &http.MaxBytesError{Limit: limit}
	}
	reader := http.MaxBytesReader(w, r.Body, limit)
	// A length that the client only claims must not allocate more than the small part.
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), smallBody)+bytes.MinRead))
	if _, err := io.CopyN(buffer, reader, smallBody); err == nil {
		rw, _ := w.(*response)
		place, err := s.large.take(r, seats.Claim{
			Key: clientKey(r), Most: s.mostLarge, Wait: s.limits.BodyTimeout, GiveWay: func() {
				s.metrics.gaveWay.WithLabelValues("body").Inc()
				rw.stopReading()
			},
		})
		if err != nil {
			return nil, release, fmt.Errorf("read body: %w", busy(err, "too many large requests at the same time"))
		}
		if r.ContentLength > 0 {
			buffer.Grow(int(r.ContentLength) - buffer.Len() + bytes.MinRead)
		}
		_, err = buffer.ReadFrom(newPaced(reader, place))
		place.IdleFrom(time.Time{}) // the client has no part in what follows
		if err != nil {
			gaveWay := place.GaveWay()
			place.Release()
			if gaveWay && errors.Is(err, os.ErrDeadlineExceeded) {
				return nil, release, busy(seats.ErrFull, "the body arrived too slowly while others waited")
			}
			return nil, release, bodyError(err)
		}
		release = place.Release
	} else if err != io.EOF {
		return nil, release, bodyError(err)
	}
	if rw, ok := w.(*response); ok {
		rw.bodyRead()
	}
	return buffer.Bytes(), release, nil
}

// bodyGrace is how far behind minRate a large body may be before it counts as idle, bodyPatience
// for how long it is idle before it gives way to a client that has as many under way.
const (
	bodyGrace    = 500 * time.Millisecond
	bodyPatience = 250 * time.Millisecond
)

// paced is a body that holds a place, and says when it counts as idle.
type paced struct {
	io.Reader
	place *held
	pace  pace
}

func newPaced(r io.Reader, place *held) *paced {
	p := &paced{r, place, newPace(bodyGrace)}
	place.IdleFrom(p.pace.due)
	return p
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.place.IdleFrom(p.pace.moved(n, bodyGrace))
	return n, err
}

// bodyError tells a body that was too long or too slow from one that ended early or was badly
// framed: all are the client's.
func bodyError(err error) error {
	var long *http.MaxBytesError
	if errors.As(err, &long) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read body: %w", err)
	}
	return badRequest("the body ended early or is badly framed")
}
