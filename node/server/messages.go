package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
)

const (
	defaultWait = 10 * time.Second
	maxWait     = time.Minute
	// maxReceipts and maxReceiptsBytes bound the receipts of an answer: each has the changes of the
	// validator set up to its block. The answer says which final message is the first without one.
	maxReceipts      = 256
	maxReceiptsBytes = 8 << 20
	// receiptsAtOnce is how many receipts are read at once for an answer.
	receiptsAtOnce = 32
)

// checkMessage checks the size of a message; index is its place in the request.
func (s *Server) checkMessage(index int, data []byte) error {
	limit := s.backend.Genesis().Parameters.MaxMessageBytes
	switch {
	case len(data) == 0:
		return &apiError{
			status: http.StatusBadRequest, code: "empty_message",
			message: fmt.Sprintf("message %d is empty: a message has at least one byte", index),
		}
	case int64(len(data)) > int64(limit):
		return tooLarge("message %d has %d bytes, at most %d are allowed", index, len(data), limit)
	}
	return nil
}

// traced follows what a handler does with a request, if the request is traced.
func (s *Server) traced(h handlerFunc) handlerFunc {
	if s.trace == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		r, end := s.trace(r)
		err := h(w, r)
		end(err)
		return err
	}
}

// submit accepts messages, all or none, and waits until they are final if asked to.
func (s *Server) submit(w http.ResponseWriter, r *http.Request) error {
	wait, err := waitOf(r)
	if err != nil {
		return err
	}
	from, err := fromGeneration(r)
	if err != nil {
		return err
	}
	results, err := s.accept(w, r)
	if err != nil {
		return err
	}
	if wait > 0 {
		return s.answerReceipts(w, r, results, wait, from)
	}
	out := make([]byte, 0, 16+len(results)*100)
	out = append(out, `{"results":[`...)
	for i, result := range results {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendResult(out, result), '}')
	}
	// If there is no room for the answer, the messages are accepted all the same: to submit them
	// again is harmless.
	return s.send(w, r, http.StatusAccepted, jsonText, append(out, "]}"...))
}

// appendResult writes a result without its closing brace.
func appendResult(b []byte, r SubmitResult) []byte {
	b = append(b, `{"id":"`...)
	b = hex.AppendEncode(b, r.ID[:])
	if r.Final {
		return append(b, `","status":"final"`...)
	}
	return append(b, `","status":"pending"`...)
}

// waitOf reads ?wait=final&timeout=: 0 means not to wait.
func waitOf(r *http.Request) (time.Duration, error) {
	q := r.URL.Query()
	switch q.Get("wait") {
	case "":
		return 0, nil
	case "final":
	default:
		return 0, badRequest("wait=%q: the only value is \"final\"", q.Get("wait"))
	}
	if !q.Has("timeout") {
		return defaultWait, nil
	}
	d, err := time.ParseDuration(q.Get("timeout"))
	if err != nil || d <= 0 {
		return 0, badRequest("timeout=%q: want a time such as 10s or 500ms", q.Get("timeout"))
	}
	return min(d, maxWait), nil
}

// accept reads the messages of a request and submits them.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) ([]SubmitResult, error) {
	mediaType, err := contentType(w, r)
	if err != nil {
		return nil, err
	}
	var decode func([]byte) ([][]byte, error)
	switch {
	case mediaType == octetStream:
		decode = func(body []byte) ([][]byte, error) { return [][]byte{body}, nil }
	case mediaType == batchStream:
		decode = decodeBatch
	case isJSON(mediaType):
		decode = decodeSubmission
	default:
		return nil, unsupported(unsupportedMediaType, "content type %q: want %s, application/json or %s",
			r.Header.Get("Content-Type"), octetStream, batchStream)
	}
	body, release, err := s.readBody(w, r, maxSubmitBytes)
	defer release()
	if err != nil {
		return nil, err
	}
	data, err := decode(body)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, &apiError{status: http.StatusBadRequest, code: "empty_request", message: "the request has no messages"}
	}
	messages := make([]chain.Message, len(data))
	for i, d := range data {
		if err := s.checkMessage(i, d); err != nil {
			return nil, err
		}
		messages[i].Data = d
	}
	results, err := s.submitFor(r, messages, release)
	if err != nil {
		return nil, err
	}
	return results, nil
}

