package server

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/diseq/diseq/node/chain"
)

const (
	octets    = "application/octet-stream"
	batchType = "application/vnd.diseq.batch"
)

type submitAnswer struct {
	Results []struct {
		ID      chain.Hash
		Status  string
		Receipt *chain.Receipt
	}
	Next int
}

func batchOf(messages ...string) string {
	var b []byte
	for _, m := range messages {
		b = append(binary.AppendUvarint(b, uint64(len(m))), m...)
	}
	return string(b)
}

func post(contentType, body string) request {
	return request{method: http.MethodPost, path: "/v1/messages", contentType: contentType, body: body}
}

func TestSubmitAcceptsEveryForm(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, c := range []struct {
		contentType, body string
		want              []string
	}{
		{octets, "\x00raw\xff", []string{"\x00raw\xff"}},
		{jsonType, `{"data":"` + b64([]byte("one")) + `"}`, []string{"one"}},
		{jsonType, `{"data":"` + strings.ReplaceAll(b64([]byte{0xff, 0xff, 0xff}), "/", `\/`) + `"}`, []string{"\xff\xff\xff"}},
		{jsonType, ` { "messages" : [ {"data":"` + b64([]byte("a")) + `"}, {"d\u0061ta":"` + b64([]byte("bc")) + `"} ] } `, []string{"a", "bc"}},
		{batchType, batchOf("x", strings.Repeat("y", 300)), []string{"x", strings.Repeat("y", 300)}},
		{"application/json; charset=utf-8", `{"messages":[{"data":"YQ=="}]}`, []string{"a"}},
	} {
		f := newFake(t)
		got := do(t, New(Options{Backend: f}).Public(), post(c.contentType, c.body))
		if got.status != http.StatusAccepted || got.header.Get("Content-Type") != jsonType {
			t.Errorf("%s: %+v", c.contentType, got)
			continue
		}
		results := decode[submitAnswer](t, got).Results
		if len(results) != len(c.want) || len(f.pending) != len(c.want) {
			t.Errorf("%s: %d results, %d submitted, want %d", c.contentType, len(results), len(f.pending), len(c.want))
			continue
		}
		for i, want := range c.want {
			m := f.pending[i]
			if string(m.Data) != want || m.Timestamp != 0 || results[i].ID != m.ID() || results[i].Status != "pending" || results[i].Receipt != nil {
				t.Errorf("%s: message %d is %v, result %+v", c.contentType, i, m, results[i])
			}
		}
	}
}

