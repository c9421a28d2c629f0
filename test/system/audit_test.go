package system

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// The audit's own controls: each promise is broken once by nodes that lie, and it must be seen. An
// oracle that has never cried out is no witness.

// lies is a network of nodes that serve what they are given.
type lies struct {
	t        *testing.T
	keys     []ed25519.PrivateKey
	genesis  *chain.Genesis
	chains   [2][]*chain.FinalBlock // of each node, from height 1
	ledger   *Ledger
	history  *History
	evidence []chain.Evidence
	receipt  func(*chain.Receipt)
}

func newLies(t *testing.T) *lies {
	l := &lies{
		t: t, genesis: &chain.Genesis{Version: 1, ChainID: "lies", Threshold: 3, Parameters: chain.DefaultParameters()},
		ledger:  &Ledger{accepted: map[chain.Hash]acceptance{}, uncertain: map[chain.Hash]bool{}},
		history: newHistory(2), receipt: func(*chain.Receipt) {},
	}
	for i := range 4 {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
		l.keys = append(l.keys, key)
		l.genesis.Validators = append(l.genesis.Validators, chain.GenesisValidator{
			Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{31: byte(i + 1)}},
		})
	}
	if err := l.genesis.Validate(); err != nil {
		t.Fatal(err)
	}
	for place, text := range []string{"load one", "load two", "load three"} {
		m := chain.Message{Data: []byte(text)}
		l.both(l.block(0, m))
		l.ledger.accepted[m.ID()] = acceptance{place: place}
	}
	return l
}

// block makes a final block on top of a node's chain, with the finalize votes of three validators.
func (l *lies) block(node int, messages ...chain.Message) *chain.FinalBlock {
	set, parent := l.genesis.Set(), l.genesis.Header()
	if c := l.chains[node]; len(c) > 0 {
		parent = c[len(c)-1].Header
	}
	f := &chain.FinalBlock{Messages: messages}
	f.Header = chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: l.genesis.ChainID, Height: parent.Height + 1, ParentHash: parent.Hash(),
		Timestamp: parent.Timestamp + 1, MessagesRoot: chain.MessagesRoot(messages), MessagesCount: uint32(len(messages)),
		ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(),
	}
	l.certify(f, 3)
	return f
}

func (l *lies) certify(f *chain.FinalBlock, votes int) {
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash()}
	for i, key := range l.keys[:votes] {
		v := chain.Vote{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash(), Validator: uint32(i)}
		v.Sign(key, l.genesis.ChainID)
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: v.Signature})
	}
}

func (l *lies) both(f *chain.FinalBlock) {
	for i := range l.chains {
		l.chains[i] = append(l.chains[i], f)
	}
}

// saw adds to the history that a node told of a block.
func (l *lies) saw(f *chain.FinalBlock) {
	l.history.observe(&Node{Name: "v1", Index: 1}, &Block{Header: f.Header, Hash: f.Hash()})
}

// serve answers as node i.
func (l *lies) serve(i int) *Node {
	own := l.chains[i]
	find := func(id string) (*chain.FinalBlock, int) {
		for _, f := range own {
			for k, m := range f.Messages {
				if m.ID().String() == id {
					return f, k
				}
			}
		}
		return nil, 0
	}
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			l.t.Error(err)
		}
	}
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"height": len(own)})
	})
	mux.HandleFunc("GET /v1/evidence", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"evidence": l.evidence})
	})
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range own {
			b := Block{Header: f.Header, Hash: f.Hash()}
			b.Certificate = &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()}
			for _, m := range f.Messages {
				b.Messages = append(b.Messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
			}
			write(w, b)
		}
	})
	mux.HandleFunc("GET /v1/messages/{id}", func(w http.ResponseWriter, r *http.Request) {
		if f, k := find(r.PathValue("id")); f != nil {
			write(w, map[string]any{"status": "final", "height": f.Header.Height, "index": k})
		}
	})
	mux.HandleFunc("GET /v1/messages/{id}/receipt", func(w http.ResponseWriter, r *http.Request) {
		f, k := find(r.PathValue("id"))
		if f == nil {
			http.NotFound(w, r)
			return
		}
		receipts, err := chain.NewReceipts(f, nil, k)
		if err != nil {
			l.t.Error(err)
			return
		}
		l.receipt(receipts[0])
		write(w, receipts[0])
	})
	server := httptest.NewServer(mux)
	l.t.Cleanup(server.Close)
	return &Node{Index: i, Name: fmt.Sprint("v", i), URL: server.URL, process: &process{}}
}