// decodeSubmission reads {"data":"base64"} or {"messages":[{"data":"base64"},...]}. Any other
// member is refused, and so is one that is named twice: another reader of the submission could take
// it for the message.
func decodeSubmission(body []byte) ([][]byte, error) {
	in := readJSON(body)
	var out [][]byte
	var one, many bool
	err := in.members(func(name []byte) error {
		switch {
		case string(name) == dataField && !one:
			one = true
			data, err := in.base64(0)
			out = append(out[:0], data)
			return err
		case string(name) == "messages" && !many:
			many = true
			out = out[:0]
			return in.elements(func(i int) error {
				if i == maxBatchMessages {
					return tooManyMessages()
				}
				data, err := in.submitted(i)
				out = append(out, data)
				return err
			})
		}
		return in.superfluous(string(name) == dataField || string(name) == "messages")
	})
	if err == nil && one == many {
		err = in.wrong("want one of the fields `data` and `messages`")
	}
	if err == nil {
		err = in.end()
	}
	if wrong, ok := errors.AsType[*jsonError](err); ok {
		if wrong.wrongType {
			return nil, &apiError{status: http.StatusUnprocessableEntity, code: "wrong_type", message: wrong.Error()}
		}
		return nil, badRequest("the body is not JSON: %v", wrong)
	}
	return out, err
}

// submitted reads one {"data":"base64"}.
func (b jsonBody) submitted(index int) (data []byte, err error) {
	has := false
	err = b.members(func(name []byte) error {
		if string(name) != dataField || has {
			return b.superfluous(string(name) == dataField)
		}
		has = true
		var err error
		data, err = b.base64(index)
		return err
	})
	if err == nil && !has {
		err = b.wrong("missing field `data`")
	}
	return data, err
}

// superfluous is the error about a member whose name was read last.
func (b jsonBody) superfluous(known bool) error {
	if known {
		return b.wrong("duplicate field")
	}
	return b.wrong("unknown field")
}

// answerReceipts waits until results are final, or as long as asked, and writes the final ones with
// their receipts: 200 if all are final, otherwise 202. Receipts have the changes to generations
// above from. Where the client goes on for more receipts is "next".
func (s *Server) answerReceipts(w http.ResponseWriter, r *http.Request, results []SubmitResult, wait time.Duration, from uint32) error {
	final, err := s.waitFinal(r, results, wait)
	if err != nil {
		return err
	}
	release, err := s.hold(w, r, len(results)*len(chain.Hash{}))
	defer release()
	if err != nil {
		return err // the messages are accepted all the same: to submit them again is harmless
	}
	out := receiptWriter{pieces: pieces{w: w, status: http.StatusOK, contentType: jsonText}, next: -1}
	if !final {
		out.status = http.StatusAccepted
	}
	out.text(`{"results":[`)
	group := receiptGroup{release: func() {}}
	defer func() { group.release() }()
	for i, result := range results {
		if i > 0 {
			out.text(",")
		}
		if result.Final && i >= group.end && out.wants() {
			group.release()
			if group, err = s.receipts(w, r, results[i:min(len(results), i+out.left())], i, from); err != nil && !out.begun {
				return err
			}
			if err != nil {
				// The rest is answered without receipts, which can be asked for.
				_ = s.brokenOff(r, err) // it is not for this client
				out.full = true
			}
		}
		if err := out.result(i, result, group.of(results, i)); err != nil {
			return out.fail(s, r, fmt.Errorf("encode receipt: %w", err))
		}
		if out.gone {
			return nil
		}
	}
	out.text("]")
	if out.next >= 0 {
		out.text(`,"next":` + strconv.Itoa(out.next))
	}
	out.text("}")
	out.flush()
	return nil
}

// receiptGroup is the receipts of consecutive results, which take room until release.
type receiptGroup struct {
	start, end int
	receipts   map[chain.Hash]*chain.Receipt
	release    func()
}

// receipts reads the receipts of the first few final ones of results, of which the first is at
// start.
func (s *Server) receipts(w http.ResponseWriter, r *http.Request, results []SubmitResult, start int, from uint32) (receiptGroup, error) {
	none := receiptGroup{release: func() {}}
	var ids []chain.Hash
	end := 0
	for ; end < len(results) && len(ids) < receiptsAtOnce; end++ {
		if results[end].Final {
			ids = append(ids, results[end].ID)
		}
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return none, err
	}
	found, err := s.backend.Receipts(r.Context(), ids, from)
	if err != nil {
		return none, fmt.Errorf("receipts: %w", err)
	}
	group := receiptGroup{start: start, end: start + end, receipts: map[chain.Hash]*chain.Receipt{}}
	size, changes := 0, map[*chain.ValidatorSetChange]bool{}
	for i, receipt := range found {
		if receipt != nil {
			group.receipts[ids[i]] = receipt
			size += 4<<10 + len(receipt.Message.Data) + changesSize(receipt.ValidatorChanges, changes)
		}
	}
	if group.release, err = s.hold(w, r, size); err != nil {
		return none, err
	}
	return group, nil
}

// of returns the receipt of a result; nil if the group has none.
func (g *receiptGroup) of(results []SubmitResult, i int) *chain.Receipt {
	if i < g.start || i >= g.end {
		return nil
	}
	return g.receipts[results[i].ID]
}

// A receiptWriter writes results with their receipts.
type receiptWriter struct {
	pieces
	// count and bytes are those of the receipts so far; full says that there are to be no more,
	// next is the first final result without one, -1 if there is none.
	count, bytes int
	full         bool
	next         int
	// changes are those of the last receipt, encoded: most receipts of an answer have the same.
	changes []chain.ValidatorSetChange
	encoded []byte
}

