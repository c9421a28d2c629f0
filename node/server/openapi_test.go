package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/seats"
	"github.com/diseq/diseq/node/trie"
)

// document is openapi.yaml, with what of JSON Schema it uses.
type document map[string]any

func readDocument(t *testing.T) document {
	t.Helper()
	var d document
	if err := yaml.UnmarshalStrict(openAPIDocument, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// resolve follows a $ref; what stands beside it stays.
func (d document) resolve(node map[string]any) (map[string]any, error) {
	ref, ok := node["$ref"].(string)
	if !ok {
		return node, nil
	}
	at := any(map[string]any(d))
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, _ := at.(map[string]any)
		if at, ok = m[name]; !ok {
			return nil, fmt.Errorf("%s leads nowhere", ref)
		}
	}
	target, err := d.resolve(at.(map[string]any))
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	for _, m := range []map[string]any{target, node} {
		for k, v := range m {
			if k != "$ref" {
				out[k] = v
			}
		}
	}
	return out, nil
}

// check compares v with a schema. A keyword that it does not know is an error, so that none is
// passed over.
func (d document) check(schema map[string]any, v any) error {
	schema, err := d.resolve(schema)
	if err != nil {
		return err
	}
	for keyword, want := range schema {
		if err := d.checkKeyword(schema, keyword, want, v); err != nil {
			return err
		}
	}
	return nil
}

func (d document) checkKeyword(schema map[string]any, keyword string, want, v any) error {
	object, isObject := v.(map[string]any)
	list, isList := v.([]any)
	text, isText := v.(string)
	number, isNumber := v.(float64)
	switch keyword {
	case "description", "default", "format":
	case "type":
		if got := typeOf(v); got != want && (want != "integer" || !isNumber || number != float64(int64(number))) {
			return fmt.Errorf("%v is %s, want %v", v, got, want)
		}
	case "const":
		if !reflect.DeepEqual(v, want) {
			return fmt.Errorf("%v, want %v", v, want)
		}
	case "enum":
		if !slices.Contains(want.([]any), v) {
			return fmt.Errorf("%v is none of %v", v, want)
		}
	case "pattern":
		if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
			return fmt.Errorf("%q does not match %s", text, want)
		}
	case "minimum":
		if isNumber && number < want.(float64) {
			return fmt.Errorf("%v is below %v", number, want)
		}
	case "maximum":
		if isNumber && number > want.(float64) {
			return fmt.Errorf("%v is above %v", number, want)
		}
	case "minItems":
		if isList && len(list) < int(want.(float64)) {
			return fmt.Errorf("%d items, want %v or more", len(list), want)
		}
	case "maxItems":
		if isList && len(list) > int(want.(float64)) {
			return fmt.Errorf("%d items, want %v or fewer", len(list), want)
		}
	case "items":
		for i, item := range list {
			if err := d.check(want.(map[string]any), item); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case "prefixItems":
		for i, s := range want.([]any) {
			if isList && i < len(list) {
				if err := d.check(s.(map[string]any), list[i]); err != nil {
					return fmt.Errorf("[%d]: %w", i, err)
				}
			}
		}
	case "required":
		for _, name := range want.([]any) {
			if _, ok := object[name.(string)]; isObject && !ok {
				return fmt.Errorf("%s is missing", name)
			}
		}
	case "properties":
		for name, s := range want.(map[string]any) {
			if value, ok := object[name]; ok {
				if err := d.check(s.(map[string]any), value); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	case "additionalProperties":
		known, _ := schema["properties"].(map[string]any)
		for name := range object {
			if _, ok := known[name]; !ok && want == false {
				return fmt.Errorf("%s is not described", name)
			}
		}
	case "oneOf":
		var all []error
		matches := 0
		for _, s := range want.([]any) {
			if err := d.check(s.(map[string]any), v); err != nil {
				all = append(all, err)
			} else {
				matches++
			}
		}
		if matches != 1 {
			return fmt.Errorf("%d of oneOf match: %w", matches, errors.Join(all...))
		}
	case "contentEncoding":
		if _, err := base64.StdEncoding.Strict().DecodeString(text); err != nil || want != "base64" {
			return fmt.Errorf("%q is not %v: %w", text, want, err)
		}
	case "contentMediaType":
		if want != jsonType {
			return fmt.Errorf("unknown contentMediaType %v", want)
		}
	case "contentSchema":
		var inner any
		if err := json.Unmarshal([]byte(text), &inner); err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		return d.check(want.(map[string]any), inner)
	default:
		return fmt.Errorf("unknown keyword %s", keyword)
	}
	return nil
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}

// operations returns "GET /path" -> the operation.
func (d document) operations() map[string]map[string]any {
	out := map[string]map[string]any{}
	for path, item := range d["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			out[strings.ToUpper(method)+" "+path] = operation.(map[string]any)
		}
	}
	return out
}

// Promise 47.
func TestOpenAPIDescribesTheRoutesThereAre(t *testing.T) {
	s := New(Options{Backend: newFake(t)})
	described := readDocument(t).operations()
	for _, r := range s.publicRoutes() {
		if described[r.pattern] == nil {
			t.Errorf("%s is served and not described", r.pattern)
		}
		delete(described, r.pattern)
	}
	for name := range described {
		t.Errorf("%s is described and not served", name)
	}
	if got := do(t, s.Public(), request{path: "/openapi.yaml"}); got.status != 200 || got.body != string(openAPIDocument) {
		t.Errorf("served: %d, %d bytes", got.status, len(got.body))
	}
}

// slowBody is a body that comes to nothing in time.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

// openAPICase asks for one of the answers that the document describes.
type openAPICase struct {
	operation string
	status    int
	request   request
	prepare   func(*fake)
	slow      bool
	// closed says that the node has an access file, and full that the client, which the file names,
	// has as many connections as it may have.
	closed, full bool
}

// openAPICases has at least one case for each status of each operation.
func openAPICases(tb testing.TB) []openAPICase {
	tb.Helper()
	known, absent := chain.Message{Data: []byte("known")}, chain.Hash{9}.String()
	id := known.ID().String()
	final := func(f *fake) { f.finalize(known, chain.Message{Data: []byte("other")}) }
	fails := func(err error) func(*fake) { return func(f *fake) { f.submitError = err } }
	full, low := fails(&FullError{}), fails(ErrStorageLow)
	proof := trie.Proof{
		Key: known.ID(), Root: trie.RootNode{Hash: chain.Hash{1}, Left: chain.Hash{2}},
		Branches: []trie.Branch{{Bit: 3, Hash: chain.Hash{2}, Left: chain.Hash{4}, Right: chain.Hash{5}}},
		Leaf:     &trie.ProofLeaf{IsRight: true, Key: known.ID(), Hash: chain.Hash{5}, Data: known.Data},
	}
	included := func(f *fake) {
		b := f.finalize(known)
		f.proof = &Proof{Included: true, Proof: proof, Legacy: trie.PoCProof(proof), Header: &b.Header, Certificate: &b.Certificate}
	}
	lacking := func(f *fake) { f.proof = &Proof{Proof: trie.Proof{Key: known.ID()}} }
	bits := "[1" + strings.Repeat(",0", 255) + "]"
	json := func(path, body string) request {
		return request{method: http.MethodPost, path: path, contentType: jsonType, body: body}
	}
	conditional := func(q request) request {
		q.header = with("If-Match", `"x"`)
		return q
	}
	changed := func(f *fake) {
		f.replace(4)
		f.replace(3)
		f.finalize(known)
		f.evidence = []chain.Evidence{f.equivocation(tb)}
		f.evidence[0].First.Height = 3 // it need not verify
		votesFrom := uint64(5)
		f.votesFrom, f.checkpoint = &votesFrom, &chain.Checkpoint{Height: 2, Hash: chain.Hash{1}}
		f.target = &TargetStatus{Generation: 3, Problem: "the set in force has generation 3"}
		f.endorsements = []EndorsementStatus{{Name: "node-0", Generation: 3}}
	}
	damaged := func(f *fake) { f.failure = fmt.Errorf("%w: block 1 is damaged", ErrUnavailable) }
	const legacy = `{"data":[1,2],"timestamp":3}`
	return withAccess([]openAPICase{
		{operation: "POST /v1/messages", status: 200, request: request{
			method: http.MethodPost, path: "/v1/messages?wait=final", contentType: octets, body: "known"}, prepare: final},
		{operation: "POST /v1/messages", status: 202, request: json("/v1/messages", `{"data":"YQ=="}`)},
		{operation: "POST /v1/messages", status: 400, request: json("/v1/messages", `{`)},
		{operation: "POST /v1/messages", status: 408, request: post(octets, "x"), slow: true},
		{operation: "POST /v1/messages", status: 412, request: conditional(post(octets, "x"))},
		{operation: "POST /v1/messages", status: 413, request: post(octets, strings.Repeat("x", 64<<10+1))},
		{operation: "POST /v1/messages", status: 415, request: post("text/html", "x")},
		{operation: "POST /v1/messages", status: 422, request: json("/v1/messages", `{}`)},
		{operation: "POST /v1/messages", status: 429, request: post(octets, "x"), prepare: full},
		{operation: "POST /v1/messages", status: 503, request: post(octets, "x"), prepare: low},
		{operation: "GET /v1/messages/{id}", status: 200, request: request{path: "/v1/messages/" + id}, prepare: final},
		{operation: "GET /v1/messages/{id}", status: 200, request: request{path: "/v1/messages/" + id},
			prepare: func(f *fake) { f.pending = []chain.Message{known} }},
		{operation: "GET /v1/messages/{id}", status: 400, request: request{path: "/v1/messages/x"}},
		{operation: "GET /v1/messages/{id}", status: 404, request: request{path: "/v1/messages/" + absent}},
		{operation: "GET /v1/messages/{id}", status: 503, request: request{path: "/v1/messages/" + id}, prepare: damaged},
		{operation: "GET /v1/messages/{id}/receipt", status: 200, request: request{path: "/v1/messages/" + id + "/receipt"}, prepare: final},
		{operation: "GET /v1/messages/{id}/receipt", status: 400, request: request{path: "/v1/messages/x/receipt"}},
		{operation: "GET /v1/messages/{id}/receipt", status: 404, request: request{path: "/v1/messages/" + absent + "/receipt"}},
		{operation: "GET /v1/messages/{id}/receipt", status: 409, request: request{path: "/v1/messages/" + id + "/receipt"},
			prepare: func(f *fake) { f.pending = []chain.Message{known} }},
		{operation: "GET /v1/messages/{id}/receipt", status: 503, request: request{path: "/v1/messages/" + id + "/receipt"}, prepare: damaged},
		{operation: "GET /v1/proofs/{id}", status: 200, request: request{path: "/v1/proofs/" + id}, prepare: included},
		{operation: "GET /v1/proofs/{id}", status: 200, request: request{path: "/v1/proofs/" + id}, prepare: lacking},
		{operation: "GET /v1/proofs/{id}", status: 400, request: request{path: "/v1/proofs/x"}},
		{operation: "GET /v1/proofs/{id}", status: 404, request: request{path: "/v1/proofs/" + id}},
		{operation: "GET /v1/proofs/{id}", status: 503, request: request{path: "/v1/proofs/" + id}, prepare: damaged},
		{operation: "GET /v1/blocks/{height}", status: 200, request: request{path: "/v1/blocks/latest"}, prepare: final},
		{operation: "GET /v1/blocks/{height}", status: 200, request: request{path: "/v1/blocks/0?messages=false"}},
		{operation: "GET /v1/blocks/{height}", status: 400, request: request{path: "/v1/blocks/x"}},
		{operation: "GET /v1/blocks/{height}", status: 404, request: request{path: "/v1/blocks/7"}},
		{operation: "GET /v1/blocks/{height}", status: 503, request: request{path: "/v1/blocks/0"}, prepare: damaged},
		{operation: "GET /v1/blocks", status: 200, request: request{path: "/v1/blocks"}, prepare: final},
		{operation: "GET /v1/blocks", status: 400, request: request{path: "/v1/blocks?limit=0"}},
		{operation: "GET /v1/blocks", status: 503, request: request{path: "/v1/blocks"}, prepare: damaged},
		// HEAD has the header of the answer and ends; the bodies of streams have tests of their
		// own.
		{operation: "GET /v1/stream", status: 200, request: request{method: http.MethodHead, path: "/v1/stream"}},
		{operation: "GET /v1/stream", status: 200, request: request{
			method: http.MethodHead, path: "/v1/stream", header: http.Header{"Accept": {"text/event-stream"}}}},
		{operation: "GET /v1/stream", status: 400, request: request{path: "/v1/stream?from=x"}},
		{operation: "GET /v1/stream", status: 503, request: request{path: "/v1/stream"}},
		{operation: "GET /v1/changes", status: 200, request: request{path: "/v1/changes"}},
		{operation: "GET /v1/changes", status: 200, request: request{path: "/v1/changes?limit=1"}, prepare: changed},
		{operation: "GET /v1/changes", status: 400, request: request{path: "/v1/changes?from=0"}},
		{operation: "GET /v1/changes", status: 503, request: request{path: "/v1/changes"}, prepare: damaged},
		{operation: "GET /v1/blocks/{height}", status: 200, request: request{path: "/v1/blocks/1"}, prepare: changed},
		{operation: "GET /v1/messages/{id}/receipt", status: 200, request: request{path: "/v1/messages/" + id + "/receipt"}, prepare: changed},
		{operation: "GET /v1/messages/{id}/receipt", status: 400, request: request{path: "/v1/messages/" + id + "/receipt?from=-1"}, prepare: final},
		{operation: "GET /v1/status", status: 200, request: request{path: "/v1/status"}, prepare: changed},
		{operation: "GET /v1/status", status: 200, request: request{path: "/v1/status"}},
		{operation: "GET /v1/validators", status: 200, request: request{path: "/v1/validators"}},
		{operation: "GET /v1/validators", status: 400, request: request{path: "/v1/validators?height=x"}},
		{operation: "GET /v1/validators", status: 404, request: request{path: "/v1/validators?height=99"}},
		{operation: "GET /v1/evidence", status: 200, request: request{path: "/v1/evidence"},
			prepare: func(f *fake) { f.evidence = []chain.Evidence{f.equivocation(tb)} }},
		{operation: "GET /v1/evidence", status: 200, request: request{path: "/v1/evidence"}, prepare: changed},
		{operation: "GET /v1/evidence", status: 400, request: request{path: "/v1/evidence?from=x"}},
		{operation: "GET /v1/evidence", status: 503, request: request{path: "/v1/evidence"}, prepare: damaged},
		{operation: "GET /v1/genesis", status: 200, request: request{path: "/v1/genesis"}},
		{operation: "GET /healthz", status: 200, request: request{path: "/healthz"}},
		{operation: "GET /readyz", status: 200, request: request{path: "/readyz"}},
		{operation: "GET /readyz", status: 503, request: request{path: "/readyz"}, prepare: func(f *fake) { f.notReady = errors.New("behind") }},
		{operation: "GET /openapi.yaml", status: 200, request: request{path: "/openapi.yaml"}},
		{operation: "POST /schedule", status: 200, request: json("/schedule", legacy)},
		{operation: "POST /schedule", status: 400, request: json("/schedule", "{")},
		{operation: "POST /schedule", status: 408, request: json("/schedule", legacy), slow: true},
		{operation: "POST /schedule", status: 412, request: conditional(json("/schedule", legacy))},
		{operation: "POST /schedule", status: 413, request: json("/schedule", `{"data":[`+strings.Repeat("1,", 64<<10)+`1],"timestamp":0}`)},
		{operation: "POST /schedule", status: 415, request: request{method: http.MethodPost, path: "/schedule", body: legacy}},
		{operation: "POST /schedule", status: 422, request: json("/schedule", "{}")},
		{operation: "POST /schedule", status: 429, request: json("/schedule", legacy), prepare: full},
		{operation: "POST /schedule", status: 503, request: json("/schedule", legacy), prepare: low},
		{operation: "GET /get/pool", status: 200, request: request{path: "/get/pool"},
			prepare: func(f *fake) { f.pending = []chain.Message{known} }},
		{operation: "GET /get/pool", status: 503, request: request{path: "/get/pool"}, prepare: damaged},
		{operation: "GET /get/commitments", status: 200, request: request{path: "/get/commitments"},
			prepare: func(f *fake) { f.commitments = []chain.Commitment{{Epoch: 1, Proof: []byte{1}}} }},
		{operation: "GET /get/block/{height}", status: 200, request: request{path: "/get/block/1"}, prepare: final},
		{operation: "GET /get/block/{height}", status: 200, request: request{path: "/get/block/0"}},
		{operation: "GET /get/block/{height}", status: 400, request: request{path: "/get/block/x"}},
		{operation: "GET /get/block/{height}", status: 503, request: request{path: "/get/block/0"}, prepare: damaged},
		{operation: "GET /get/height", status: 200, request: request{path: "/get/height"}},
		{operation: "GET /get/state_root_hash", status: 200, request: request{path: "/get/state_root_hash"},
			prepare: func(f *fake) { f.root.Hash = &chain.Hash{1} }},
		{operation: "POST /merkle_proof", status: 200, request: json("/merkle_proof", bits), prepare: included},
		{operation: "POST /merkle_proof", status: 400, request: json("/merkle_proof", "[")},
		{operation: "POST /merkle_proof", status: 404, request: json("/merkle_proof", bits), prepare: lacking},
		{operation: "POST /merkle_proof", status: 408, request: json("/merkle_proof", bits), slow: true},
		{operation: "POST /merkle_proof", status: 412, request: conditional(json("/merkle_proof", bits))},
		{operation: "POST /merkle_proof", status: 413, request: json("/merkle_proof", strings.Repeat(" ", maxLegacyBody+1))},
		{operation: "POST /merkle_proof", status: 415, request: request{method: http.MethodPost, path: "/merkle_proof", body: bits}},
		{operation: "POST /merkle_proof", status: 422, request: json("/merkle_proof", "[2]")},
		{operation: "POST /merkle_proof", status: 503, request: json("/merkle_proof", bits), prepare: damaged},
		{operation: "POST /commit", status: 403, request: json("/commit", "{}")},
		{operation: "POST /propose", status: 403, request: json("/propose", "{}")},
	})
}

// withAccess adds the refusals of a node with an access file, for each operation that needs a
// client's right.
func withAccess(cases []openAPICase) []openAPICase {
	open := []string{"POST /commit", "POST /propose", "GET /openapi.yaml", "GET /healthz", "GET /readyz"}
	seen := map[string]bool{}
	for _, c := range slices.Clone(cases) {
		if seen[c.operation] || slices.Contains(open, c.operation) {
			continue
		}
		seen[c.operation] = true
		for _, refusal := range []struct {
			client string
			status int
		}{{"", 401}, {"nobody", 403}, {"one", 429}} {
			refused := openAPICase{
				operation: c.operation, status: refusal.status, request: c.request, closed: true, full: refusal.status == 429,
			}
			if refusal.client != "" {
				refused.request.header = as(refusal.client)
			}
			cases = append(cases, refused)
		}
	}
	return cases
}

// few is access control with a client that may do nothing, and one that may have one connection.
func few(t *testing.T) *access.Control {
	t.Helper()
	return control(t, `{"clients":[{"name":"nobody","token":{"file":"nobody"}},
	  {"name":"one","token":{"file":"one"},"allow":["Submit","Read","Observe"],"limits":{"connections":1}}]}`, []string{"nobody", "one"}).control
}

// through is a handler as a new connection reaches it.
func through(t *testing.T, h http.Handler) http.Handler {
	t.Helper()
	place, err := seats.New(1, 0).Take(t.Context(), seats.Claim{Key: "a client", Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	in := &connection{place: place}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connectionKey, in)))
	})
}

