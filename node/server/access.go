package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
)

// A visit is a request whose client is known. It is in the request's context, unless the server has
// no access control.
type visit struct {
	id      *access.Identity
	record  access.Record
	audited bool
}

type contextKey int

const (
	visitKey contextKey = iota
	connectionKey
)

// visitOf returns the visit of a request, nil without access control.
func visitOf(r *http.Request) *visit {
	v, _ := r.Context().Value(visitKey).(*visit)
	return v
}

// needs lets in clients that have one of the rights; without rights, those that have any right at
// all.
func (s *Server) needs(h handlerFunc, rights ...access.Right) handlerFunc {
	if s.access == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		v := &visit{}
		var err error
		if v.id, err = s.access.Identify(r); err == nil {
			err = v.id.May(rights...)
		}
		if err == nil {
			err = s.count(w, r, v.id)
		}
		if err == nil {
			err = h(w, r.WithContext(context.WithValue(r.Context(), visitKey, v)))
		}
		if refused, ok := errors.AsType[*access.Refusal](err); ok {
			s.access.Refused(v.id, refused)
		}
		s.auditEnd(w, r, v, err)
		return err
	}
}

// count counts the connection of a request for its client. A client with too many loses this one:
// it could not be told from one that may stay.
func (s *Server) count(w http.ResponseWriter, r *http.Request, id *access.Identity) error {
	in, ok := r.Context().Value(connectionKey).(*connection)
	if !ok {
		return nil // of a test without connections
	}
	err := in.client.Use(id)
	if err != nil {
		w.Header().Set("Connection", "close")
	}
	return err
}

// submitFor submits messages within the limits of the client whose request it is. See
// [Backend.Submit] for kept.
func (s *Server) submitFor(r *http.Request, messages []chain.Message, kept func()) ([]SubmitResult, error) {
	v := visitOf(r)
	if v == nil {
		return s.backend.Submit(r.Context(), messages, kept)
	}
	size := 0
	for i := range messages {
		size += len(messages[i].Data)
	}
	admission, err := v.id.Admit(len(messages), size)
	if err != nil {
		return nil, err
	}
	results, err := s.backend.Submit(r.Context(), messages, kept)
	if err != nil {
		if notTaken(err) {
			admission.Refund()
		}
		return nil, err
	}
	known := 0
	for i := range results {
		if results[i].Final {
			known += len(messages[i].Data)
		}
	}
	admission.Known(known)
	v.id.Accepted(len(messages), size)
	v.record.Messages, v.record.Bytes = len(messages), size
	if s.access.Audits() {
		v.record.First, v.record.IDs = fingerprint(results)
	}
	return results, nil
}

// notTaken says that an error of Submit means that no message was accepted. Of any other, such as a
// client that goes away, the messages may be in the pool: a refund would make them free.
func notTaken(err error) bool {
	_, full := errors.AsType[*FullError](err)
	_, wrong := errors.AsType[*RequestError](err)
	return full || wrong || errors.Is(err, ErrStorageLow)
}

// fingerprint returns the first id and the SHA-256 over all ids.
func fingerprint(results []SubmitResult) (first, all string) {
	if len(results) == 0 {
		return "", ""
	}
	h := sha256.New()
	for i := range results {
		h.Write(results[i].ID[:])
	}
	return results[0].ID.String(), hex.EncodeToString(h.Sum(nil))
}

// openStream counts a stream of the client. The request that it returns ends when the client may
// not read any more; the caller calls closed in the end.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request) (during *http.Request, closed func(), err error) {
	v := visitOf(r)
	if v == nil {
		return r, func() {}, nil
	}
	left, err := v.id.Stream()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := v.id.While(r, access.Read)
	s.auditBegin(w, r, v)
	return r.WithContext(ctx), func() { cancel(); left() }, nil
}

// auditBegin writes the line of a request that may last: the end would come too late.
func (s *Server) auditBegin(_ http.ResponseWriter, r *http.Request, v *visit) {
	v.record.Status = http.StatusOK
	s.audit(r, v)
}

// auditEnd writes the line of a request that was answered, or is about to be answered with err.
func (s *Server) auditEnd(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	if rw, ok := w.(*response); ok {
		v.record.Status = rw.status
	}
	if err != nil {
		answer, _ := answerTo(err)
		v.record.Status, v.record.Code = answer.status, answer.code
	}
	s.audit(r, v)
}

func (s *Server) audit(r *http.Request, v *visit) {
	if v.audited || !s.access.Audits() {
		return
	}
	v.audited = true
	v.record.Time = time.Now().UTC()
	v.record.Client, v.record.Proof = v.id.Name, v.id.Proof
	v.record.Address, v.record.Route = v.id.Address.String(), routeLabel(r.Pattern)
	s.access.Audit(v.record)
}

// refusalAnswer is the answer to a request that is not admitted.
func refusalAnswer(r *access.Refusal) *apiError {
	switch r.Reason {
	case access.Unauthenticated:
		return &apiError{status: http.StatusUnauthorized, code: "unauthenticated", message: r.Message}
	case access.Forbidden:
		return &apiError{status: http.StatusForbidden, code: "forbidden", message: r.Message}
	case access.Quota:
		return &apiError{http.StatusTooManyRequests, "quota", r.Message, r.RetryAfter}
	default:
		return &apiError{http.StatusServiceUnavailable, "storage_low", r.Message, r.RetryAfter}
	}
}

// shortStatus is what a client without the right Observe reads of /v1/status: how far the chain is,
// and whether the node serves. It names no node, no peer and no version.
type shortStatus struct {
	ChainID        string     `json:"chain_id"`
	Ready          bool       `json:"ready"`
	CaughtUp       bool       `json:"caught_up"`
	StorageLow     bool       `json:"storage_low"`
	Height         uint64     `json:"height"`
	BlockHash      chain.Hash `json:"block_hash"`
	BlockTimestamp uint64     `json:"block_timestamp"`
	Generation     uint32     `json:"generation"`
	Threshold      uint32     `json:"threshold"`
	Validators     int        `json:"validators"`
}

func (s *Status) short() shortStatus {
	return shortStatus{
		ChainID: s.ChainID, Ready: s.Ready, CaughtUp: s.CaughtUp, StorageLow: s.StorageLow, Height: s.Height, BlockHash: s.BlockHash,
		BlockTimestamp: s.BlockTimestamp, Generation: s.Generation, Threshold: s.Threshold, Validators: s.Validators,
	}
}
