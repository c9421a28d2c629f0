package nodes

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// The audit's own controls, as those of test/system: each promise is broken once by nodes that lie,
// and it must be seen.

// lies is a world of two nodes that answer what they are given.
type lies struct {
	*world
	recorder *recorder
	keys     []ed25519.PrivateKey
	chains   [2][]*chain.FinalBlock // of each node, from height 1
	load     *load
	streamed func([]client.Block) []client.Block
	evidence []chain.Evidence
	receipt  func(*chain.Receipt)
}

// recorder is a test whose failures are what is looked for.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (r *recorder) Error(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprint(args...))
}

func (r *recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func (r *recorder) FailNow() { runtime.Goexit() }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.said) > 0
}

func newLies(t *testing.T) *lies {
	r := &recorder{TB: t}
	l := &lies{
		recorder: r, world: &world{TB: r, began: time.Now(), wire: newNetwork()},
		load:     &load{stop: func() {}, accepted: map[chain.Hash]bool{}, submitted: map[chain.Hash]bool{}},
		streamed: func(b []client.Block) []client.Block { return b }, receipt: func(*chain.Receipt) {},
	}
	l.genesis = &chain.Genesis{Version: 1, ChainID: "lies", Threshold: 3, Parameters: chain.DefaultParameters()}
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
	for _, text := range []string{"load one", "load two", "load three"} {
		m := chain.Message{Data: []byte(text)}
		l.both(l.block(0, m))
		l.load.accepted[m.ID()], l.load.submitted[m.ID()] = true, true
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

// shown is a block as a node shows it.
func shown(f *chain.FinalBlock) client.Block {
	b := client.Block{Header: f.Header, HeaderHash: f.Hash()}
	b.Certificate = &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()}
	for _, m := range f.Messages {
		b.Messages = append(b.Messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
	}
	return b
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
		height, err := strconv.ParseUint(r.FormValue("from"), 10, 64)
		if err != nil {
			l.Error(err)
		}
		for _, f := range l.chains[i] {
			if f.Header.Height >= height {
				all = append(all, shown(f))
			}
		}
		return height, all
	}
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"height": len(l.chains[i])})
	})
	mux.HandleFunc("GET /v1/evidence", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{"evidence": l.evidence})
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
	l.history.report(l.world)
	return strings.Join(l.recorder.said, "\n")
}

func TestAuditOfAnHonestWorldIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if said := newLies(t).hear(); said != "" {
			t.Error(said)
		}
	})
}

func TestAuditSeesEveryBrokenPromise(t *testing.T) {
	extra := chain.Message{Data: []byte("a message by hand")}
	for name, c := range map[string]struct {
		lie  func(*lies)
		want string
	}{
		"fork": {func(l *lies) {
			l.load.submitted[extra.ID()] = true
			l.chains[0] = append(l.chains[0], l.block(0, extra))
			l.chains[1] = append(l.chains[1], l.block(1))
		}, "of 0 messages at height 4, where block"},
		"changed block": {func(l *lies) {
			b := shown(l.block(0, extra))
			l.history.add(l.world, "v1", &b)
			l.both(l.block(0))
		}, "of 0 messages at height 4, where block"},
		"lost block": {func(l *lies) {
			b := shown(l.block(0))
			l.history.add(l.world, "v1", &b)
		}, "height 4 was shown, and the chain ends at 3"},
		"a node behind":     {func(l *lies) { l.chains[1] = l.chains[1][:2] }, "v1 is at height 2, v0 at 3"},
		"lost message":      {func(l *lies) { l.load.accepted[extra.ID()] = true }, "message " + extra.ID().String() + " was answered 202 and is not final"},
		"invented message":  {func(l *lies) { l.both(l.block(0, extra)) }, "nobody submitted it"},
		"short certificate": {func(l *lies) { l.certify(l.chains[0][1], 2) }, "2 votes"},
		"no certificate":    {func(l *lies) { l.certify(l.chains[0][1], 0) }, "height 2: "},
		"changed message":   {func(l *lies) { l.chains[0][1].Messages[0].Timestamp++ }, "messages root"},
		"forged receipt":    {func(l *lies) { l.receipt = func(r *chain.Receipt) { r.Message.Timestamp++ } }, "receipt of "},
		"repeated message": {func(l *lies) {
			l.load.submitted[extra.ID()] = true
			l.both(l.block(0, extra))
			l.both(l.block(0, extra))
		}, "is final at height 4 and at 5"},
		"gap": {func(l *lies) {
			for i := range l.chains {
				l.chains[i] = append(l.chains[i][:1:1], l.chains[i][2], l.block(i))
			}
		}, "v0 shows height 3 where 2 was next"},
		"wrong parent": {func(l *lies) {
			f := l.block(0)
			f.Header.ParentHash = chain.Hash{1}
			l.certify(f, 3)
			l.both(f)
		}, "block 4 of time"},
		"time that stands still": {func(l *lies) {
			f := l.block(0)
			f.Header.Timestamp--
			l.certify(f, 3)
			l.both(f)
		}, "block 4 of time"},
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
			l.load.submitted[extra.ID()] = true
			l.both(l.block(0, extra))
			l.streamed = func(all []client.Block) []client.Block {
				f := &chain.FinalBlock{Block: chain.Block{Header: all[3].Header}}
				f.Header.MessagesRoot, f.Header.MessagesCount = chain.MessagesRoot(nil), 0
				l.certify(f, 3)
				return append(all[:3:3], shown(f))
			}
		}, "of 1 messages at height 4, where block"},
		"evidence": {func(l *lies) {
			a, b := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{1}}, chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{2}}
			a.Sign(l.keys[0], l.genesis.ChainID)
			b.Sign(l.keys[0], l.genesis.ChainID)
			e, ok := chain.NewEvidence(l.genesis.ChainID, l.genesis.Set(), a, b)
			if !ok {
				l.Error("two votes for two blocks are no evidence")
			}
			l.evidence = append(l.evidence, e)
		}, "holds evidence"},
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

// Two that show a height at once cannot both be the first.
func TestTwoFirstShowingsAtOnceAreCompared(t *testing.T) {
	l := newLies(t)
	for range 20 {
		l.history = history{}
		one, other := shown(l.block(0)), shown(l.block(0, chain.Message{Data: []byte("another")}))
		var both sync.WaitGroup
		both.Go(func() { l.history.add(l.world, "v0", &one) })
		both.Go(func() { l.history.add(l.world, "v1", &other) })
		both.Wait()
		if len(l.history.broken) != 1 {
			t.Fatalf("two blocks of one height, and what is said is %q", l.history.broken)
		}
	}
}
