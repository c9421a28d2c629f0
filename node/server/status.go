package server

import (
	_ "embed" // openapi.yaml
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
)

// maxEvidence bounds the answer of /v1/evidence.
const maxEvidence = 1000

//go:embed openapi.yaml
var openAPIDocument []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPIDocument) // it fails if the client is gone
	return nil
}

// stoppingReason is why a node that stops is not ready.
const stoppingReason = "stopping"

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	status := s.backend.Status()
	if s.leaves() {
		status.Ready, status.Reason = false, stoppingReason
	}
	if status.Peers == nil {
		status.Peers = []PeerStatus{}
	}
	if status.Endorsements == nil {
		status.Endorsements = []EndorsementStatus{}
	}
	if s.access != nil {
		status.Access = s.access.Status()
	}
	if v := visitOf(r); v != nil && !v.id.Has(access.Observe) {
		return writeJSON(w, status.short())
	}
	return writeJSON(w, status)
}

// validators answers for the next height to become final unless the request names one: that is the
// set in force.
func (s *Server) validators(w http.ResponseWriter, r *http.Request) error {
	last, _ := s.backend.FinalHeight()
	height := last + 1
	if q := r.URL.Query(); q.Has("height") {
		var err error
		if height, err = parseHeight("height", q.Get("height")); err != nil {
			return err
		}
	}
	set, err := s.backend.Validators(r.Context(), height)
	if err != nil {
		return err
	}
	return writeJSON(w, set)
}

// maxEvidenceBytes ends the answer of /v1/evidence early: each piece has the changes up to its
// height.
const maxEvidenceBytes = 64 << 20

func (s *Server) evidence(w http.ResponseWriter, r *http.Request) error {
	from, err := fromGeneration(r)
	if err != nil {
		return err
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	held, err := s.backend.Evidence(r.Context(), maxEvidence, from)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	release, err := s.hold(w, r, evidenceSize(held))
	defer release()
	if err != nil {
		return err
	}
	turn()
	out := pieces{w: w, status: http.StatusOK, contentType: jsonText}
	out.text(`{"evidence":[`)
	for i, e := range held {
		if i > 0 {
			if out.length > maxEvidenceBytes {
				break
			}
			out.text(",")
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			return out.fail(s, r, fmt.Errorf("encode evidence: %w", err))
		}
		out.text(string(encoded))
	}
	out.text("]}")
	out.flush()
	return nil
}

// evidenceSize is about what pieces of evidence take in memory until they are written. Those of one
// era have the same changes.
func evidenceSize(pieces []*chain.EvidenceDocument) (size int) {
	seen := map[*chain.ValidatorSetChange]bool{}
	for _, e := range pieces {
		size += 1<<10 + changesSize(e.ValidatorChanges, seen)
	}
	return size
}

// changesSize is about what changes take in memory that are not in seen yet.
func changesSize(changes []chain.ValidatorSetChange, seen map[*chain.ValidatorSetChange]bool) (size int) {
	for i := range changes {
		if c := &changes[i]; !seen[c] {
			seen[c] = true
			size += 1<<10 + 256*(len(c.Next.Validators)+len(c.Certificate.Votes))
		}
	}
	return size
}

func (s *Server) genesis(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.backend.Genesis())
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeText(w, http.StatusOK, "ok")
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	if s.leaves() {
		writeText(w, http.StatusServiceUnavailable, stoppingReason)
		return nil
	}
	if err := s.backend.Ready(); err != nil {
		writeText(w, http.StatusServiceUnavailable, err.Error())
		return nil
	}
	writeText(w, http.StatusOK, "ready")
	return nil
}

// proof answers with a trie proof and, once a final header certifies its root, that header and its
// certificate.
func (s *Server) proof(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var height *uint64
	if q := r.URL.Query(); q.Has("height") {
		h, err := parseHeight("height", q.Get("height"))
		if err != nil {
			return err
		}
		height = &h
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	p, err := s.backend.Prove(r.Context(), id, height)
	turn()
	if err != nil {
		return fmt.Errorf("prove %v: %w", id, err)
	}
	answer := struct {
		ID          chain.Hash                `json:"id"`
		Height      uint64                    `json:"height"`
		Root        chain.Hash                `json:"root"`
		Included    bool                      `json:"included"`
		Proof       json.Marshaler            `json:"proof"`
		Certified   bool                      `json:"certified"`
		Header      *chain.Header             `json:"header,omitempty"`
		Certificate *chain.ReceiptCertificate `json:"certificate,omitempty"`
	}{ID: id, Height: p.Height, Root: p.Root, Included: p.Included, Proof: p.Proof}
	if p.Header != nil && p.Certificate != nil {
		answer.Certified, answer.Header, answer.Certificate = true, p.Header, receiptCertificate(p.Header, p.Certificate)
	}
	return s.sendJSON(w, r, answer)
}
