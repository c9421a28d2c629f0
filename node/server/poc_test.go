package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

const (
	scheduled  = "[Ok] Message is being sequenced: Message { data: [1, 2, 3], timestamp: 0 }"
	parse      = "Failed to parse the request body as JSON: "
	target     = "Failed to deserialize the JSON body into the target type: "
	wantJSON   = "Expected request with `Content-Type: application/json`"
	plainText  = "text/plain; charset=utf-8"
	noSuchPath = "[Warning] Requested Block that does not exist"
)

// Statuses and answers are those of the proof of concept (axum 0.7 with serde_json), and so is the
// beginning of each error's text.
//
// Promise 46.
func TestScheduleAnswersByteForByte(t *testing.T) {
	for _, c := range []struct {
		contentType, body string
		status            int
		text              string
	}{
		{jsonType, `{"data":[1,2,3],"timestamp":0}`, 200, scheduled},
		{"application/json; charset=utf-8", `{"data":[1,2,3],"timestamp":0}`, 200, scheduled},
		{"application/vnd.api+json", `{"data":[1,2,3],"timestamp":0}`, 200, scheduled},
		{jsonType, `{"x":1,"x":2,"DATA":[9],"data":[1,2,3],"timestamp":0}`, 200, scheduled},
		{jsonType, " {\n \"timestamp\" : 0 , \"data\" : [ 1 , 2 , 3 ] } \n", 200, scheduled},
		{jsonType, `{"x":{"y":[1,{}],"z":[]},"data":[1,2,3],"e":[-1.5e3,true,null,"\u00e9"],"timestamp":0}`, 200, scheduled},
		{jsonType, `{"d\u0061ta":[255],"timestamp":4294967295}`, 200,
			"[Ok] Message is being sequenced: Message { data: [255], timestamp: 4294967295 }"},

		{"", `{"data":[1],"timestamp":0}`, 415, wantJSON},
		{"text/plain", `{"data":[1],"timestamp":0}`, 415, wantJSON},
		{"application/json; =", `{"data":[1],"timestamp":0}`, 415, wantJSON},

		{jsonType, ``, 400, parse},
		{jsonType, `{`, 400, parse},
		{jsonType, `{"data":[1,`, 400, parse},
		{jsonType, `{"data":[1`, 400, parse},
		{jsonType, `{"data":[1,]`, 400, parse},
		{jsonType, `{"data":[1 2]`, 400, parse},
		{jsonType, `{"data":[01]`, 400, parse},
		{jsonType, `{"data":[1],}`, 400, parse},
		{jsonType, `{data:[1]}`, 400, parse},
		{jsonType, `{"data" [1]}`, 400, parse},
		{jsonType, `{"data":[1] "timestamp":0}`, 400, parse},
		{jsonType, `not json`, 400, parse},
		{jsonType, "{\n\"data\":[x]}", 400, parse},
		{jsonType, `{"data":[1],"timestamp":0}x`, 400, parse},
		{jsonType, "{\"data\":[1],\"timestamp\":0,\"x\":\"\xff\"}", 400, parse},

		{jsonType, `{"data":[1],"data":[2],"timestamp":0}`, 422, target + "at /data: duplicate field"},
		{jsonType, `{"data":[1],"timestamp":0,"d\u0061ta":[2]}`, 422, target + "at /data: duplicate field"},
		{jsonType, `{"data":[1]}`, 422, target + "missing field `timestamp`"},
		{jsonType, `{"timestamp":0}`, 422, target + "missing field `data`"},
		{jsonType, `{"data":"AQID","timestamp":0}`, 422,
			target + "at /data: a string in the place of an array"},
		{jsonType, `{"data":null,"timestamp":0}`, 422, target + "at /data: null in the place of an array"},
		{jsonType, `{"data":{},"timestamp":0}`, 422, target + "at /data: an object in the place of an array"},
		{jsonType, `{"data":[1,256],"timestamp":0}`, 422,
			target + "at /data/1: 256, want an integer from 0 to 255"},
		{jsonType, `{"data":[-1],"timestamp":0}`, 422, target + "at /data/0: -1, want an integer from 0 to 255"},
		{jsonType, `{"data":[1.5],"timestamp":0}`, 422,
			target + "at /data/0: 1.5, want an integer from 0 to 255"},
		{jsonType, `{"data":[true],"timestamp":0}`, 422,
			target + "at /data/0: a boolean in the place of a number"},
		{jsonType, `{"data":[[]],"timestamp":0}`, 422, target + "at /data/0: an array in the place of a number"},
		{jsonType, `{"data":[1],"timestamp":4294967296}`, 422,
			target + "at /timestamp: 4294967296, want an integer from 0 to 4294967295"},
		{jsonType, `{"data":[1],"timestamp":-1}`, 422,
			target + "at /timestamp: -1, want an integer from 0 to 4294967295"},
		{jsonType, `{"data":[1],"timestamp":1e20}`, 422,
			target + "at /timestamp: 1e20, want an integer from 0 to 4294967295"},
		{jsonType, `7`, 422, target + "a number in the place of an object"},

		{jsonType, `{"data":[],"timestamp":0}`, 400, "message 0 is empty: a message has at least one byte"},
		{jsonType, `{"data":[` + strings.Repeat("0,", 64<<10) + `0],"timestamp":0}`, 413,
			"message 0 has 65537 bytes, at most 65536 are allowed"},
		{jsonType, strings.Repeat(" ", maxLegacyBody+1), 413, "Failed to buffer the request body: length limit exceeded"},
	} {
		h := New(Options{Backend: newFake(t)}).Public()
		got := do(t, h, request{method: http.MethodPost, path: "/schedule", contentType: c.contentType, body: c.body})
		// a text that is not JSON is described by the library that reads it
		same := got.body == c.text || c.text == parse && strings.HasPrefix(got.body, parse)
		if got.status != c.status || !same || got.header.Get("Content-Type") != plainText {
			t.Errorf("%q %.80q:\n got %d %s %q\nwant %d %q", c.contentType, c.body, got.status, got.header.Get("Content-Type"), got.body, c.status, c.text)
		}
	}
}