// Promise 31.
func TestSubmitRefusesAllOrNothingAndNamesTheMessage(t *testing.T) {
	long := strings.Repeat("z", 64<<10+1)
	many := `{"messages":[` + strings.Repeat(`{"data":"YQ=="},`, maxBatchMessages) + `{"data":"YQ=="}]}`
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		code, message           string
	}{
		{"no content type", "", "x", 415, unsupportedMediaType, "application/octet-stream"},
		{"other content type", "text/plain", "x", 415, unsupportedMediaType, "text/plain"},
		{"no raw bytes", octets, "", 400, "empty_message", "message 0"},
		{"raw too long", octets, long, 413, "too_large", "message 0 has 65537 bytes"},
		{"empty batch", batchType, "", 400, "empty_request", "no messages"},
		{"empty message in batch", batchType, batchOf("a", "", "b"), 400, "empty_message", "message 1"},
		{"long message in batch", batchType, batchOf("a", "b", long), 413, "too_large", "message 2"},
		{"length beyond the batch", batchType, batchOf("a") + "\x05ab", 400, "malformed", "message 1: its length is 5, but only 2"},
		{"endless length", batchType, batchOf("a") + strings.Repeat("\xff", 11), 400, "malformed", "message 1"},
		{"cut length", batchType, "\x80", 400, "malformed", "message 0"},
		{"too many in batch", batchType, strings.Repeat("\x01a", maxBatchMessages+1), 413, "too_large", "10000 messages"},
		{"too many in JSON", jsonType, many, 413, "too_large", "10000 messages"},
		{"no JSON", jsonType, "{", 400, "malformed", "EOF"},
		{"trailing characters", jsonType, `{"data":"YQ=="}{}`, 400, "malformed", "trailing"},
		{"not base64", jsonType, `{"messages":[{"data":"YQ=="},{"data":"Y*=="}]}`, 400, "malformed", "message 1"},
		{"base64 without padding", jsonType, `{"data":"YQ"}`, 400, "malformed", "message 0"},
		{"base64 with a line break", jsonType, `{"data":"YQ\n=="}`, 400, "malformed", "message 0"},
		{"base64 with stray bits", jsonType, `{"data":"YR=="}`, 400, "malformed", "message 0"},
		{"data twice", jsonType, `{"data":"YQ==","data":"YQ=="}`, 422, "wrong_type", "at /data: duplicate field"},
		{"data twice, once escaped", jsonType, `{"data":"YQ==","d\u0061ta":"Yg=="}`, 422, "wrong_type", "at /data: duplicate field"},
		{"data twice in a message", jsonType, `{"messages":[{"data":"YQ==","data":"YQ=="}]}`, 422, "wrong_type", "at /messages/0/data: duplicate field"},
		{"messages twice", jsonType, `{"messages":[],"messages":[{"data":"YQ=="}]}`, 422, "wrong_type", "at /messages: duplicate field"},
		{"other letters", jsonType, `{"data":"YQ==","Data":"Yg=="}`, 422, "wrong_type", "at /Data: unknown field"},
		{"other letters in a message", jsonType, `{"messages":[{"DATA":"YQ=="}]}`, 422, "wrong_type", "at /messages/0/DATA: unknown field"},
		{"a letter that folds", jsonType, `{"me\u017f\u017fages":[{"data":"YQ=="}]}`, 422, "wrong_type", "unknown field"},
		{"an unknown member", jsonType, `{"data":"YQ==","timestamp":1}`, 422, "wrong_type", "at /timestamp: unknown field"},
		{"a byte order mark", jsonType, "\ufeff" + `{"data":"YQ=="}`, 400, "malformed", "invalid character"},
		{"no data", jsonType, `{"messages":[{"data":"YQ=="},{}]}`, 422, "wrong_type", "at /messages/1: missing field `data`"},
		{"data of another type", jsonType, `{"data":[1,2]}`, 422, "wrong_type", "at /data: an array in the place of a base64 string"},
		{"neither field", jsonType, `{}`, 422, "wrong_type", "one of the fields"},
		{"both fields", jsonType, `{"data":"YQ==","messages":[]}`, 422, "wrong_type", "one of the fields"},
		{"messages of another type", jsonType, `{"messages":{}}`, 422, "wrong_type", "at /messages: an object in the place of an array"},
		{"no object", jsonType, `[]`, 422, "wrong_type", "an array in the place of an object"},
		{"empty list", jsonType, `{"messages":[]}`, 400, "empty_request", "no messages"},
		{"empty data", jsonType, `{"messages":[{"data":"YQ=="},{"data":""}]}`, 400, "empty_message", "message 1"},
		{"body too long", batchType, strings.Repeat("\x01a", maxSubmitBytes/2) + "\x01a", 413, "too_large", "8388608"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			registry := prometheus.NewRegistry()
			s := New(Options{Backend: f, Registerer: registry})
			got := do(t, s.Public(), post(c.contentType, c.body))
			if got.status != c.status || got.errorCode(t) != c.code || !strings.Contains(got.body, c.message) {
				t.Errorf("got %d %s, want %d %s %q", got.status, got.body, c.status, c.code, c.message)
			}
			if len(f.pending) != 0 {
				t.Errorf("%d messages were submitted all the same", len(f.pending))
			}
			if n := testutil.ToFloat64(s.metrics.rejected.WithLabelValues(c.code)); n != 1 {
				t.Errorf("rejected by reason %s: %v", c.code, n)
			}
		})
	}
}

