package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/diseq/diseq/node/access"
)

// apiError is an answer other than success. Its code is stable, for programs; its message is for
// people.
type apiError struct {
	status        int
	code, message string
	retryAfter    time.Duration
}

func (e *apiError) Error() string { return e.message }

func badRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "malformed", message: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, code: "too_large", message: fmt.Sprintf(format, args...)}
}

const (
	unsupportedMediaType = "unsupported_media_type"
	unavailableCode      = "unavailable"
)

// statusClientGone is recorded, never sent: the client went away before there was an answer.
const statusClientGone = 499

// answerTo finds the answer for an error of a handler or of the backend; internal is true if the
// error is not for a client to see.
func answerTo(err error) (answer *apiError, internal bool) {
	var (
		api     *apiError
		refused *access.Refusal
		full    *FullError
		request *RequestError
		body    *http.MaxBytesError
	)
	switch {
	case errors.As(err, &api):
		return api, false
	case errors.As(err, &refused):
		return refusalAnswer(refused), false
	case errors.As(err, &full):
		return &apiError{http.StatusTooManyRequests, "pool_full", full.Error(), max(full.RetryAfter, time.Second)}, false
	case errors.As(err, &request) && request.TooLarge:
		return tooLarge("%s", request.Reason), false
	case errors.As(err, &request):
		return badRequest("%s", request.Reason), false
	case errors.As(err, &body):
		return tooLarge("the body is longer than %d bytes", body.Limit), false
	case errors.Is(err, ErrNotFound):
		return &apiError{status: http.StatusNotFound, code: "not_found", message: err.Error()}, false
	case errors.Is(err, ErrStorageLow):
		return &apiError{http.StatusServiceUnavailable, "storage_low", err.Error(), 10 * time.Second}, false
	case errors.Is(err, ErrUnavailable):
		return &apiError{http.StatusServiceUnavailable, unavailableCode, err.Error(), time.Second}, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &apiError{status: http.StatusRequestTimeout, code: "body_timeout", message: "the body took too long to arrive"}, false
	}
	return &apiError{status: http.StatusInternalServerError, code: "internal", message: "internal error"}, true
}

// handlerFunc is a handler that returns an error instead of answering it. It has written nothing
// then.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// json answers errors in the form of /v1, text in that of the proof of concept's routes.
func (s *Server) json(h handlerFunc) http.HandlerFunc {
	return s.answer(func(w http.ResponseWriter, r *http.Request) error {
		// net/url drops the pairs that it cannot read: the rest would mean something else.
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			return badRequest("query: %v", err)
		}
		return h(w, r)
	}, writeJSONError)
}

func (s *Server) text(h handlerFunc) http.HandlerFunc { return s.answer(h, writeTextError) }

func (s *Server) answer(h handlerFunc, write func(http.ResponseWriter, *apiError)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err, write)
		}
	}
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error, write func(http.ResponseWriter, *apiError)) {
	answer, internal := answerTo(err)
	if r.Context().Err() != nil && internal {
		if rw, ok := w.(*response); ok {
			rw.status = statusClientGone
		}
		return
	}
	if internal {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	s.metrics.rejected.WithLabelValues(answer.code).Inc()
	if answer.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((answer.retryAfter+time.Second-1)/time.Second), 10))
	}
	if answer.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
		// A client with a new certificate shows it with a new connection.
		w.Header().Set("Connection", "close")
	}
	write(w, answer)
}

// brokenOff logs and counts an error behind an answer that has begun, and returns the error that
// the client may see.
func (s *Server) brokenOff(r *http.Request, err error) *apiError {
	answer, _ := answerTo(err)
	s.log.Error("answer broke off", "method", r.Method, "path", r.URL.Path, "err", err)
	s.metrics.brokenOff.WithLabelValues(routeLabel(r.Pattern)).Inc()
	return answer
}

func writeTextError(w http.ResponseWriter, e *apiError) {
	writeText(w, e.status, e.message)
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", textPlain)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // it fails if the client is gone
}

func writeJSONError(w http.ResponseWriter, e *apiError) { writeJSONBytes(w, e.status, errorJSON(e)) }

func errorJSON(e *apiError) []byte {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = e.code, e.message
	b, _ := json.Marshal(body) // two strings always marshal
	return b
}

func writeJSONBytes(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", jsonText)
	w.WriteHeader(status)
	_, _ = w.Write(b) // it fails if the client is gone
}

// writeJSON answers 200 with v, which is never longer than some 40 KiB.
func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	writeJSONBytes(w, http.StatusOK, b)
	return nil
}

// sendJSON answers 200 with v.
func (s *Server) sendJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return s.send(w, r, http.StatusOK, jsonText, b)
}

const (
	jsonText  = "application/json"
	textPlain = "text/plain; charset=utf-8"
)

// send answers with b, once there is room for it to wait until the client has taken it.
func (s *Server) send(w http.ResponseWriter, r *http.Request, status int, contentType string, b []byte) error {
	release, err := s.hold(w, r, len(b))
	defer release()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // it fails if the client is gone
	return nil
}
