package nodeclient

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/node/chain"
)

var key = chain.PublicKey{26}

// good is what a node answers that is well.
func good() map[string]any {
	return map[string]any{
		"chain_id": "demo-0123abcd", "node": "demo-v1", "public_key": key, "role": "validator", "ready": true, "height": 1234,
		"block_hash": chain.Hash{1}, "block_timestamp": 1767268800000, "finalized_timestamp": 1767268800123, "round": 0, "leader": 2,
		"state_height": 1230, "threshold": 3, "validators": 4, "headroom": 1,
		"tolerance": map[string]int{"crash": 1, "byzantine": 1, "byzantine_with_synchrony": 2},
		"synchrony": map[string]any{"delta_ms": 250, "healthy": true, "settled": true}, "evidence": 3,
		"peers": []any{}, "pool": map[string]int{"messages": 0, "bytes": 0, "max_bytes": 1, "held_messages": 5},
		"versions": map[string]any{"node": "v1", "protocol": 1, "go": "go1"}, "generation": 2, "vote_store": true, "votes_from_height": 7,
		"target": map[string]any{"generation": 3, "hash": chain.Hash{3}, "problem": "", "endorsed": true, "endorsements": 2, "needed": 3,
			"linked": 4, "linked_needed": 4, "validators": 7},
		"endorsements": []any{map[string]any{"name": "demo-v0", "public_key": chain.PublicKey{6}, "generation": 3, "hash": chain.Hash{3}}},
		"checkpoint":   map[string]any{"height": 700, "hash": chain.Hash{9}},
	}
}

func with(field string, value any) map[string]any {
	m := good()
	m[field] = value
	return m
}

// serve answers every request with what answer writes, and returns the node to ask.
func serve(t *testing.T, answer http.HandlerFunc) Node {
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return Node{Name: "demo-v1", Address: server.Listener.Addr().String(), PublicKey: key, ChainID: "demo-0123abcd"}
}

func body(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func TestStatus(t *testing.T) {
	node := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/status" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		body(good())(w, r)
	})
	s, err := NewHTTP(0).Status(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	want := &Status{ChainID: "demo-0123abcd", Node: "demo-v1", PublicKey: key, Role: RoleValidator, Ready: true, Height: 1234,
		FinalizedTimestamp: 1767268800123, Threshold: 3, Validators: 4, Versions: Versions{Node: "v1", Protocol: 1},
		Synchrony: &Synchrony{DeltaMS: 250, Healthy: true, Settled: true}, Evidence: 3, Generation: 2, VoteStore: true,
		VotesFromHeight: new(uint64(7)), Pool: Pool{HeldMessages: new(uint64(5))},
		Target: &Target{Generation: 3, Hash: chain.Hash{3}, Endorsed: true, Endorsements: 2, Needed: 3, Linked: 4, LinkedNeeded: 4,
			Validators: 7},
		Endorsements: []Endorsement{{Name: "demo-v0", PublicKey: chain.PublicKey{6}, Generation: 3, Hash: chain.Hash{3}}},
		Checkpoint:   &chain.Checkpoint{Height: 700, Hash: chain.Hash{9}}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("status, -want +got:\n%s", diff)
	}
	if s.Delta() != 250*time.Millisecond || (&Status{}).Delta() != 0 {
		t.Errorf("delta %v, and %v without the wait", s.Delta(), (&Status{}).Delta())
	}
	if at := s.FinalizedTime(); !at.Equal(time.Date(2026, 1, 1, 12, 0, 0, 123e6, time.UTC)) {
		t.Error(at)
	}
}