func TestSubmitOfAChunkedBodyIsBounded(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/messages", bytes.NewReader(make([]byte, maxSubmitBytes+1)))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1
	r.Header.Set("Content-Type", batchType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "longer than 8388608 bytes") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestSubmitPassesOnWhatTheBackendRefuses(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       string
		retryAfter string
	}{
		{&FullError{}, 429, "pool_full", "1"},
		{&RequestError{Reason: "no"}, 400, "malformed", ""},
		{&RequestError{TooLarge: true, Reason: "too long"}, 413, "too_large", ""},
		{ErrStorageLow, 503, "storage_low", "10"},
		{ErrUnavailable, 503, "unavailable", "1"},
		{errors.New("disk /secret"), 500, "internal", ""},
	} {
		f := newFake(t)
		f.submitError = c.err
		var logged bytes.Buffer
		s := New(Options{Backend: f, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		got := do(t, s.Public(), post(octets, "x"))
		if got.status != c.status || got.errorCode(t) != c.code || got.header.Get("Retry-After") != c.retryAfter {
			t.Errorf("%v: %+v", c.err, got)
		}
		if strings.Contains(got.body, "secret") {
			t.Errorf("the answer tells of the inside: %s", got.body)
		}
		if internal := c.status == 500; internal != strings.Contains(logged.String(), "secret") {
			t.Errorf("%v: logged %q", c.err, logged.String())
		}
	}
}

func TestSubmitWaitsUntilFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		h := New(Options{Backend: f}).Public()
		var wg sync.WaitGroup
		var got answer
		wg.Go(func() {
			q := post(batchType, batchOf("a", "b", "a"))
			q.path += "?wait=final"
			got = do(t, h, q)
		})
		synctest.Wait()
		f.finalize(chain.Message{Data: []byte("a")})
		synctest.Wait()
		f.finalize(chain.Message{Data: []byte("b")})
		wg.Wait()
		if got.status != http.StatusOK {
			t.Fatalf("got %+v", got)
		}
		results := decode[submitAnswer](t, got).Results
		if len(results) != 3 {
			t.Fatalf("%d results", len(results))
		}
		for i, height := range []uint64{1, 2, 1} {
			r := results[i]
			if r.Status != "final" || r.Receipt == nil || r.Receipt.Height != height || r.Receipt.Message.ID != r.ID {
				t.Fatalf("result %d: %+v", i, r)
			}
			if err := r.Receipt.Verify(f.genesis, 0); err != nil {
				t.Errorf("receipt %d: %v", i, err)
			}
		}
	})
}

func TestSubmitThatIsNotFinalInTimeIsStillAccepted(t *testing.T) {
	for query, want := range map[string]time.Duration{
		"wait=final": defaultWait, "wait=final&timeout=3s": 3 * time.Second, "wait=final&timeout=1h": maxWait,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.finalize(chain.Message{Data: []byte("old")})
			q := post(batchType, batchOf("old", "new"))
			q.path += "?" + query
			start := time.Now()
			got := do(t, New(Options{Backend: f}).Public(), q)
			if took := time.Since(start); took != want {
				t.Errorf("%s: answered after %v, want %v", query, took, want)
			}
			results := decode[submitAnswer](t, got).Results
			if got.status != http.StatusAccepted || results[0].Status != "final" || results[0].Receipt == nil ||
				results[1].Status != "pending" || results[1].Receipt != nil {
				t.Errorf("%s: %+v", query, got)
			}
		})
	}
}

func TestSubmitRefusesAMalformedWaitBeforeItSubmits(t *testing.T) {
	for _, query := range []string{"wait=soon", "wait=final&timeout=", "wait=final&timeout=10", "wait=final&timeout=-1s"} {
		f := newFake(t)
		q := post(octets, "x")
		q.path += "?" + query
		if got := do(t, New(Options{Backend: f}).Public(), q); got.status != 400 || len(f.pending) != 0 {
			t.Errorf("%s: %+v, %d submitted", query, got, len(f.pending))
		}
	}
}

func TestReceiptsOfManyMessages(t *testing.T) {
	f := newFake(t)
	var data []string
	var messages []chain.Message
	for i := range maxReceipts + 44 {
		data = append(data, fmt.Sprint(i))
		messages = append(messages, chain.Message{Data: []byte(data[i])})
	}
	f.finalize(messages...)
	q := post(batchType, batchOf(data...))
	q.path += "?wait=final"
	got := do(t, New(Options{Backend: f}).Public(), q)
	submitted := decode[submitAnswer](t, got)
	results := submitted.Results
	if got.status != 200 || len(results) != len(data) || submitted.Next != maxReceipts {
		t.Fatalf("%d, %d results, next %d", got.status, len(results), submitted.Next)
	}
	for i, r := range results {
		if i < maxReceipts && (r.Receipt == nil || r.Receipt.Index != uint32(i)) {
			t.Fatalf("result %d: %+v", i, r)
		}
		if i >= maxReceipts && (r.Receipt != nil || r.Status != "final") {
			t.Fatalf("result %d, beyond the receipts: %+v", i, r)
		}
	}
	// The client goes on there.
	q = post(batchType, batchOf(data[submitted.Next:]...))
	q.path += "?wait=final"
	rest := do(t, New(Options{Backend: f}).Public(), q)
	if r := decode[submitAnswer](t, rest).Results; len(r) != 44 || r[43].Receipt == nil || strings.Contains(rest.body, `"next"`) {
		t.Errorf("the rest: %d results", len(r))
	}
}

