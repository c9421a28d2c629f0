package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/diseq/diseq/node/internal/seats"
)

// The memory that answers pin is bounded in bytes. A handler that keeps more than smallAnswer until
// its client has taken the answer holds a seat for it. When the bytes run out, the client that
// takes its answer most slowly is cut off, if that is slower than minRate. So readers that take
// nothing cost little and keep nobody out.
const (
	// smallAnswer is how much of an answer every request may pin.
	smallAnswer = chunkBytes
	// minRate is how many bytes a second a client takes or sends at least, if others wait for the
	// room that it holds; rateGrace is how much later than that each byte may be.
	minRate   = 64 << 10
	rateGrace = time.Second
	// answerPatience is how long an answer stands still before it gives way to a client that has as
	// much under way.
	answerPatience = time.Second / 2
	// busyWait is how long a request waits for room before it is refused.
	busyWait = 5 * time.Second
)

// pace says from when on a transfer counts as idle: as soon as it is rateGrace behind minRate.
type pace struct{ due time.Time }

func newPace(grace time.Duration) pace { return pace{time.Now().Add(grace)} }

// moved counts n more bytes. A transfer that was faster may not be later for that.
func (p *pace) moved(n int, grace time.Duration) time.Time {
	p.due = p.due.Add(time.Duration(n) * time.Second / minRate)
	if latest := time.Now().Add(grace); p.due.After(latest) {
		p.due = latest
	}
	return p.due
}

// clientKey names the client on whose account a request takes room: its name if it has one, else
// its address. The 2^64 addresses of an IPv6 network belong to one client.
func clientKey(r *http.Request) string {
	if v := visitOf(r); v != nil && !v.id.Anonymous() {
		return "client " + v.id.Name
	}
	return addressKey(r.RemoteAddr)
}

func addressKey(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}

// busy is the answer to a request for which there is no room; other errors of Take are passed on.
func busy(err error, what string) error {
	if errors.Is(err, seats.ErrFull) || errors.Is(err, seats.ErrMost) {
		return &apiError{http.StatusServiceUnavailable, busyCode, what + ": try again", time.Second}
	}
	return err
}

func isBusy(err error) bool {
	var answer *apiError
	return errors.As(err, &answer) && answer.code == busyCode
}

const busyCode = "busy"

const busyAnswers = "too many large answers are under way"

// hold takes room for n bytes that the handler keeps until the client has taken them. The caller
// calls release; it is never nil.
func (s *Server) hold(w http.ResponseWriter, r *http.Request, n int) (release func(), err error) {
	rw, ok := w.(*response)
	if n <= smallAnswer || !ok {
		return func() {}, nil
	}
	seat, err := s.answers.Take(r.Context(), seats.Claim{
		Key: clientKey(r), Weight: int64(n), Wait: busyWait, GiveWay: func() { s.cutOff(rw) },
	})
	if err != nil {
		return func() {}, busy(err, busyAnswers)
	}
	return rw.pin(seat), nil
}

// cutOff ends an answer whose client does not take it.
func (s *Server) cutOff(rw *response) {
	s.metrics.gaveWay.WithLabelValues("answer").Inc()
	rw.end()
}

// load takes a turn to read blocks and to make an answer of them, which takes much more memory for
// a moment than the answer. The caller calls release; it is never nil, and may be called again.
func (s *Server) load(ctx context.Context, key string) (release func(), err error) {
	seat, err := s.loads.Take(ctx, seats.Claim{Key: key, Wait: busyWait})
	if err != nil {
		return func() {}, busy(err, "too many answers are being made")
	}
	return seat.Release, nil
}

// idler is a part of what a Server bounds. IdleFrom says when it counts as idle.
type idler interface{ IdleFrom(t time.Time) }

// pins are what a response holds until its client has taken it, and its pace.
type pins struct {
	mu   sync.Mutex
	held map[idler]struct{}
	pace pace
}