func TestAnswersThatAreNotTaken(t *testing.T) {
	redirected := serve(t, body(good()))
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "unexpected end of JSON input"},
		{"null", body(nil), `role "", want validator, observer or rejoining`},
		{"no object", body([]int{1}), "cannot unmarshal array"},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0, 1, 2, '{', 255}) }, "invalid character"},
		{"two values", func(w http.ResponseWriter, r *http.Request) { body(good())(w, r); body(good())(w, r) }, "invalid character"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, "more than 65536 bytes"},
		{"huge headers", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			body(good())(w, r)
		}, "server response headers exceeded"},
		{"many empty values", body(with("peers", make([]struct{}, 2<<10))), "values, want at most 2048"},
		{"404", http.NotFound, "HTTP status 404, want 200"},
		{"a redirect to a good answer", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+redirected.Address+"/v1/status", http.StatusFound)
		}, "HTTP status 302, want 200"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"chain_id":`))
		}, "unexpected EOF"},
		{"an unknown role", body(with("role", "king")), `role "king", want validator, observer or rejoining`},
		{"a long role", body(with("role", strings.Repeat("k", 1000))), `role "` + strings.Repeat("k", maxText) + `", want`},
		{"a negative height", body(with("height", -1)), "cannot unmarshal number -1"},
		{"a negative Delta", body(with("synchrony", map[string]int{"delta_ms": -1})), "cannot unmarshal number -1"},
		{"evidence below nothing", body(with("evidence", -1)), "cannot unmarshal number -1"},
		{"a key that is none", body(with("public_key", "07")), "public key"},
		{"a set that is none", body(with("threshold", 2)), "threshold 2 of 4 validators, want more than half of 1 to 100"},
		{"more endorsements than validators", body(with("endorsements", make([]Endorsement, 101))), "101 endorsements, want at most 100"},
		{"a checkpoint that is none", body(with("checkpoint", map[string]any{"hash": "00"})), "hash"},
		{"an absurd set", body(with("validators", 1000)), "threshold 3 of 1000 validators, want more than half of 1 to 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := serve(t, tt.answer)
			s, err := NewHTTP(0).Status(t.Context(), node)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%+v, %v; want an error with %q", s, err, tt.want)
			}
			if !strings.HasPrefix(err.Error(), node.Address+"/v1/status: ") || len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes %q, want the address first", len(err.Error()), err)
			}
		})
	}
}

// The address of a deleted pod may be another's: that of a neighbour, or of another network.
func TestAnotherNodeIsNotTakenForTheOneThatWasAsked(t *testing.T) {
	for _, tt := range []struct {
		field string
		value any
		want  string
	}{
		{"public_key", chain.PublicKey{8}, fmt.Sprintf("answers with public key %s, want %s", chain.PublicKey{8}, key)},
		{"chain_id", "other-4567", `answers for chain "other-4567", want "demo-0123abcd"`},
	} {
		node := serve(t, body(with(tt.field, tt.value)))
		_, err := NewHTTP(0).Status(t.Context(), node)
		if wrong, ok := errors.AsType[*IdentityError](err); !ok || wrong.Node != node || err.Error() != node.Address+" "+tt.want {
			t.Errorf("%v, want %q", err, tt.want)
		}
		if _, err := NewHTTP(0).Validators(t.Context(), node); err == nil {
			t.Errorf("the set of a node with another %s was taken", tt.field)
		}
	}
}

func TestValidators(t *testing.T) {
	set := map[string]any{"height": 1235, "threshold": 2, "synchrony_delta_ms": 0, "validators": []any{
		map[string]any{"index": 0, "name": "demo-v0", "public_key": chain.PublicKey{6}, "vrf_key": chain.VRFKey{1}},
		map[string]any{"index": 1, "name": "demo\nv1", "public_key": key, "vrf_key": chain.VRFKey{2}},
	}}
	node := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/validators" {
			body(set)(w, r)
		} else {
			body(good())(w, r)
		}
	})
	got, err := NewHTTP(0).Validators(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	want := []Validator{{Name: "demo-v0", PublicKey: chain.PublicKey{6}}, {Name: "demo v1", PublicKey: key}}
	if got.Height != 1235 || got.Threshold != 2 || !slices.Equal(got.Validators, want) {
		t.Errorf("%+v", got)
	}
	set["threshold"] = 1
	if _, err := NewHTTP(0).Validators(t.Context(), node); err == nil || !strings.Contains(err.Error(), "threshold 1 of 2 validators") {
		t.Error(err)
	}
}

// changeTo is a change as a node serves it, with nothing in it that a client looks at but its
// generation.
func changeTo(generation uint32, names ...string) Change {
	next := chain.NextSet{Generation: generation, Threshold: 1, Validators: []chain.NamedValidator{}}
	for i, name := range names {
		keys := chain.Validator{PublicKey: chain.PublicKey{byte(i + 1)}}
		next.Validators = append(next.Validators, chain.NamedValidator{Name: name, Validator: keys})
	}
	return Change{
		Header:       chain.Header{ChainID: "demo-0123abcd", Height: uint64(generation) * 10},
		Certificate:  chain.ReceiptCertificate{Certificate: chain.Certificate{Kind: chain.Finalize, Votes: []chain.VoteSignature{}}},
		Next:         next,
		Endorsements: []chain.Endorsement{},
	}
}

func TestChanges(t *testing.T) {
	var asked string
	page := []Change{changeTo(3, "demo-v0", "demo-v4"), changeTo(4, "demo-v4")}
	node := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		body(map[string]any{"changes": page, "next": nil})(w, r)
	})
	got, err := NewHTTP(0).Changes(t.Context(), node, 3)
	if err != nil || asked != "GET /v1/changes?from=3&limit=10" {
		t.Fatalf("%s: %v", asked, err)
	}
	if diff := cmp.Diff(page, got); diff != "" {
		t.Errorf("changes, -want +got:\n%s", diff)
	}
	fake := &Fake{}
	fake.Answer("demo-v1", Status{Role: RoleValidator})
	fake.AnswerChanges("demo-v1", changeTo(1), changeTo(2), page[0], page[1])
	if got, err := fake.Changes(t.Context(), node, 3); err != nil || !cmp.Equal(page, got) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, tt := range map[string]struct {
		changes []Change
		want    string
	}{
		"not from there on": {[]Change{changeTo(4)}, "change 0 is to generation 4, want 3"},
		"one left out":      {[]Change{changeTo(3), changeTo(5)}, "change 1 is to generation 5, want 4"},
		"too many":          {slices.Repeat([]Change{changeTo(3)}, 11), "11 changes, want at most 10"},
	} {
		page = tt.changes
		if _, err := NewHTTP(0).Changes(t.Context(), node, 3); err == nil || !strings.HasPrefix(err.Error(), node.Address+"/v1/changes") ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestGenesis(t *testing.T) {
	want := &chain.Genesis{Version: 1, ChainID: "demo-0123abcd", Parameters: chain.DefaultParameters(), Threshold: 1,
		Validators: []chain.NamedValidator{{Name: "demo-v0", Validator: chain.Validator{PublicKey: key, VRFKey: chain.VRFKey{1}}}}}
	node := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/genesis" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		body(want)(w, r)
	})
	got, err := NewHTTP(0).Genesis(t.Context(), node)
	if err != nil || got.Hash() != want.Hash() {
		t.Errorf("%+v, %v", got, err)
	}
	for name, answer := range map[string]any{"null": nil, "an empty object": map[string]any{}, "a status": good()} {
		if got, err := NewHTTP(0).Genesis(t.Context(), serve(t, body(answer))); err == nil {
			t.Errorf("%s is taken: %+v", name, got)
		}
	}
}

// The status, the set and the genesis document of a hundred validators with the longest names are
// taken, although answers are small.
func TestTheAnswersOfTheLargestNetworkAreTaken(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("%s-v%d", strings.Repeat("n", 58), 100+i) }
	var peers, endorsements, set []any
	document := &chain.Genesis{Version: 1, ChainID: "demo-0123abcd", Parameters: chain.DefaultParameters(), Threshold: 67}
	for i := range maxValidators {
		vrf, seed := chain.VRFKey{1}, make([]byte, ed25519.SeedSize)
		vrf[31], seed[0] = byte(i), byte(i)
		peer := chain.PublicKey(ed25519.NewKeyFromSeed(seed)[ed25519.SeedSize:])
		peers = append(peers, map[string]any{"name": name(i), "public_key": peer, "connected": true, "height": uint64(1 << 62)})
		endorsements = append(endorsements, map[string]any{"name": name(i), "public_key": peer, "generation": 1 << 31, "hash": chain.Hash{3}})
		set = append(set, map[string]any{"index": i, "name": name(i), "public_key": peer, "vrf_key": vrf})
		document.Validators = append(document.Validators, chain.NamedValidator{Name: name(i), Validator: chain.Validator{PublicKey: peer, VRFKey: vrf}})
	}
	large := with("peers", peers)
	large["endorsements"], large["validators"], large["threshold"] = endorsements, 100, 67
	large["reason"] = strings.Repeat("r", 4<<10)
	node := serve(t, func(w http.ResponseWriter, r *http.Request) {
		answers := map[string]any{"/v1/status": large, "/v1/genesis": document,
			"/v1/validators": map[string]any{"height": 1235, "threshold": 67, "synchrony_delta_ms": 0, "validators": set}}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ") // more than a node writes
		_ = encoder.Encode(answers[r.URL.Path])
	})
	client := NewHTTP(0)
	if _, err := client.Status(t.Context(), node); err != nil {
		t.Error(err)
	}
	if _, err := client.Validators(t.Context(), node); err != nil {
		t.Error(err)
	}
	if _, err := client.Genesis(t.Context(), node); err != nil {
		t.Error(err)
	}
}

// An answer that is as large as it may be, and of values as small as they can be, takes little
// memory. A page of changes of 1 MiB could be 180 MB otherwise.
//
// Promise 81.
func TestNoAnswerTakesMuchMoreMemoryThanItHasBytes(t *testing.T) {
	for field, out := range map[string]answer{"endorsements": &Status{}, "validators": &Set{}, "changes": &changes{}} {
		size, values := out.most()
		for _, value := range []string{"{}", "0", "[]", "null"} {
			body := []byte(`{"` + field + `":[` + strings.TrimSuffix(strings.Repeat(value+",", size/(len(value)+1)-len(field)), ",") + `]}`)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := decode(body, values, out)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 1<<20 {
				t.Errorf("%s of %s: %d bytes of an answer took %d bytes, error %v", field, value, len(body), took, err)
			}
		}
	}
}

func TestAPageOfTheLargestChangesIsTaken(t *testing.T) {
	large := changeTo(1)
	for i := range maxValidators {
		member := chain.PublicKey{0xff, byte(i)}
		large.Next.Validators = append(large.Next.Validators, chain.NamedValidator{
			Name: strings.Repeat("n", 63), Validator: chain.Validator{PublicKey: member, VRFKey: chain.VRFKey{0xff, byte(i)}}})
		large.Certificate.Votes = append(large.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: chain.Signature{0xff}})
		large.Endorsements = append(large.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: chain.Signature{0xff}})
	}
	page := make([]Change, MaxChanges)
	for i := range page {
		page[i] = large
		page[i].Next.Generation = uint32(i + 1)
	}
	if got, err := NewHTTP(0).Changes(t.Context(), serve(t, body(map[string]any{"changes": page})), 1); err != nil || len(got) != MaxChanges {
		t.Errorf("%d changes, %v", len(got), err)
	}
}

func TestASlowNodeIsGivenUp(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"before the answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"within the answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"chain_id":`))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewHTTP(50*time.Millisecond).Status(t.Context(), serve(t, answer))
			if err == nil || !strings.HasSuffix(err.Error(), "/v1/status: no answer in time") {
				t.Error(err)
			}
		})
	}
}