func TestScheduleKeepsTheTimestamp(t *testing.T) {
	f := newFake(t)
	do(t, New(Options{Backend: f}).Public(),
		request{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[9],"timestamp":77}`})
	if len(f.pending) != 1 || f.pending[0].Timestamp != 77 || !bytes.Equal(f.pending[0].Data, []byte{9}) {
		t.Errorf("submitted %v", f.pending)
	}
}

func TestScheduleTellsWhyTheNodeRefuses(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		retryAfter string
		text       string
	}{
		{&FullError{RetryAfter: 1500 * time.Millisecond}, 429, "2", "the pool of pending messages is full: try again in 1.5s"},
		{ErrStorageLow, 503, "10", "fake: storage is low"},
		{ErrUnavailable, 503, "1", "fake: unavailable"},
		{&RequestError{Reason: "no"}, 400, "", "no"},
		{&RequestError{TooLarge: true, Reason: "too long"}, 413, "", "too long"},
		{errors.New("secret path"), 500, "", "internal error"},
	} {
		f := newFake(t)
		f.submitError = c.err
		got := do(t, New(Options{Backend: f}).Public(),
			request{method: http.MethodPost, path: "/schedule", contentType: jsonType, body: `{"data":[1],"timestamp":0}`})
		if got.status != c.status || got.header.Get("Retry-After") != c.retryAfter || got.body != c.text {
			t.Errorf("%v: got %d, Retry-After %q, %q", c.err, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
}

func TestPoolIsInDebugForm(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	if got := do(t, h, request{path: "/get/pool"}); got.status != 200 || got.body != "[]" || got.header.Get("Content-Type") != plainText {
		t.Errorf("empty pool: %+v", got)
	}
	f.pending = []chain.Message{{Data: []byte{1}}, {Data: []byte{2, 255}, Timestamp: 5}}
	want := "[Message { data: [1], timestamp: 0 }, Message { data: [2, 255], timestamp: 5 }]"
	if got := do(t, h, request{path: "/get/pool"}); got.body != want {
		t.Errorf("got %q, want %q", got.body, want)
	}
}

func TestLegacyBlock(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	b := f.finalize(chain.Message{Data: []byte{1, 2}, Timestamp: 3}, chain.Message{Data: []byte{4}})
	list := func(b []byte) string { return strings.ReplaceAll(strings.Trim(fmt.Sprintf("%d", b), "[]"), " ", ",") }
	var votes []string
	for _, v := range b.Certificate.Votes {
		key := f.genesis.Validators[v.Validator].PublicKey
		votes = append(votes, fmt.Sprintf(`{"signature":[%s],"validator":[%s],"timestamp":1700000001}`, list(v.Signature[:]), list(key[:])))
	}
	want := fmt.Sprintf(`{"height":1,"messages":[{"data":[1,2],"timestamp":3},{"data":[4],"timestamp":0}],"signature":[%s],"commitments":[%s],"timestamp":1700000001}`,
		list(b.Signature[:]), strings.Join(votes, ","))
	for path, text := range map[string]string{
		"/get/block/1":  want,
		"/get/block/+1": want,
		"/get/block/0":  `{"height":0,"messages":[],"signature":[],"commitments":null,"timestamp":1700000000}`,
		"/get/block/2":  noSuchPath,
	} {
		got := do(t, h, request{path: path})
		if got.status != 200 || got.body != text || got.header.Get("Content-Type") != plainText {
			t.Errorf("%s: got %d %q, want %q", path, got.status, got.body, text)
		}
	}
	for _, height := range []string{"abc", "-1", "4294967296", "1.0", "++1"} {
		want := "Invalid URL: Cannot parse `\"" + height + "\"` to a `u32`"
		if got := do(t, h, request{path: "/get/block/" + height}); got.status != 400 || got.body != want {
			t.Errorf("%s: got %d %q, want %q", height, got.status, got.body, want)
		}
	}
}