// recorder is a test whose failures are what is looked for.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Error(args ...any) { r.said = append(r.said, fmt.Sprint(args...)) }

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func (l *lies) audit() string {
	r := &recorder{TB: l.t}
	n := &Network{tb: r, Genesis: l.genesis, Nodes: []*Node{l.serve(0), l.serve(1)}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Audit(l.history, l.ledger)
	}()
	<-done
	return strings.Join(r.said, "\n")
}

func TestAuditOfAnHonestNetworkIsSilent(t *testing.T) {
	l := newLies(t)
	for _, f := range l.chains[0] {
		l.saw(f)
	}
	if said := l.audit(); said != "" {
		t.Error(said)
	}
}

func TestAuditSeesEveryBrokenPromise(t *testing.T) {
	extra := chain.Message{Data: []byte("a message by hand")}
	for name, c := range map[string]struct {
		lie  func(*lies)
		want string
	}{
		"fork": {func(l *lies) {
			l.chains[0] = append(l.chains[0], l.block(0, extra))
			l.chains[1] = append(l.chains[1], l.block(1))
		}, "FORK: height 4"},
		"changed block": {func(l *lies) {
			l.saw(l.block(0, extra))
			l.both(l.block(0))
		}, "FORK: height 4"},
		"lost block":   {func(l *lies) { l.saw(l.block(0, extra)) }, "height 4 was seen final, the highest that any node has now is 3"},
		"lost message": {func(l *lies) { l.ledger.accepted[extra.ID()] = acceptance{answered: time.Now()} }, "LOST: message " + extra.ID().String()},
		"repeated message": {func(l *lies) {
			l.both(l.block(0, extra))
			l.both(l.block(0, extra))
		}, "is final twice"},
		"reordered messages": {func(l *lies) {
			one, two := chain.Message{Data: []byte("load one")}.ID(), chain.Message{Data: []byte("load two")}.ID()
			l.ledger.accepted[one], l.ledger.accepted[two] = l.ledger.accepted[two], l.ledger.accepted[one]
		}, "client 0 submitted message 0 before 1"},
		"invented message":  {func(l *lies) { l.both(l.block(0, chain.Message{Data: []byte("load of nobody")})) }, "no client submitted it"},
		"short certificate": {func(l *lies) { l.certify(l.chains[0][1], 2) }, "2 votes"},
		"gap": {func(l *lies) {
			for i := range l.chains {
				l.chains[i] = append(l.chains[i][:1:1], l.chains[i][2])
			}
		}, "height 3 where 2 was next"},
		"wrong parent": {func(l *lies) {
			f := l.block(0)
			f.Header.ParentHash = chain.Hash{1}
			l.certify(f, 3)
			l.both(f)
		}, "its parent is"},
		"changed message": {func(l *lies) { l.chains[0][1].Messages[0].Timestamp++ }, "messages root"},
		"forged receipt":  {func(l *lies) { l.receipt = func(r *chain.Receipt) { r.Message.Timestamp++ } }, "does not verify"},
		"evidence": {func(l *lies) {
			a, b := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{1}}, chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{2}}
			a.Sign(l.keys[0], l.genesis.ChainID)
			b.Sign(l.keys[0], l.genesis.ChainID)
			e, ok := chain.NewEvidence(l.genesis.ChainID, l.genesis.Set(), a, b)
			if !ok {
				l.t.Fatal("two votes for two blocks are no evidence")
			}
			l.evidence = append(l.evidence, e)
		}, "holds evidence"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLies(t)
			c.lie(l)
			if said := l.audit(); !strings.Contains(said, c.want) {
				t.Errorf("the audit says %q, want %q in it", said, c.want)
			}
		})
	}
}