func TestMessageAndReceipt(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	m := chain.Message{Data: []byte("hello"), Timestamp: 9}
	id := m.ID().String()
	for _, path := range []string{"/v1/messages/" + id, "/v1/messages/" + id + "/receipt"} {
		if got := do(t, h, request{path: path}); got.status != 404 || got.errorCode(t) != "not_found" {
			t.Errorf("%s before submission: %+v", path, got)
		}
	}
	f.pending = []chain.Message{m}
	want := `{"id":"` + id + `","status":"pending","data":"aGVsbG8=","timestamp":9}`
	if got := do(t, h, request{path: "/v1/messages/" + id}); got.status != 200 || got.body != want {
		t.Errorf("pending: %+v", got)
	}
	if got := do(t, h, request{path: "/v1/messages/" + id + "/receipt"}); got.status != 409 || got.errorCode(t) != "pending" {
		t.Errorf("receipt while pending: %+v", got)
	}
	f.finalize(chain.Message{Data: []byte("before")}, m)
	want = `{"id":"` + id + `","status":"final","height":1,"index":1,"data":"aGVsbG8=","timestamp":9}`
	if got := do(t, h, request{path: "/v1/messages/" + id}); got.status != 200 || got.body != want {
		t.Errorf("final: %+v", got)
	}
	got := do(t, h, request{path: "/v1/messages/" + id + "/receipt"})
	receipt, err := chain.ReadReceipt(strings.NewReader(got.body))
	if got.status != 200 || err != nil {
		t.Fatalf("receipt: %+v: %v", got, err)
	}
	if err := receipt.Verify(f.genesis, 3); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"xyz", strings.ToUpper(id), id + "00"} {
		for _, path := range []string{"/v1/messages/" + bad, "/v1/messages/" + bad + "/receipt", "/v1/proofs/" + bad} {
			if got := do(t, h, request{path: path}); got.status != 400 || got.errorCode(t) != "malformed" {
				t.Errorf("%s: %+v", path, got)
			}
		}
	}
}

type blockAnswer struct {
	Header      chain.Header
	HeaderHash  chain.Hash                `json:"header_hash"`
	Signature   *chain.Signature          `json:"signature"`
	Commitment  *chain.Commitment         `json:"commitment"`
	Certificate *chain.ReceiptCertificate `json:"certificate"`
	Messages    []chain.ReceiptMessage
}

// check compares a block as answered with the one that is final.
func (b *blockAnswer) check(t *testing.T, want *chain.FinalBlock) {
	t.Helper()
	if b.HeaderHash != want.Hash() || b.Header != want.Header {
		t.Errorf("header %+v, want %+v", b.Header, want.Header)
	}
	messages := make([]chain.Message, len(b.Messages))
	for i, m := range b.Messages {
		messages[i] = m.Message
		if m.ID != m.Message.ID() {
			t.Errorf("message %d has id %v", i, m.ID)
		}
	}
	if err := b.Header.CheckMessages(messages); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(b.Commitment, want.Commitment) {
		t.Errorf("commitment %+v, want %+v", b.Commitment, want.Commitment)
	}
	if want.Header.Height == 0 {
		if b.Certificate != nil || b.Signature != nil {
			t.Error("genesis has a certificate or a signature")
		}
		return
	}
	if b.Signature == nil || *b.Signature != want.Signature {
		t.Errorf("signature %v, want %v", b.Signature, want.Signature)
	}
	if b.Certificate == nil || b.Certificate.Strength != want.Certificate.Strength() || len(b.Certificate.Votes) != want.Certificate.Strength() {
		t.Errorf("certificate %+v, want %+v", b.Certificate, want.Certificate)
	}
}