// left is how many more receipts the answer may have.
func (w *receiptWriter) left() int { return maxReceipts - w.count }

func (w *receiptWriter) wants() bool {
	return !w.full && w.count < maxReceipts && w.bytes < maxReceiptsBytes
}

// result writes the result at an index: with its receipt if it has one, unless the answer has
// enough of them.
func (w *receiptWriter) result(index int, result SubmitResult, receipt *chain.Receipt) error {
	w.out = appendResult(w.out, result)
	if receipt != nil && w.wants() {
		w.out = append(w.out, `,"receipt":`...)
		before := len(w.out)
		if err := w.receipt(receipt); err != nil {
			return err
		}
		w.count++
		w.bytes += len(w.out) - before
	} else if result.Final && w.next < 0 {
		w.next = index
	}
	w.out = append(w.out, '}')
	w.flushLong()
	return nil
}

// receipt writes a receipt.
func (w *receiptWriter) receipt(r *chain.Receipt) error {
	if changes := r.ValidatorChanges; w.encoded == nil || len(changes) != len(w.changes) || len(changes) > 0 && &changes[0] != &w.changes[0] {
		encoded, err := json.Marshal(changes)
		if err != nil {
			return err
		}
		w.changes, w.encoded = changes, encoded
	}
	without := *r
	without.ValidatorChanges = []chain.ValidatorSetChange{}
	encoded, err := json.Marshal(&without)
	if err != nil {
		return err
	}
	w.out = append(w.out, encoded[:len(encoded)-len("[]}")]...) // the changes are the last member
	w.out = append(append(w.out, w.encoded...), '}')
	return nil
}

// maxAwaited bounds the messages that requests wait for, which take some hundred bytes each. The
// wait of the client with most ends early, after waitPatience if another one has as many.
const (
	maxAwaited   = 1 << 18
	waitPatience = time.Second
)

// waitFinal reports whether results became final in time, and which of them did, in results. A
// server that stops ends the wait early, and so does one that has too much to wait for.
func (s *Server) waitFinal(r *http.Request, results []SubmitResult, wait time.Duration) (bool, error) {
	ctx := r.Context()
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	place, err := s.waits.Take(waiting, seats.Claim{Key: clientKey(r), Weight: int64(len(results)), Wait: busyWait, GiveWay: cancel})
	if err != nil && ctx.Err() != nil {
		return false, fmt.Errorf("wait: %w", ctx.Err())
	}
	if err != nil {
		return false, nil
	}
	defer place.Release()
	place.IdleFrom(time.Now())
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-waiting.Done():
		}
	}()
	ids := make([]chain.Hash, len(results))
	for i := range results {
		ids[i] = results[i].ID
	}
	now, err := s.backend.Wait(waiting, ids)
	if err == nil || waiting.Err() != nil && len(now) == len(results) {
		copy(results, now)
	}
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("wait: %w", ctx.Err())
	case waiting.Err() != nil:
		return false, nil
	}
	return false, fmt.Errorf("wait: %w", err)
}

func pathID(r *http.Request) (chain.Hash, error) {
	id, err := chain.ParseHash(r.PathValue("id"))
	if err != nil {
		return id, badRequest("id %q: want 64 lower-case hex digits", r.PathValue("id"))
	}
	return id, nil
}

func (s *Server) message(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	m, err := s.backend.Message(r.Context(), id)
	turn()
	if err != nil {
		return err
	}
	answer := struct {
		ID        chain.Hash `json:"id"`
		Status    string     `json:"status"`
		Height    *uint64    `json:"height,omitempty"`
		Index     *uint32    `json:"index,omitempty"`
		Data      []byte     `json:"data"`
		Timestamp uint32     `json:"timestamp"`
	}{ID: m.ID, Status: "pending", Data: m.Message.Data, Timestamp: m.Message.Timestamp}
	if m.Final {
		answer.Status, answer.Height, answer.Index = "final", &m.Height, &m.Index
	}
	return s.sendJSON(w, r, answer)
}

func (s *Server) receipt(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	from, err := fromGeneration(r)
	if err != nil {
		return err
	}
	turn, err := s.load(r.Context(), clientKey(r))
	defer turn()
	if err != nil {
		return err
	}
	receipts, err := s.backend.Receipts(r.Context(), []chain.Hash{id}, from)
	if err != nil {
		return fmt.Errorf("receipt of %v: %w", id, err)
	}
	if len(receipts) == 1 && receipts[0] != nil {
		return s.sendJSON(w, r, receipts[0])
	}
	if _, err := s.backend.Message(r.Context(), id); err != nil {
		return err
	}
	return &apiError{
		status: http.StatusConflict, code: "pending",
		message: fmt.Sprintf("message %v is pending: ask again once it is final", id),
	}
}
