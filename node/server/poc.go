package server

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/diseq/diseq/node/chain"
)

// The routes of the proof of concept. Its answers are texts, also where they hold JSON; its clients
// compare them.

const (
	// maxLegacyBody is the proof of concept's own limit.
	maxLegacyBody = 10_000_000
	// maxPending and maxPendingBytes bound the answer of /get/pool.
	maxPending      = 1000
	maxPendingBytes = 1 << 20
	// keyBits is the length of a trie key.
	keyBits = 256
)

// legacyBody reads a JSON body and decodes it. Statuses, and the beginnings of texts, are those of
// the proof of concept's framework.
func (s *Server) legacyBody(w http.ResponseWriter, r *http.Request, decode func([]byte) error) error {
	mediaType, err := contentType(w, r)
	if err != nil {
		return err
	}
	if !isJSON(mediaType) {
		return unsupported(unsupportedMediaType, "Expected request with `Content-Type: application/json`")
	}
	body, release, err := s.readBody(w, r, maxLegacyBody)
	defer release()
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge("Failed to buffer the request body: length limit exceeded")
	}
	if err != nil {
		return err
	}
	var wrong *jsonError
	if err := decode(body); errors.As(err, &wrong) && wrong.wrongType {
		return &apiError{
			status: http.StatusUnprocessableEntity, code: "wrong_type",
			message: "Failed to deserialize the JSON body into the target type: " + wrong.Error(),
		}
	} else if err != nil {
		return badRequest("Failed to parse the request body as JSON: %v", err)
	}
	return nil
}

// decodeLegacyMessage reads {"data":[bytes as numbers],"timestamp":seconds}; unknown fields are
// ignored.
func decodeLegacyMessage(body []byte) (m chain.Message, err error) {
	in := readJSON(body)
	var hasData, hasTimestamp bool
	err = in.members(func(name []byte) error {
		switch {
		case string(name) == dataField && !hasData:
			hasData = true
			var err error
			m.Data, err = in.bytesAsNumbers()
			return err
		case string(name) == "timestamp" && !hasTimestamp:
			hasTimestamp = true
			v, err := in.integer(math.MaxUint32)
			m.Timestamp = uint32(v)
			return err
		case string(name) == dataField || string(name) == "timestamp":
			return in.superfluous(true)
		}
		return in.syntax(in.SkipValue())
	})
	switch {
	case err != nil:
		return chain.Message{}, err
	case !hasData:
		return chain.Message{}, in.wrong("missing field `data`")
	case !hasTimestamp:
		return chain.Message{}, in.wrong("missing field `timestamp`")
	}
	return m, in.end()
}

// bytesAsNumbers reads an array of numbers below 256.
func (b jsonBody) bytesAsNumbers() ([]byte, error) {
	out := []byte{}
	err := b.elements(func(int) error {
		v, err := b.integer(math.MaxUint8)
		out = append(out, byte(v))
		return err
	})
	return out, err
}

// decodeLegacyKey reads a trie key as an array of 256 bits, most significant first.
func decodeLegacyKey(body []byte) (key chain.Hash, err error) {
	in := readJSON(body)
	bits := 0
	err = in.elements(func(i int) error {
		bit, err := in.integer(1)
		if err == nil && i < keyBits {
			key[i/8] |= byte(bit) << (7 - i%8)
		}
		bits++
		return err
	})
	if err == nil && bits != keyBits {
		err = in.wrong("%d bits, want a key of %d", bits, keyBits)
	}
	if err != nil {
		return key, err
	}
	return key, in.end()
}

