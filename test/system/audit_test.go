package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// test/oracle shows that it names each broken promise. These tests show that the audit passes on
// everything that nodes serve: nodes that lie serve one broken promise of each kind.

// lies is a network of nodes that serve what they are given.
type lies struct {
	*oracle.Forge
	t        *testing.T
	chains   [2][]*chain.FinalBlock // of each node, from height 1
	ledger   *Ledger
	history  *History
	evidence []chain.Evidence
	receipt  func(*chain.Receipt)
}

func newLies(t *testing.T) *lies {
	f := oracle.NewForge(t)
	l := &lies{
		Forge: f, t: t, ledger: &Ledger{Ledger: oracle.NewLedger()},
		history: &History{History: oracle.New(f.Genesis, ofLoad)}, receipt: func(*chain.Receipt) {},
	}
	for place, text := range []string{"load one", "load two", "load three"} {
		m := chain.Message{Data: []byte(text)}
		l.both(l.Block(l.chains[0], m))
		l.ledger.Accepted(m.ID(), oracle.Acceptance{Place: place + 1})
	}
	return l
}

func (l *lies) both(f *chain.FinalBlock) {
	for i := range l.chains {
		l.chains[i] = append(l.chains[i], f)
	}
}

// saw adds to the history that a node showed a block.
func (l *lies) saw(f *chain.FinalBlock) {
	b := oracle.Shown(f)
	l.history.Show("v1", &b)
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
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, r *http.Request) {
		for _, f := range own {
			b := oracle.Shown(f)
			if r.FormValue("messages") == "false" {
				b.Messages = nil
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

func (l *lies) audit() string {
	r := &oracle.Recorder{TB: l.t}
	n := &Network{tb: r, Genesis: l.Genesis, Nodes: []*Node{l.serve(0), l.serve(1)}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Audit(l.history, l.ledger)
	}()
	<-done
	return r.Said()
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

// Promise 2.
func TestAuditSeesEveryBrokenPromise(t *testing.T) {
	extra := chain.Message{Data: []byte("a message by hand")}
	for name, c := range map[string]struct {
		lie  func(*lies)
		want string
	}{
		"fork": {func(l *lies) {
			below := l.chains[0]
			l.chains[0] = append(below[:3:3], l.Block(below, extra))
			l.chains[1] = append(below[:3:3], l.Block(below))
		}, "FORK: height 4"},
		"lost block":        {func(l *lies) { l.saw(l.Block(l.chains[0], extra)) }, "the highest that any node has now is 3"},
		"lost message":      {func(l *lies) { l.ledger.Accepted(extra.ID(), oracle.Acceptance{}) }, "LOST: message " + extra.ID().String()},
		"invented message":  {func(l *lies) { l.both(l.Block(l.chains[0], chain.Message{Data: []byte("load of nobody")})) }, "no client submitted it"},
		"short certificate": {func(l *lies) { l.Certify(l.chains[0][1], 2) }, "2 votes"},
		"gap": {func(l *lies) {
			for i := range l.chains {
				l.chains[i] = append(l.chains[i][:1:1], l.chains[i][2])
			}
		}, "height 3 where 2 was next"},
		"forged receipt":            {func(l *lies) { l.receipt = func(r *chain.Receipt) { r.Message.Timestamp++ } }, "does not verify"},
		"evidence":                  {func(l *lies) { l.evidence = append(l.evidence, l.Equivocation(l.t)) }, "holds evidence"},
		"answer that no node gives": {func(l *lies) { l.ledger.Errors = append(l.ledger.Errors, fmt.Errorf("answered 500")) }, "answered 500"},
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