func TestBlock(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	f.finalize(chain.Message{Data: []byte("a"), Timestamp: 1}, chain.Message{Data: []byte("b")})
	f.finalize()
	f.blocks[2].Commitment = &chain.Commitment{Epoch: 3, Validator: 1, Output: chain.VRFOutput{0xab}, Proof: []byte{1, 2}}
	for path, height := range map[string]int{"/v1/blocks/0": 0, "/v1/blocks/1": 1, "/v1/blocks/latest": 2, "/v1/blocks/1?messages=true": 1} {
		got := do(t, h, request{path: path})
		if got.status != 200 || !strings.Contains(got.body, `"messages":[`) {
			t.Fatalf("%s: %+v", path, got)
		}
		b := decode[blockAnswer](t, got)
		b.check(t, f.blocks[height])
	}
	if got := do(t, h, request{path: "/v1/blocks/0"}); !strings.Contains(got.body, `"signature":null,"commitment":null,"change":null,"certificate":null`) {
		t.Errorf("genesis: %s", got.body)
	}
	if got := do(t, h, request{path: "/v1/blocks/1?messages=false"}); got.status != 200 || strings.Contains(got.body, `"messages":`) ||
		!json.Valid([]byte(got.body)) {
		t.Errorf("without messages: %+v", got)
	}
	for path, status := range map[string]int{
		"/v1/blocks/3": 404, "/v1/blocks/x": 400, "/v1/blocks/-1": 400, "/v1/blocks/18446744073709551616": 400, "/v1/blocks/1?messages=no": 400,
	} {
		if got := do(t, h, request{path: path}); got.status != status {
			t.Errorf("%s: %+v", path, got)
		} else {
			got.errorCode(t)
		}
	}
}

func TestWhatIsNotFoundIsNamedOnce(t *testing.T) {
	h := New(Options{Backend: newFake(t)}).Public()
	id := strings.Repeat("0", 63) + "1"
	for path, want := range map[string]string{
		"/v1/messages/" + id: "message " + id, "/v1/messages/" + id + "/receipt": "message " + id,
		"/v1/blocks/9": "height 9 is not final", "/v1/blocks/9?messages=false": "height 9 is not final",
		"/v1/validators?height=9": "validators of height 9",
	} {
		want = `{"error":{"code":"not_found","message":"` + want + `: not found"}}`
		if got := do(t, h, request{path: path}); got.status != 404 || got.body != want {
			t.Errorf("%s: %d %s, want %s", path, got.status, got.body, want)
		}
	}
}