func TestLegacyBlockOfManyMessagesIsOneDocument(t *testing.T) {
	f := newFake(t)
	var messages []chain.Message
	for i := range 3000 {
		messages = append(messages, chain.Message{Data: fmt.Appendf(nil, "message %d", i)})
	}
	f.finalize(messages...)
	got := decode[struct {
		Messages []struct{ Data []int }
	}](t, do(t, New(Options{Backend: f}).Public(), request{path: "/get/block/1"}))
	if len(got.Messages) != 3000 || len(got.Messages[2999].Data) != len("message 2999") {
		t.Errorf("%d messages", len(got.Messages))
	}
}

func TestHeightIsTheNumberOfBlocks(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	for _, want := range []string{"1", "2"} {
		if got := do(t, h, request{path: "/get/height"}); got.status != 200 || got.body != want || got.header.Get("Content-Type") != plainText {
			t.Errorf("got %+v, want %s", got, want)
		}
		f.finalize()
	}
}

func TestCommitmentsAsNumbers(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	if got := do(t, h, request{path: "/get/commitments"}); got.body != "[]" {
		t.Errorf("without commitments: %q", got.body)
	}
	f.commitments = []chain.Commitment{{Epoch: 3, Validator: 1, Proof: []byte{7, 8}}, {Epoch: 4}}
	zeros := "[0" + strings.Repeat(",0", 31) + "]"
	want := `[{"epoch":3,"validator":1,"output":` + zeros + `,"proof":[7,8]},{"epoch":4,"validator":0,"output":` + zeros + `,"proof":[]}]`
	if got := do(t, h, request{path: "/get/commitments"}); got.body != want {
		t.Errorf("got %s\nwant %s", got.body, want)
	}
}

