package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/oracle"
)

// test/oracle shows that it names each broken promise. These tests show that this suite passes on
// everything that nodes serve, by pages and by streams: nodes that lie serve one broken promise of
// each kind.

// lies is a world of two nodes that answer what they are given.
type lies struct {
	*world
	*oracle.Forge
	recorder *oracle.Recorder
	chains   [2][]*chain.FinalBlock // of each node, from height 1
	load     *load
	streamed func([]client.Block) []client.Block
	evidence []chain.Evidence
	receipt  func(*chain.Receipt)
}

func newLies(t *testing.T) *lies {
	r, f := &oracle.Recorder{TB: t}, oracle.NewForge(t)
	l := &lies{
		recorder: r, Forge: f,
		world:    &world{TB: r, began: time.Now(), wire: newNetwork(), genesis: f.Genesis, history: oracle.New(f.Genesis, everything)},
		load:     &load{stop: func() {}, book: oracle.NewLedger()},
		streamed: func(b []client.Block) []client.Block { return b }, receipt: func(*chain.Receipt) {},
	}
	for _, text := range []string{"load one", "load two", "load three"} {
		m := chain.Message{Data: []byte(text)}
		l.both(l.Block(l.chains[0], m))
		l.load.book.Accepted(m.ID(), oracle.Acceptance{})
	}
	for i := range l.chains {
		name := fmt.Sprint("v", i)
		in, err := (&machine{network: l.wire, host: name}).Listen(t.Context(), "tcp", name+":1")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: l.node(i)}
		go func() { _ = server.Serve(in) }() // until it is closed
		t.Cleanup(func() { _ = server.Close() })
		l.nodes = append(l.nodes, &member{world: l.world, name: name, client: l.client(name, "client-"+name)})
	}
	return l
}

func (l *lies) both(f *chain.FinalBlock) {
	for i := range l.chains {
		l.chains[i] = append(l.chains[i], f)
	}
}

// node answers as node i.
func (l *lies) node(i int) http.Handler {
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			l.Error(err)
		}
	}
	from := func(r *http.Request) (height uint64, all []client.Block) {
		all = []client.Block{}
		height, err := strconv.ParseUint(r.FormValue("from"), 10, 64)
		if err != nil {
			l.Error(err)
		}
		for _, f := range l.chains[i] {
			if f.Header.Height >= height {
				all = append(all, oracle.Shown(f))
			}
		}
		return height, all
	}
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"height": len(l.chains[i])})
	})
	mux.HandleFunc("GET /v1/evidence", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"evidence": append([]chain.Evidence{}, l.evidence...)})
	})
	mux.HandleFunc("GET /v1/blocks", func(w http.ResponseWriter, r *http.Request) {
		height, all := from(r)
		write(w, map[string]any{"blocks": all, "next": height + uint64(len(all))})
	})
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, r *http.Request) {
		height, all := from(r)
		if height == 1 {
			all = l.streamed(all)
		}
		for _, b := range all {
			write(w, b)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			l.Error(err)
		}
		<-r.Context().Done() // no other block comes
	})
	mux.HandleFunc("GET /v1/messages/{id}/receipt", func(w http.ResponseWriter, r *http.Request) {
		for _, f := range l.chains[i] {
			at := slices.IndexFunc(f.Messages, func(m chain.Message) bool { return m.ID().String() == r.PathValue("id") })
			if at < 0 {
				continue
			}
			receipts, err := chain.NewReceipts(f, nil, at)
			if err != nil {
				l.Error(err)
				return
			}
			l.receipt(receipts[0])
			write(w, receipts[0])
			return
		}
		http.NotFound(w, r)
	})
	return mux
}

// hear follows the streams to their ends and then audits; it returns what the test says of it.
func (l *lies) hear() string {
	var stop context.CancelFunc
	l.ctx, stop = context.WithCancel(l.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := l.follow(l.nodes[0])
		time.Sleep(time.Second)
		l.caughtUp(l.audit(l.load), s)
	}()
	<-done
	stop()
	l.tasks.Wait()
	l.history.Report(l.world)
	return l.recorder.Said()
}

func TestAuditOfAnHonestWorldIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if said := newLies(t).hear(); said != "" {
			t.Error(said)
		}
	})
}

// Promise 2.
func TestAuditSeesEveryBrokenPromise(t *testing.T) {
	extra := chain.Message{Data: []byte("a message by hand")}
	for name, c := range map[string]struct {
		lie  func(*lies)
		want string
	}{
		"fork": {func(l *lies) {
			l.load.book.Sent(extra.ID())
			below := l.chains[0]
			l.chains[0] = append(below[:3:3], l.Block(below, extra))
			l.chains[1] = append(below[:3:3], l.Block(below))
		}, "FORK: height 4"},
		"lost block": {func(l *lies) {
			b := oracle.Shown(l.Block(l.chains[0]))
			l.history.Show("v1", &b)
		}, "height 4 was shown, and the chain ends at 3"},
		"a node behind":     {func(l *lies) { l.chains[1] = l.chains[1][:2] }, "v1 is at height 2, v0 at 3"},
		"lost message":      {func(l *lies) { l.load.book.Accepted(extra.ID(), oracle.Acceptance{}) }, "LOST: message " + extra.ID().String()},
		"invented message":  {func(l *lies) { l.both(l.Block(l.chains[0], extra)) }, "no client submitted it"},
		"short certificate": {func(l *lies) { l.Certify(l.chains[0][1], 2) }, "2 votes"},
		"forged receipt":    {func(l *lies) { l.receipt = func(r *chain.Receipt) { r.Message.Timestamp++ } }, "receipt of "},
		"gap": {func(l *lies) {
			for i := range l.chains {
				l.chains[i] = append(l.chains[i][:1:1], l.chains[i][2], l.Block(l.chains[i]))
			}
		}, "v0 shows height 3 where 2 was next"},
		"stream with a gap": {func(l *lies) {
			l.streamed = func(b []client.Block) []client.Block { return slices.Delete(b, 1, 2) }
		}, "v0 from height 1 on: stream: block 3 came where block 2 was due"},
		"stream that repeats": {func(l *lies) {
			l.streamed = func(b []client.Block) []client.Block { return slices.Insert(b, 1, b[0]) }
		}, "block 1 came where block 2 was due"},
		"stream that ends early": {func(l *lies) {
			l.streamed = func(b []client.Block) []client.Block { return b[:2] }
		}, "stream 0 is at height 2 of 3"},
		"stream of another block": {func(l *lies) {
			l.load.book.Sent(extra.ID())
			l.both(l.Block(l.chains[0], extra))
			l.streamed = func(all []client.Block) []client.Block {
				f := &chain.FinalBlock{Block: chain.Block{Header: all[3].Header}}
				f.Header.MessagesRoot, f.Header.MessagesCount = chain.MessagesRoot(nil), 0
				l.Certify(f, 3)
				return append(all[:3:3], oracle.Shown(f))
			}
		}, "FORK: height 4"},
		"evidence": {func(l *lies) { l.evidence = append(l.evidence, l.Equivocation(l)) }, "holds evidence"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLies(t)
				c.lie(l)
				if said := l.hear(); !strings.Contains(said, c.want) {
					t.Errorf("the audit says %q, want %q in it", said, c.want)
				}
			})
		})
	}
}