func TestBlockShowsVotesThatCameAfterItWasFirstRead(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	b := f.finalize(chain.Message{Data: []byte("a")})
	do(t, h, request{path: "/v1/blocks/1"})
	f.mu.Lock()
	b.Certificate.Votes = append(b.Certificate.Votes, f.vote(1, b.Hash(), 3))
	f.mu.Unlock()
	if got := decode[blockAnswer](t, do(t, h, request{path: "/v1/blocks/1"})); got.Certificate.Strength != 4 {
		t.Errorf("strength %d, want 4", got.Certificate.Strength)
	}
	if f.reads[1] != 1 {
		t.Errorf("the messages were read %d times, want once", f.reads[1])
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	for range 149 {
		f.finalize()
	}
	type page struct {
		Blocks []blockAnswer
		Next   uint64
	}
	for _, c := range []struct {
		query       string
		first, size int
	}{{"", 0, 20}, {"?from=5&limit=3", 5, 3}, {"?from=40&limit=5000", 40, 100}, {"?from=145", 145, 5}, {"?from=150", 150, 0}, {"?from=900", 900, 0}} {
		got := decode[page](t, do(t, h, request{path: "/v1/blocks" + c.query}))
		if len(got.Blocks) != c.size || got.Blocks == nil || got.Next != uint64(c.first+c.size) {
			t.Errorf("%q: %d blocks, next %d", c.query, len(got.Blocks), got.Next)
		}
		for i := range got.Blocks {
			if got.Blocks[i].Header.Height != uint64(c.first+i) {
				t.Errorf("%q: block %d is height %d", c.query, i, got.Blocks[i].Header.Height)
			}
		}
	}
	for _, query := range []string{"?from=x", "?from=", "?limit=0", "?limit=-1", "?limit=", "?messages=1"} {
		if got := do(t, h, request{path: "/v1/blocks" + query}); got.status != 400 {
			t.Errorf("%q: %+v", query, got)
		}
	}
}

func TestPageOfLargeBlocksEndsEarly(t *testing.T) {
	f := newFake(t)
	for range 4 {
		data := make([]byte, 3<<18) // 1 MiB in base64
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		f.finalize(chain.Message{Data: data})
	}
	got := decode[struct {
		Blocks []json.RawMessage
		Next   uint64
	}](t, do(t, New(Options{Backend: f}).Public(), request{path: "/v1/blocks?from=1&limit=4"}))
	if len(got.Blocks) != 2 || got.Next != 3 {
		t.Errorf("%d blocks, next %d", len(got.Blocks), got.Next)
	}
}

func TestProof(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	id := chain.Hash{1}.String()
	if got := do(t, h, request{path: "/v1/proofs/" + id}); got.status != 404 || !strings.Contains(got.body, "no root is kept") {
		t.Errorf("without roots: %+v", got)
	}
	f.proof = &Proof{Height: 1, Root: chain.Hash{2}, Proof: json.RawMessage(`{"nodes":[]}`)}
	want := `{"id":"` + id + `","height":1,"root":"` + chain.Hash{2}.String() + `","included":false,"proof":{"nodes":[]},"certified":false}`
	for _, path := range []string{"/v1/proofs/" + id, "/v1/proofs/" + id + "?height=1"} {
		if got := do(t, h, request{path: path}); got.status != 200 || got.body != want {
			t.Errorf("%s: %+v", path, got)
		}
	}
	b := f.finalize()
	f.proof.Included, f.proof.Header, f.proof.Certificate = true, &b.Header, &b.Certificate
	got := decode[struct {
		Included, Certified bool
		Header              *chain.Header
		Certificate         *chain.ReceiptCertificate
	}](t, do(t, h, request{path: "/v1/proofs/" + id}))
	if !got.Included || !got.Certified || got.Header == nil || *got.Header != b.Header || got.Certificate == nil || got.Certificate.Strength != 3 {
		t.Errorf("certified: %+v", got)
	}
	if got := do(t, h, request{path: "/v1/proofs/" + id + "?height=2"}); got.status != 404 {
		t.Errorf("height without a root: %+v", got)
	}
	if got := do(t, h, request{path: "/v1/proofs/" + id + "?height=x"}); got.status != 400 {
		t.Errorf("height that is no number: %+v", got)
	}
}

func TestStatusValidatorsEvidenceGenesis(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	f.finalize()
	status := decode[map[string]any](t, do(t, h, request{path: "/v1/status"}))
	for name, want := range map[string]any{
		"chain_id": "test", "node": "node-0", "role": "validator", "height": 1.0, "round": 0.0, "threshold": 3.0, "validators": 4.0,
		"evidence": 0.0,
	} {
		if status[name] != want {
			t.Errorf("status %s is %v, want %v", name, status[name], want)
		}
	}
	if peers, ok := status["peers"].([]any); !ok || len(peers) != 0 {
		t.Errorf("peers %v, want []", status["peers"])
	}
	for query, want := range map[string]uint64{"": 2, "?height=0": 0, "?height=2": 2} {
		if got := decode[ValidatorsStatus](t, do(t, h, request{path: "/v1/validators" + query})); got.Height != want || len(got.Validators) != 4 {
			t.Errorf("validators%s: %+v", query, got)
		}
	}
	if got := do(t, h, request{path: "/v1/validators?height=3"}); got.status != 404 {
		t.Errorf("validators of an undecided height: %+v", got)
	}
	if got := do(t, h, request{path: "/v1/validators?height=x"}); got.status != 400 {
		t.Errorf("validators of no height: %+v", got)
	}
	if got := do(t, h, request{path: "/v1/evidence"}); got.body != `{"evidence":[]}` {
		t.Errorf("no evidence: %+v", got)
	}
	f.evidence = []chain.Evidence{f.equivocation(t)}
	if status := decode[Status](t, do(t, h, request{path: "/v1/status"})); status.Evidence != 1 {
		t.Errorf("the status tells of %d pieces of evidence, want 1", status.Evidence)
	}
	held := decode[struct{ Evidence []chain.EvidenceDocument }](t, do(t, h, request{path: "/v1/evidence"})).Evidence
	if len(held) != 1 {
		t.Fatalf("evidence %+v", held)
	}
	if err := held[0].Verify(f.genesis); err != nil {
		t.Error(err)
	}
	genesis, err := chain.ReadGenesis(strings.NewReader(do(t, h, request{path: "/v1/genesis"}).body))
	if err != nil || genesis.Hash() != f.genesis.Hash() {
		t.Errorf("genesis %+v: %v", genesis, err)
	}
}

// equivocation is evidence of two notarize votes in a round.
func (f *fake) equivocation(tb testing.TB) chain.Evidence {
	tb.Helper()
	a := chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{1}, Validator: 1}
	b := chain.Vote{Kind: chain.Notarize, Height: 1, Block: chain.Hash{2}, Validator: 1}
	a.Sign(f.keys[1], "test")
	b.Sign(f.keys[1], "test")
	e, ok := chain.NewEvidence("test", f.genesis.Set(), a, b)
	if !ok {
		tb.Fatal("the votes break no rule")
	}
	return e
}