func (s *Server) schedule(w http.ResponseWriter, r *http.Request) error {
	var m chain.Message
	err := s.legacyBody(w, r, func(body []byte) (err error) {
		m, err = decodeLegacyMessage(body)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.checkMessage(0, m.Data); err != nil {
		return err
	}
	if _, err := s.submitFor(r, []chain.Message{m}, func() {}); err != nil {
		return err
	}
	writeText(w, http.StatusOK, string(appendDebug([]byte("[Ok] Message is being sequenced: "), m)))
	return nil
}

// appendDebug writes a message in the debug form of the proof of concept's language.
func appendDebug(b []byte, m chain.Message) []byte {
	b = append(b, "Message { data: "...)
	b = appendNumbers(b, m.Data, ", ")
	b = append(b, ", timestamp: "...)
	b = strconv.AppendUint(b, uint64(m.Timestamp), 10)
	return append(b, " }"...)
}

// appendNumbers writes bytes as an array of numbers.
func appendNumbers(b, data []byte, separator string) []byte {
	b = append(b, '[')
	for i, v := range data {
		if i > 0 {
			b = append(b, separator...)
		}
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return append(b, ']')
}

func (s *Server) getPool(w http.ResponseWriter, r *http.Request) error {
	pending, err := s.backend.Pending(r.Context(), maxPending, maxPendingBytes)
	if err != nil {
		return fmt.Errorf("pending messages: %w", err)
	}
	// The messages may be final and gone from the pool before the client has taken them.
	release, err := s.hold(w, r, memoryOf(pending))
	defer release()
	if err != nil {
		return err
	}
	out := pieces{w: w, status: http.StatusOK, contentType: textPlain}
	out.text("[")
	for i, m := range pending {
		if i > 0 {
			out.text(", ")
		}
		out.out = appendDebug(out.out, m)
		out.flushLong()
	}
	out.text("]")
	out.flush()
	return nil
}

func (s *Server) getCommitments(w http.ResponseWriter, _ *http.Request) error {
	out := []byte{'['}
	for i, c := range s.backend.Commitments() {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `{"epoch":%d,"validator":%d,"output":`, c.Epoch, c.Validator)
		out = appendNumbers(out, c.Output[:], ",")
		out = append(out, `,"proof":`...)
		out = appendNumbers(out, c.Proof, ",")
		out = append(out, '}')
	}
	writeText(w, http.StatusOK, string(append(out, ']')))
	return nil
}

func (s *Server) getHeight(w http.ResponseWriter, _ *http.Request) error {
	height, _ := s.backend.FinalHeight()
	// the number of blocks, genesis included
	writeText(w, http.StatusOK, strconv.FormatUint(height+1, 10))
	return nil
}

func (s *Server) getBlock(w http.ResponseWriter, r *http.Request) error {
	asked := r.PathValue("height")
	height, err := strconv.ParseUint(strings.TrimPrefix(asked, "+"), 10, 32)
	if err != nil {
		return badRequest("Invalid URL: Cannot parse `%q` to a `u32`", asked)
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	block, err := s.backend.Block(r.Context(), height)
	if errors.Is(err, ErrNotFound) {
		writeText(w, http.StatusOK, "[Warning] Requested Block that does not exist")
		return nil
	}
	if err != nil {
		return fmt.Errorf("block %d: %w", height, err)
	}
	set := &ValidatorsStatus{}
	if height > 0 {
		if set, err = s.backend.Validators(r.Context(), height); err != nil {
			return fmt.Errorf("validators of block %d: %w", height, err)
		}
	}
	release, err := s.hold(w, r, memoryOf(block.Messages))
	defer release()
	if err != nil {
		return err
	}
	turn()
	w.Header().Set("Content-Type", textPlain)
	writeLegacyBlock(w, block, set)
	return nil
}

// writeLegacyBlock writes a block bit by bit: bytes as numbers take up to four times their size.
func writeLegacyBlock(w http.ResponseWriter, block *chain.FinalBlock, set *ValidatorsStatus) {
	out := fmt.Appendf(nil, `{"height":%d,"messages":[`, block.Header.Height)
	for i, m := range block.Messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"data":`...)
		out = appendNumbers(out, m.Data, ",")
		out = append(out, `,"timestamp":`...)
		out = strconv.AppendUint(out, uint64(m.Timestamp), 10)
		out = append(out, '}')
		if len(out) >= chunkBytes {
			if _, err := w.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
	out = append(out, `],"signature":`...)
	seconds := block.Header.Timestamp / 1000
	if block.Header.Height == 0 {
		out = append(out, `[],"commitments":null`...)
	} else {
		out = appendNumbers(out, block.Signature[:], ",")
		out = append(out, `,"commitments":[`...)
		for i, v := range block.Certificate.Votes {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, `{"signature":`...)
			out = appendNumbers(out, v.Signature[:], ",")
			out = append(out, `,"validator":`...)
			var key []byte
			if int64(v.Validator) < int64(len(set.Validators)) {
				key = set.Validators[v.Validator].PublicKey[:]
			}
			out = appendNumbers(out, key, ",")
			out = fmt.Appendf(out, `,"timestamp":%d}`, seconds)
		}
		out = append(out, ']')
	}
	// it fails if the client is gone
	_, _ = w.Write(fmt.Appendf(out, `,"timestamp":%d}`, seconds))
}

func (s *Server) getStateRootHash(w http.ResponseWriter, _ *http.Request) error {
	root := s.backend.StateRoot()
	out := []byte{'{'}
	for i, f := range []struct {
		name string
		hash *chain.Hash
	}{{"hash", root.Hash}, {"left", root.Left}, {"right", root.Right}} {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendQuote(out, f.name)
		out = append(out, ':')
		if f.hash == nil {
			out = append(out, "null"...)
		} else {
			out = appendNumbers(out, f.hash[:], ",")
		}
	}
	writeText(w, http.StatusOK, string(append(out, '}')))
	return nil
}

func (s *Server) merkleProof(w http.ResponseWriter, r *http.Request) error {
	var key chain.Hash
	err := s.legacyBody(w, r, func(body []byte) (err error) {
		key, err = decodeLegacyKey(body)
		return err
	})
	if err != nil {
		return err
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	proof, err := s.backend.Prove(r.Context(), key, nil)
	turn()
	if err != nil {
		return fmt.Errorf("prove %v: %w", key, err)
	}
	if !proof.Included || proof.Legacy == nil {
		return &apiError{status: http.StatusNotFound, code: "not_found", message: "[Error] There is no such key in the trie"}
	}
	b, err := proof.Legacy.MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode proof of %v: %w", key, err)
	}
	return s.send(w, r, http.StatusOK, textPlain, b)
}

func (s *Server) internalOnly(http.ResponseWriter, *http.Request) error {
	return &apiError{
		status: http.StatusForbidden, code: "internal_route",
		message: "[Error] This route is internal: validators send it to each other on the peer listener",
	}
}
