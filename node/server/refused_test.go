package server

import (
	"errors"
	"net/http"
	"testing"

	"github.com/diseq/diseq/internal/document/documenttest"
)

func TestRefusedSubmissionsAreRefused(t *testing.T) {
	samples := documenttest.Read(t, "../chain/testdata/refused.json", "submission")
	documenttest.Check(t, samples, func(s documenttest.Sample) error {
		f := newFake(t)
		got := do(t, New(Options{Backend: f}).Public(), post(jsonType, string(s.Bytes())))
		if got.status == http.StatusAccepted {
			return nil
		}
		if code := got.errorCode(t); got.status != 400 && got.status != 422 || len(f.pending) > 0 {
			t.Errorf("%s: %d %s, %d messages are pending", s.Why, got.status, code, len(f.pending))
		}
		return errors.New(got.body)
	})
}