func TestStateRootAsNumbers(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	if got := do(t, h, request{path: "/get/state_root_hash"}); got.body != `{"hash":null,"left":null,"right":null}` {
		t.Errorf("empty trie: %q", got.body)
	}
	f.root = StateRoot{Hash: &chain.Hash{1}, Right: &chain.Hash{31: 255}}
	want := `{"hash":[1` + strings.Repeat(",0", 31) + `],"left":null,"right":[` + strings.Repeat("0,", 31) + `255]}`
	if got := do(t, h, request{path: "/get/state_root_hash"}); got.body != want || got.header.Get("Content-Type") != plainText {
		t.Errorf("got %q", got.body)
	}
}

func TestMerkleProof(t *testing.T) {
	f := newFake(t)
	h := New(Options{Backend: f}).Public()
	bits := make([]int, 256)
	bits[0], bits[7], bits[255] = 1, 1, 1
	key, err := json.Marshal(bits)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := decodeLegacyKey(key)
	if want := (chain.Hash{0: 0x81, 31: 1}); err != nil || decoded != want {
		t.Errorf("key %v, want %v: %v", decoded, want, err)
	}
	ask := func(body string) answer {
		return do(t, h, request{method: http.MethodPost, path: "/merkle_proof", contentType: jsonType, body: body})
	}
	if got := ask(string(key)); got.status != 404 {
		t.Errorf("without roots: %+v", got)
	}
	f.proof = &Proof{Proof: json.RawMessage(`{}`)}
	if got := ask(string(key)); got.status != 404 || got.body != "[Error] There is no such key in the trie" {
		t.Errorf("absent key: %+v", got)
	}
	f.proof = &Proof{Included: true, Proof: json.RawMessage(`{}`), Legacy: json.RawMessage(`{"nodes":[]}`)}
	if got := ask(string(key)); got.status != 200 || got.body != `{"nodes":[]}` || got.header.Get("Content-Type") != plainText {
		t.Errorf("included key: %+v", got)
	}
	for body, want := range map[string]answer{
		`[0,1`:    {status: 400, body: parse + "unexpected EOF after byte 4"},
		`[0,300]`: {status: 422, body: target + "at /1: 300, want an integer from 0 to 1"},
		`[0,1]`:   {status: 422, body: target + "2 bits, want a key of 256"},
		`{}`:      {status: 422, body: target + "an object in the place of an array"},
		strings.Replace(string(key), "1", "2", 1): {status: 422,
			body: target + "at /0: 2, want an integer from 0 to 1"},
	} {
		if got := ask(body); got.status != want.status || got.body != want.body {
			t.Errorf("%.20s: got %d %q, want %d %q", body, got.status, got.body, want.status, want.body)
		}
	}
	if got := do(t, h, request{method: http.MethodPost, path: "/merkle_proof", body: string(key)}); got.status != 415 {
		t.Errorf("without content type: %+v", got)
	}
}

func TestInternalRoutesAreForbidden(t *testing.T) {
	h := New(Options{Backend: newFake(t)}).Public()
	for _, path := range []string{"/commit", "/propose"} {
		got := do(t, h, request{method: http.MethodPost, path: path, contentType: jsonType, body: `{}`})
		if got.status != 403 || !strings.Contains(got.body, "peer listener") || got.header.Get("Content-Type") != plainText {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestLegacyPathsOfOtherMethodsAndNames(t *testing.T) {
	h := New(Options{Backend: newFake(t)}).Public()
	for _, c := range []struct {
		method, path  string
		status        int
		allow, prefix string
	}{
		{http.MethodGet, "/schedule", 405, "POST", "this route takes POST only"},
		{http.MethodPost, "/get/height", 405, "GET, HEAD", "this route takes GET and HEAD only"},
		{http.MethodGet, "/nothing", 404, "", "no such route"},
	} {
		got := do(t, h, request{method: c.method, path: c.path})
		if got.status != c.status || got.header.Get("Allow") != c.allow || !strings.HasPrefix(got.body, c.prefix) ||
			got.header.Get("Content-Type") != plainText {
			t.Errorf("%s %s: %+v", c.method, c.path, got)
		}
	}
}
