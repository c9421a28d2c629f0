package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
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
		select {
		case s.large <- struct{}{}:
			release = func() { <-s.large }
		case <-r.Context().Done():
			return nil, release, fmt.Errorf("read body: %w", r.Context().Err())
		case <-time.After(s.limits.BodyTimeout):
			return nil, release, &apiError{http.StatusServiceUnavailable, busyCode, "too many large requests at the same time: try again", time.Second}
		}
		if r.ContentLength > 0 {
			buffer.Grow(int(r.ContentLength) - buffer.Len() + bytes.MinRead)
		}
		_, err = buffer.ReadFrom(reader)
		if err != nil {
			release()
			return nil, func() {}, bodyError(err)
		}
	} else if err != io.EOF {
		return nil, release, bodyError(err)
	}
	if rw, ok := w.(*response); ok {
		// the answer may take as long as the client is willing to wait
		rw.readDeadline(time.Time{})
	}
	return buffer.Bytes(), release, nil
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