// Promise 47.
func TestAnswersAreAsOpenAPIDescribesThem(t *testing.T) {
	d := readDocument(t)
	operations := d.operations()
	asked := map[string]bool{}
	for _, c := range openAPICases(t) {
		name := fmt.Sprintf("%s %d", c.operation, c.status)
		asked[name] = true
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if c.prepare != nil {
				c.prepare(f)
			}
			o := Options{Backend: f, Limits: Limits{Streams: 1}}
			if c.closed {
				o.Access = few(t)
			}
			s := New(o)
			if c.status == 503 {
				if _, err := s.streams.all.Take(t.Context(), seats.Claim{Key: "another"}); err != nil {
					t.Fatal(err)
				}
			}
			h := s.Public()
			if c.full {
				if got := do(t, through(t, h), request{path: "/v1/genesis", header: as("one")}); got.status != 200 {
					t.Fatalf("the first connection: %d %s", got.status, got.body)
				}
				h = through(t, h)
			}
			got := c.ask(t, h)
			if got.status != c.status {
				t.Fatalf("got %d %.300s", got.status, got.body)
			}
			responses, _ := operations[c.operation]["responses"].(map[string]any)
			response, ok := responses[fmt.Sprint(c.status)].(map[string]any)
			if !ok {
				t.Fatal("the status is not described")
			}
			if err := d.checkResponse(response, got, c.request.method == http.MethodHead); err != nil {
				t.Errorf("%v: %.1000s", err, got.body)
			}
		})
	}
	for name, operation := range operations {
		for status := range operation["responses"].(map[string]any) {
			if !asked[name+" "+status] {
				t.Errorf("no case asks for %s %s", name, status)
			}
		}
	}
}

