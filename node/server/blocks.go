package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/diseq/diseq/node/chain"
)

const (
	defaultPage = 20
	maxPage     = 100
	// maxPageBytes ends a page early: it is filled until it is longer than this.
	maxPageBytes = 2 << 20
	// latest stands for the last final height.
	latest = "latest"
)

// blockJSON is a block in the shape that it has everywhere in /v1, in pieces: the large one is
// shared by all readers.
type blockJSON struct {
	head     []byte
	messages *reading // nil: left out
}

func (b *blockJSON) size() int {
	if b.messages == nil {
		return len(b.head)
	}
	return len(b.head) + b.messages.entry.size
}

// writeTo writes the block as one JSON object, between two texts.
func (b *blockJSON) writeTo(w http.ResponseWriter, before, after []byte) error {
	head := append(before, b.head...)
	if b.messages == nil {
		_, err := w.Write(append(append(head, '}'), after...))
		return err
	}
	if _, err := w.Write(append(head, `,"messages":`...)); err != nil {
		return err
	}
	if err := b.messages.writeTo(w); err != nil {
		return err
	}
	_, err := w.Write(append([]byte{'}'}, after...))
	return err
}

// close ends the use of the block.
func (b *blockJSON) close() {
	if b.messages != nil {
		b.messages.close()
	}
}

// encodeBlock reads the block at height. The block without its messages and the certificate are
// read anew each time: finalize votes are collected on after the first threshold of them, and
// readers shall see all of them. The caller closes the block once its client has taken it.
func (s *Server) encodeBlock(w http.ResponseWriter, r *http.Request, height uint64, withMessages bool) (*blockJSON, error) {
	ctx := r.Context()
	block, certificate, err := s.backend.Head(ctx, height)
	if err != nil {
		return nil, err
	}
	head := struct {
		Header      *chain.Header             `json:"header"`
		HeaderHash  chain.Hash                `json:"header_hash"`
		Signature   *chain.Signature          `json:"signature"`
		Commitment  *chain.Commitment         `json:"commitment"`
		Change      *chain.Change             `json:"change"`
		Certificate *chain.ReceiptCertificate `json:"certificate"`
	}{
		Header: &block.Header, HeaderHash: block.Hash(), Commitment: block.Commitment, Change: block.Change,
		Certificate: receiptCertificate(&block.Header, certificate),
	}
	if height > 0 { // nobody proposed genesis
		head.Signature = &block.Signature
	}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encode block %d: %w", height, err)
	}
	out := &blockJSON{head: b[:len(b)-1]}
	if withMessages {
		if out.messages, err = s.blocks.read(ctx, w, clientKey(r), height); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// receiptCertificate is the certificate as blocks, proofs and receipts show it; genesis has none.
func receiptCertificate(h *chain.Header, c *chain.Certificate) *chain.ReceiptCertificate {
	if h.Height == 0 || c == nil {
		return nil
	}
	return &chain.ReceiptCertificate{Certificate: *c, Strength: c.Strength()}
}

func (s *Server) block(w http.ResponseWriter, r *http.Request) error {
	height, _ := s.backend.FinalHeight()
	if asked := r.PathValue("height"); asked != latest {
		var err error
		if height, err = parseHeight("height", asked); err != nil {
			return err
		}
	}
	withMessages, err := messagesWanted(r.URL.Query())
	if err != nil {
		return err
	}
	block, err := s.encodeBlock(w, r, height, withMessages)
	if err != nil {
		return err
	}
	defer block.close()
	w.Header().Set("Content-Type", "application/json")
	_ = block.writeTo(w, nil, nil) // it fails if the client is gone
	return nil
}

// page answers {"blocks":[...],"next":H}: next is the first height that is not in it, where the
// next page starts. It is written block by block. So it ends before a block that cannot be read,
// and the next page begins with the error.
func (s *Server) page(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	from, limit := uint64(0), uint64(defaultPage)
	var err error
	if q.Has("from") {
		if from, err = parseHeight("from", q.Get("from")); err != nil {
			return err
		}
	}
	if q.Has("limit") {
		if limit, err = strconv.ParseUint(q.Get("limit"), 10, 64); err != nil || limit == 0 {
			return badRequest("limit=%q: want 1 to %d", q.Get("limit"), maxPage)
		}
		limit = min(limit, maxPage)
	}
	withMessages, err := messagesWanted(q)
	if err != nil {
		return err
	}
	last, _ := s.backend.FinalHeight()
	w.Header().Set("Content-Type", "application/json")
	next, length := from, 0
	for before := `{"blocks":[`; next <= last && next-from < limit && length < maxPageBytes; before = "," {
		block, err := s.encodeBlock(w, r, next, withMessages)
		if err != nil && next == from {
			return err
		}
		if err != nil {
			break
		}
		length += block.size()
		err = block.writeTo(w, []byte(before), nil)
		block.close()
		if err != nil {
			return nil // the client is gone
		}
		next++
	}
	if next == from {
		writeJSONBytes(w, http.StatusOK, fmt.Appendf(nil, `{"blocks":[],"next":%d}`, next))
		return nil
	}
	_, _ = fmt.Fprintf(w, `],"next":%d}`, next) // it fails if the client is gone
	return nil
}

func parseHeight(name, value string) (uint64, error) {
	height, err := strconv.ParseUint(value, 10, 64)
	if err != nil || height > chain.MaxNumber {
		return 0, badRequest("%s %q: want a height, a number from 0 to %d", name, value, uint64(chain.MaxNumber))
	}
	return height, nil
}

func messagesWanted(q url.Values) (bool, error) {
	switch v := q.Get("messages"); v {
	case "", "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, badRequest("messages=%q: want true or false", v)
	}
}