// pin has a seat told how the client takes the answer, until release, which releases the seat too.
func (w *response) pin(seat *seats.Seat) (release func()) {
	unpin := w.watch(seat)
	return func() {
		unpin()
		seat.Release()
	}
}

func (w *response) watch(i idler) (stop func()) {
	w.pins.mu.Lock()
	defer w.pins.mu.Unlock()
	if w.pins.held == nil {
		w.pins.held = map[idler]struct{}{}
	}
	if len(w.pins.held) == 0 {
		w.pins.pace = newPace(rateGrace) // nothing was pinned while it was slow before
	}
	w.pins.held[i] = struct{}{}
	i.IdleFrom(w.pins.pace.due)
	return func() {
		w.pins.mu.Lock()
		defer w.pins.mu.Unlock()
		delete(w.pins.held, i)
	}
}

// took says that the client has taken n bytes.
func (w *response) took(n int) {
	if w.place != nil {
		w.place.IdleFrom(time.Now().Add(servingGrace))
	}
	w.pins.mu.Lock()
	defer w.pins.mu.Unlock()
	if len(w.pins.held) == 0 {
		return
	}
	due := w.pins.pace.moved(n, rateGrace)
	for i := range w.pins.held {
		i.IdleFrom(due)
	}
}

// end breaks the answer off, from any goroutine: the client sees that it is not whole.
func (w *response) end() {
	w.ends.Lock()
	defer w.ends.Unlock()
	if w.done {
		return // the connection may be at the next request
	}
	w.ended = true
	_ = w.control.SetWriteDeadline(time.Unix(1, 0)) // writers of tests have none
}

// stopReading fails the reading of the body, from any goroutine.
func (w *response) stopReading() {
	w.ends.Lock()
	defer w.ends.Unlock()
	if !w.done && !w.bodyDone {
		_ = w.control.SetReadDeadline(time.Unix(1, 0))
	}
}

// bodyRead says that the body is read: the answer may take as long as the client is willing to
// wait.
func (w *response) bodyRead() {
	w.ends.Lock()
	defer w.ends.Unlock()
	w.bodyDone = true
	w.readDeadline(time.Time{})
}

// endWithin lets the handler write for so long only, from any goroutine.
func (w *response) endWithin(d time.Duration) {
	w.ends.Lock()
	defer w.ends.Unlock()
	if !w.done {
		w.latest = time.Now().Add(d)
		_ = w.control.SetWriteDeadline(w.latest)
	}
}

// finish says that the handler has returned.
func (w *response) finish() {
	w.ends.Lock()
	defer w.ends.Unlock()
	w.done = true
	if w.ended {
		panic(http.ErrAbortHandler) // net/http would make the answer look whole
	}
}

// pieces writes an answer a piece at a time. So the part that waits for the client is short.
type pieces struct {
	w           http.ResponseWriter
	status      int
	contentType string
	begun, gone bool
	out         []byte
	// length is how long the answer is so far.
	length int
}

func (p *pieces) text(s string) {
	p.out = append(p.out, s...)
	p.flushLong()
}

// flushLong sends the pieces once there is something to send.
func (p *pieces) flushLong() {
	if len(p.out) >= chunkBytes {
		p.flush()
	}
}

// flush sends the pieces so far.
func (p *pieces) flush() {
	if !p.begun {
		p.w.Header().Set("Content-Type", p.contentType)
		p.w.WriteHeader(p.status)
		p.begun = true
	}
	p.length += len(p.out)
	if !p.gone {
		_, err := p.w.Write(p.out)
		p.gone = err != nil
	}
	p.out = p.out[:0]
}

// fail returns the error of an answer that has not begun. One that has is broken off.
func (p *pieces) fail(s *Server, r *http.Request, err error) error {
	if !p.begun {
		return err
	}
	_ = s.brokenOff(r, err) // the client sees that the answer is not whole
	if rw, ok := p.w.(*response); ok {
		rw.end()
	}
	return nil
}