func TestProbesAndOperationsRoutes(t *testing.T) {
	f := newFake(t)
	registry := prometheus.NewRegistry()
	s := New(Options{Backend: f, Registerer: registry, Gatherer: registry})
	for _, h := range []http.Handler{s.Public(), s.Operations()} {
		for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
			if got := do(t, h, request{path: path}); got.status != 200 || got.body != want {
				t.Errorf("%s: %+v", path, got)
			}
		}
		if got := do(t, h, request{path: "/v1/status"}); got.status != 200 {
			t.Errorf("status: %+v", got)
		}
	}
	f.notReady = errors.New("12 heights behind")
	if got := do(t, s.Operations(), request{path: "/readyz"}); got.status != 503 || got.body != "12 heights behind" {
		t.Errorf("not ready: %+v", got)
	}
	if got := do(t, s.Operations(), request{path: "/healthz"}); got.status != 200 {
		t.Errorf("alive though not ready: %+v", got)
	}
	metrics := do(t, s.Operations(), request{path: "/metrics"})
	for _, line := range []string{
		`diseq_http_requests_total{code="503",route="GET /readyz"} 1`, `diseq_http_streams 0`,
		`diseq_http_request_duration_seconds_count{route="GET /healthz"} 3`,
	} {
		if !strings.Contains(metrics.body, line) {
			t.Errorf("/metrics lacks %q:\n%s", line, metrics.body)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		if got := do(t, s.Public(), request{path: path}); got.status != 404 {
			t.Errorf("%s on the public listener: %d", path, got.status)
		}
	}
	if got := do(t, s.Operations(), request{path: "/debug/pprof/cmdline"}); got.status != 404 {
		t.Errorf("pprof without the flag: %d", got.status)
	}
	withPprof := New(Options{Backend: f, Pprof: true})
	if got := do(t, withPprof.Operations(), request{path: "/debug/pprof/cmdline"}); got.status != 200 {
		t.Errorf("pprof with the flag: %d", got.status)
	}
	if got := do(t, s.Operations(), post(octets, "x")); got.status != 404 {
		t.Errorf("submission on the operations listener: %d", got.status)
	}
}

func TestV1AnswersInJSONWhereThereIsNoRoute(t *testing.T) {
	h := New(Options{Backend: newFake(t)}).Public()
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/v1/nothing", 404, ""},
		{http.MethodGet, "/v1", 404, ""},
		{http.MethodDelete, "/v1/status", 405, "GET, HEAD"},
		{http.MethodGet, "/v1/messages", 405, "POST"},
		{http.MethodPut, "/v1/messages", 405, "POST"},
	} {
		got := do(t, h, request{method: c.method, path: c.path})
		if got.status != c.status || got.header.Get("Allow") != c.allow || got.header.Get("Content-Type") != jsonType {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
		got.errorCode(t)
	}
}

func TestFailuresOfTheBackendAreAnsweredWithoutDetails(t *testing.T) {
	f := newFake(t)
	f.failure = errors.New("disk /secret")
	h := New(Options{Backend: f}).Public()
	id := chain.Hash{1}.String()
	for _, q := range []request{
		{path: "/get/pool"}, {path: "/get/block/0"}, {path: "/v1/messages/" + id}, {path: "/v1/messages/" + id + "/receipt"},
		{path: "/v1/proofs/" + id}, {path: "/v1/blocks/0"}, {path: "/v1/blocks"}, {path: "/v1/validators"}, {path: "/v1/evidence"},
		{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[1],"timestamp":0}`}, post(octets, "x"),
	} {
		if got := do(t, h, q); got.status != 500 || strings.Contains(got.body, "secret") {
			t.Errorf("%s: %+v", q.path, got)
		}
	}
}