// An error that names the port of this side would be another one every time, and look like a change
// of the network.
func TestTheSameFailureReadsTheSame(t *testing.T) {
	// a port that was free a moment ago may be somebody's by now
	refused := Node{Address: "127.0.0.1:1"}
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	})
	for want, node := range map[string]Node{"connect: connection refused": refused, "read: connection reset by peer": cut} {
		for range 2 {
			if _, err := NewHTTP(0).Status(t.Context(), node); err == nil || err.Error() != node.Address+"/v1/status: "+want {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
}

// Pods are reached directly. (Go reads the environment once a process; so the setting is looked at,
// and not a proxy asked.)
func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	if NewHTTP(0).client.Transport.(*http.Transport).Proxy != nil {
		t.Error("there is a proxy")
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(body(good()))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := NewHTTP(0)
	node := Node{Address: server.Listener.Addr().String(), PublicKey: key, ChainID: "demo-0123abcd"}
	for range 5 {
		if _, err := client.Status(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for five questions", n)
	}
}

func TestTextsOfANodeAreBoundedAndOnOneLine(t *testing.T) {
	node := serve(t, body(with("reason", "first\n\tsecond "+strings.Repeat("ä", 1000))))
	s, err := NewHTTP(0).Status(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.Reason, "first second ä") || len(s.Reason) > maxText+3 || !strings.HasSuffix(s.Reason, "ä...") {
		t.Errorf("%q", s.Reason)
	}
}

// The names in Status and Set are those of the node's own description.
func TestTheFieldsAreTheNodes(t *testing.T) {
	text, err := os.ReadFile("../../node/server/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Enum       []string       `json:"enum"`
					Properties map[string]any `json:"properties"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	// The nodes are about to report these.
	notYet := []string{"generation", "vote_store", "votes_from_height", "target", "endorsements", "checkpoint"}
	schemas := document.Components.Schemas
	for name, value := range map[string]any{"Status": Status{}, "Validators": Set{}} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(encoded, &fields); err != nil {
			t.Fatal(err)
		}
		for field := range fields {
			if slices.Contains(notYet, field) {
				continue
			}
			if _, ok := schemas[name].Properties[field]; !ok {
				t.Errorf("the node's %s has no field %s", name, field)
			}
		}
	}
	synchrony := schemas["Status"].Properties["synchrony"].Properties
	if _, ok := synchrony["delta_ms"]; !ok || len(synchrony) != reflect.TypeFor[Synchrony]().NumField() {
		t.Errorf("the node's synchrony has the fields %v", synchrony)
	}
	for field := range reflect.TypeFor[Synchrony]().Fields() {
		if name := field.Tag.Get("json"); synchrony[name] == nil {
			t.Errorf("the node's synchrony has no field %s", name)
		}
	}
	roles := schemas["Status"].Properties["role"].Enum
	if want := []string{RoleValidator, RoleObserver, RoleRejoining}; !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
}

// Promise 37.
func FuzzDecode(f *testing.F) {
	encoded, err := json.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte(`{"height":5,"threshold":1,"validators":[{"name":"a","public_key":"` + key.String() + `"}]}`))
	f.Add([]byte(`null`))
	if encoded, err = json.Marshal(map[string]any{"changes": []Change{changeTo(1, "demo-v0")}}); err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Status{}
		if err := decode(in, maxValues, s); err == nil {
			if s.Validators < 1 || s.Validators > maxValidators || 2*s.Threshold <= s.Validators || s.Threshold > s.Validators {
				t.Errorf("threshold %d of %d", s.Threshold, s.Validators)
			}
			for _, text := range []string{s.Node, s.Reason, s.Versions.Node} {
				if len(text) > maxText+3 || strings.ContainsAny(text, "\n\r") {
					t.Errorf("text %q", text)
				}
			}
			_ = s.FinalizedTime().Format(time.RFC3339)
		}
		page := &changes{from: 1}
		if err := decode(in, maxPageValues, page); err == nil && len(page.Changes) > MaxChanges {
			t.Errorf("%d changes", len(page.Changes))
		}
		set := &Set{}
		if err := decode(in, maxValues, set); err == nil && (len(set.Validators) > maxValidators || len(set.Validators) < 1) {
			t.Errorf("%d validators", len(set.Validators))
		}
	})
}
