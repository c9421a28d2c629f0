package server

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
)

// stream sends final blocks from a height on, then each new one. It reads them by height at the
// pace at which the client takes them, so that nothing is queued for a slow reader and nothing is
// skipped.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) error {
	next, err := s.streamStart(r)
	if err != nil {
		return err
	}
	withMessages, err := messagesWanted(r.URL.Query())
	if err != nil {
		return err
	}
	r, closed, err := s.openStream(w, r)
	if err != nil {
		return err
	}
	defer closed()
	out := &streamWriter{
		w: w, control: http.NewResponseController(w), events: wantsEvents(r.Header.Values("Accept")), gaveWay: make(chan struct{}),
	}
	place, err := s.streams.take(r, seats.Claim{Key: clientKey(r), Wait: streamWait, GiveWay: func() {
		s.metrics.gaveWay.WithLabelValues("stream").Inc()
		close(out.gaveWay)
		if rw, ok := w.(*response); ok {
			rw.endWithin(streamFarewell)
		}
	}})
	if errors.Is(err, seats.ErrFull) {
		return &apiError{
			http.StatusServiceUnavailable, "too_many_streams",
			fmt.Sprintf("%d streams are open already: try again later", s.limits.Streams), 10 * time.Second,
		}
	}
	if err != nil {
		return err
	}
	defer place.Release()
	out.place = place
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	if err := out.start(next, r.Method == http.MethodHead); err != nil || r.Method == http.MethodHead {
		return nil
	}
	if err := s.copyBlocks(w, r, out, next, withMessages); err != nil && r.Context().Err() == nil {
		s.log.Debug("stream ended", "err", err)
	}
	return nil
}

// copyBlocks returns when the client or the server goes away, or when reading a block fails. The
// client is sent the reason of such a failure, and resumes where it was.
func (s *Server) copyBlocks(w http.ResponseWriter, r *http.Request, out *streamWriter, next uint64, withMessages bool) error {
	ctx := r.Context()
	heartbeat := time.NewTicker(s.limits.Heartbeat)
	defer heartbeat.Stop()
	for {
		out.place.IdleFrom(time.Now()) // it has nothing to send
		last, changed := s.backend.FinalHeight()
		for ; next <= last; next++ {
			if s.isStopping() {
				return nil
			}
			if out.place.GaveWay() {
				return out.failure(errGaveWay)
			}
			block, err := s.encodeBlock(w, r, next, withMessages)
			for isBusy(err) && ctx.Err() == nil && !s.isStopping() {
				block, err = s.encodeBlock(w, r, next, withMessages) // it has waited for room, and waits on
			}
			if err != nil {
				if ctx.Err() != nil || isBusy(err) {
					return err
				}
				return out.failure(s.brokenOff(r, err))
			}
			err = out.block(next, block)
			block.close()
			if err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-heartbeat.C:
			if err := out.heartbeat(); err != nil {
				return err
			}
		case <-out.gaveWay:
			return out.failure(errGaveWay)
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return nil
		}
	}
}

const (
	// streamPatience is how long a stream sends nothing before it gives way to a client that has as
	// many, streamWait how long a newcomer waits for a place.
	streamPatience = 10 * time.Second
	streamWait     = 2 * time.Second
	// streamFarewell is how long a stream that gives way has to send the reason.
	streamFarewell = 250 * time.Millisecond
)

// errGaveWay ends a stream that was idle. Its client resumes it, here or at another node.
var errGaveWay = &apiError{
	status: http.StatusServiceUnavailable, code: unavailableCode,
	message: "the node has too many streams, and this one was idle: resume it, better at another node",
}

// leaves reports whether the node is about to stop: Drain was called, or the server stops.
func (s *Server) leaves() bool { return s.draining.Load() || s.isStopping() }

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// streamStart returns the first height to send: after Last-Event-ID, which a reconnecting event
// source adds to the URL it began with and which therefore wins; else ?from=; else the next block
// to become final.
func (s *Server) streamStart(r *http.Request) (uint64, error) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		height, err := parseHeight("Last-Event-ID", id)
		if err != nil {
			return 0, err
		}
		if height == chain.MaxNumber {
			return 0, badRequest("Last-Event-ID %q: there is no height after it", id)
		}
		return height + 1, nil
	}
	if q := r.URL.Query(); q.Has("from") {
		return parseHeight("from", q.Get("from"))
	}
	last, _ := s.backend.FinalHeight()
	return last + 1, nil
}

// wantsEvents reports whether text/event-stream is named and not less wanted than
// application/x-ndjson. A client that asks for neither gets the latter.
func wantsEvents(accept []string) bool {
	events, lines := -1.0, 0.0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		mediaType, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		quality := 1.0
		if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
			quality = q
		}
		switch mediaType {
		case "text/event-stream":
			events = quality
		case "application/x-ndjson", "application/ndjson":
			lines = quality
		}
	}
	return events > 0 && events >= lines
}

// streamWriter frames blocks: as server-sent events (WHATWG HTML, section 9.2) or as lines of JSON.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool
	// place is the stream's place; gaveWay is closed when it has to leave.
	place   *held
	gaveWay chan struct{}
}

// positionHeader names the first height that a stream sends.
const positionHeader = "Diseq-Stream-From"

// start says where the stream begins, before there is a block: a client that asked for new blocks
// resumes there if the connection breaks before the first. An event with an id alone sets the
// client's last event id and dispatches nothing (WHATWG HTML, section 9.2.6).
func (s *streamWriter) start(next uint64, head bool) error {
	h := s.w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	if s.events {
		h.Set("Content-Type", "text/event-stream")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold back the last blocks
	h.Set(positionHeader, strconv.FormatUint(next, 10))
	s.w.WriteHeader(http.StatusOK)
	if s.events && next > 0 && !head {
		if _, err := fmt.Fprintf(s.w, "id: %d\n\n", next-1); err != nil {
			return fmt.Errorf("write position: %w", err)
		}
	}
	// a client that waits for the header must not wait for a block
	return s.control.Flush()
}

// failure ends a stream with an error in the form of /v1.
func (s *streamWriter) failure(e *apiError) error {
	format := "%s\n"
	if s.events {
		format = "event: error\ndata: %s\n\n"
	}
	if _, err := fmt.Fprintf(s.w, format, errorJSON(e)); err != nil {
		return fmt.Errorf("write error: %w", err)
	}
	return s.control.Flush()
}

// block writes the pieces one by one: the messages are shared with all readers and not copied for
// any.
func (s *streamWriter) block(height uint64, b *blockJSON) error {
	var before []byte
	after := []byte("\n")
	if s.events {
		before = fmt.Appendf(nil, "id: %d\nevent: block\ndata: ", height)
		after = []byte("\n\n")
	}
	if rw, ok := s.w.(*response); ok {
		defer rw.watch(s.place)()
	}
	if err := b.writeTo(s.w, before, after); err != nil {
		return fmt.Errorf("write block %d: %w", height, err)
	}
	return s.control.Flush()
}

// heartbeat keeps an event stream from looking dead. Lines of JSON have no comments: there the
// transport's keep-alive must do.
func (s *streamWriter) heartbeat() error {
	if !s.events {
		return nil
	}
	if _, err := s.w.Write([]byte(": heartbeat\n\n")); err != nil {
		return fmt.Errorf("write heartbeat: %w", err)
	}
	return s.control.Flush()
}