func (c *openAPICase) ask(t *testing.T, h http.Handler) answer {
	t.Helper()
	if !c.slow {
		return do(t, h, c.request)
	}
	w := httptest.NewRecorder()
	r, err := http.NewRequestWithContext(t.Context(), c.request.method, c.request.path, slowBody{})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", c.request.contentType)
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Result().Header, w.Body.String()}
}

func (d document) checkResponse(response map[string]any, got answer, head bool) error {
	response, err := d.resolve(response)
	if err != nil {
		return err
	}
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		if got.header.Get(name) == "" {
			return fmt.Errorf("header %s is missing", name)
		}
	}
	media, ok := response["content"].(map[string]any)[got.header.Get("Content-Type")].(map[string]any)
	if !ok {
		return fmt.Errorf("content type %q is not described", got.header.Get("Content-Type"))
	}
	if head {
		return nil
	}
	value := any(got.body)
	if got.header.Get("Content-Type") == jsonType {
		if err := json.Unmarshal([]byte(got.body), &value); err != nil {
			return err
		}
	}
	return d.check(media["schema"].(map[string]any), value)
}

func TestStreamedBlocksAreAsOpenAPIDescribesThem(t *testing.T) {
	d := readDocument(t)
	f := newFake(t)
	f.finalize(chain.Message{Data: []byte("a")})
	s := New(Options{Backend: f})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	for height := range uint64(2) {
		w := httptest.NewRecorder()
		b, err := s.encodeBlock(w, r, height, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.writeTo(w, nil, nil); err != nil {
			t.Fatal(err)
		}
		b.close()
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if err := d.check(map[string]any{"$ref": "#/components/schemas/Block"}, v); err != nil {
			t.Errorf("height %d: %v", height, err)
		}
	}
}

// The checks above are worth what check is worth: each of these must be refused.
func TestSchemaCheckSeesWhatIsWrong(t *testing.T) {
	d := readDocument(t)
	ref := func(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }
	var block map[string]any
	f := newFake(t)
	f.finalize(chain.Message{Data: []byte("a")})
	fresh := func() map[string]any {
		block = decode[map[string]any](t, do(t, New(Options{Backend: f}).Public(), request{path: "/v1/blocks/1"}))
		return block
	}
	if err := d.check(ref("Block"), fresh()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"missing property":     func() { delete(block, "header_hash") },
		"property not known":   func() { block["more"] = 1.0 },
		"wrong type":           func() { block["messages"] = "x" },
		"null":                 func() { block["header"] = nil },
		"deep: upper-case hex": func() { block["header"].(map[string]any)["beacon"] = strings.Repeat("A", 64) },
		"deep: no integer":     func() { block["header"].(map[string]any)["height"] = 1.5 },
		"deep: negative":       func() { block["header"].(map[string]any)["height"] = -1.0 },
		"deep: not in enum":    func() { block["certificate"].(map[string]any)["kind"] = "nullify" },
		"deep: not base64":     func() { block["messages"].([]any)[0].(map[string]any)["data"] = "*" },
	} {
		fresh()
		change()
		if err := d.check(ref("Block"), block); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for name, c := range map[string]struct {
		schema map[string]any
		value  any
	}{
		"too few":         {ref("LegacyHash"), []any{1.0}},
		"too large":       {ref("LegacyBytes"), []any{256.0}},
		"unknown keyword": {map[string]any{"typ": "string"}, "x"},
		"dangling ref":    {ref("Nothing"), "x"},
		"const":           {map[string]any{"const": 1.0}, 2.0},
		"content":         {map[string]any{"contentSchema": map[string]any{"type": "integer"}}, "[]"},
		"both of oneOf":   {map[string]any{"oneOf": []any{map[string]any{}, map[string]any{}}}, "x"},
	} {
		if err := d.check(c.schema, c.value); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
