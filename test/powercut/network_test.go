package powercut

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/test/powercut/disk"
	"github.com/diseq/diseq/test/system"
)

// validators and threshold are those of the network.
const validators, threshold = 4, 3

// soon is how long anything may take that is a matter of a moment on a machine with time to spare.
const soon = 2 * time.Minute

// network is one of real processes, and a peer that hears what they say. The data directories are
// apart from the rest, which is on an ordinary disk.
type network struct {
	t       *testing.T
	dir     string
	genesis *chain.Genesis
	keys    []chain.PublicKey
	hosts   []node.Listen
	peers   []peer.Peer
	watcher *identity.Identity
	listen  string      // where the watcher is dialled
	running []*exec.Cmd // by node, nil if it does not run
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, dir: t.TempDir(), running: make([]*exec.Cmd, validators)}
	n.genesis = &chain.Genesis{
		Version: 1, ChainID: "powercut", TimeMS: uint64(time.Now().UnixMilli()), Threshold: threshold, Parameters: chain.DefaultParameters(),
	}
	port := system.FreePorts(t, 3*validators+1)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", port+i) }
	var file node.PeersFile
	for i := range validators + 1 {
		id, err := identity.New()
		must(t, err)
		key := id.Public().PublicKey
		entry := node.PeerEntry{Name: name(i), PublicKey: key, Address: at(3*i + 1)}
		if i == validators {
			n.watcher, n.listen = id, at(3*i)
			entry.Name, entry.Address = "watcher", n.listen
			file.Peers = append(file.Peers, entry)
			break
		}
		file.Peers = append(file.Peers, entry)
		n.genesis.Validators = append(n.genesis.Validators, chain.NamedValidator{Name: name(i), Validator: id.Public()})
		n.keys = append(n.keys, key)
		n.hosts = append(n.hosts, node.Listen{Public: at(3 * i), Peer: at(3*i + 1), Operations: at(3*i + 2)})
		n.peers = append(n.peers, peer.Peer{Key: key, Name: name(i), Address: entry.Address})
		must(t, id.Write(filepath.Join(n.dir, "keys-"+name(i)), name(i)))
	}
	n.write("genesis.json", n.genesis)
	n.write("peers.json", file)
	t.Cleanup(func() { n.kill() })
	return n
}

func name(i int) string { return fmt.Sprint("v", i) }

func (n *network) write(file string, document any) {
	n.t.Helper()
	b, err := json.Marshal(document)
	must(n.t, err)
	must(n.t, os.WriteFile(filepath.Join(n.dir, file), b, 0o600))
}

// start starts a node with its data in a directory that it may have to make.
func (n *network) start(i int, data string) {
	n.t.Helper()
	c := node.DefaultConfig()
	c.Name, c.Keys, c.Data, c.CreateVoteStore = name(i), "keys-"+name(i), data, true
	c.Genesis, c.Peers, c.Listen = "genesis.json", "peers.json", n.hosts[i]
	n.write(name(i)+".yaml", c)
	log, err := os.OpenFile(filepath.Join(n.dir, name(i)+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(n.t, err)
	cmd := exec.Command(system.Binary, "node", "--config", filepath.Join(n.dir, name(i)+".yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	// It must not outlive a test that is itself killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(n.t, cmd.Start())
	must(n.t, log.Close()) // the child has its own
	n.running[i] = cmd
}

// kill kills nodes, or all of them, and waits for their end.
func (n *network) kill(nodes ...int) {
	if nodes == nil {
		nodes = []int{0, 1, 2, 3}
	}
	for _, i := range nodes {
		if cmd := n.running[i]; cmd != nil {
			_ = cmd.Process.Kill() // it may have ended
		}
	}
	for _, i := range nodes {
		if cmd := n.running[i]; cmd != nil {
			_ = cmd.Wait() // it was killed
			n.running[i] = nil
		}
	}
	if !n.t.Failed() {
		return
	}
	for _, i := range nodes {
		if b, err := os.ReadFile(filepath.Join(n.dir, name(i)+".log")); err == nil {
			n.t.Logf("the end of the log of %s:\n%s", name(i), b[max(0, len(b)-3000):])
		}
	}
}

// node returns the node of a number as its clients see it.
func (n *network) node(i int) *system.Node {
	return &system.Node{Name: name(i), URL: "http://" + n.hosts[i].Public}
}

// These marks are what the nodes say.
type (
	// accepted says that a node answered 202 for a message.
	accepted struct {
		node int
		id   chain.Hash
	}
	// final says that a node showed a final block.
	final struct {
		node   int
		height uint64
		hash   chain.Hash
	}
	// voted says that a node sent a vote of its own.
	voted struct {
		node int
		vote chain.Vote
	}
)

// witness marks on a disk what the nodes say until ctx ends.
type witness struct {
	*network
	disk *disk.Disk
	news chan struct{} // for each final block, if somebody waits

	mu     sync.Mutex
	height [validators]uint64
	votes  [validators]int // heard
}

// watch starts everything that hears the nodes, and one client for each of them.
func (n *network) watch(ctx context.Context, d *disk.Disk) (w *witness, wait func()) {
	n.t.Helper()
	w = &witness{network: n, disk: d, news: make(chan struct{}, 1)}
	transport, err := peer.New(peer.Config{Key: n.watcher.Signing, Genesis: n.genesis, Name: "watcher", Version: "test"}, &listener{witness: w})
	must(n.t, err)
	l, err := net.Listen("tcp", n.listen)
	must(n.t, err)
	transport.Start(l, n.peers)
	var all sync.WaitGroup
	for i := range validators {
		all.Go(func() { w.follow(ctx, i) })
		all.Go(func() { w.submit(ctx, i) })
	}
	return w, func() {
		all.Wait()
		transport.Close()
	}
}

// again is how long those that hear a node wait before they ask one that does not answer.
const again = 20 * time.Millisecond

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(again):
	}
}

func (w *witness) follow(ctx context.Context, i int) {
	for next := uint64(1); ctx.Err() == nil; pause(ctx) {
		// An error means that the node is down.
		_ = w.node(i).Blocks(ctx, next, false, func(b *client.Block) bool {
			w.disk.Mark(final{i, b.Header.Height, b.HeaderHash})
			next = b.Header.Height + 1
			w.mu.Lock()
			w.height[i] = b.Header.Height
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
			return true
		})
	}
}

func (w *witness) submit(ctx context.Context, i int) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	h := &http.Client{Transport: transport, Timeout: 15 * time.Second}
	for k := 0; ctx.Err() == nil; k++ {
		messages := [][]byte{fmt.Appendf(nil, "message %d of %d", k, i)}
		if results, err := w.node(i).Submit(ctx, h, "", messages); err == nil {
			w.disk.Mark(accepted{i, results[0].ID})
		} else {
			pause(ctx)
		}
	}
}

// await waits until each of some nodes has shown a height, and sent a vote.
func (w *witness) await(height uint64, nodes ...int) {
	w.t.Helper()
	deadline := time.After(soon)
	for {
		w.mu.Lock()
		heights, votes := w.height, w.votes
		w.mu.Unlock()
		low := false
		for _, i := range nodes {
			low = low || heights[i] < height || votes[i] == 0
		}
		if !low {
			return
		}
		select {
		case <-w.news:
		case <-deadline:
			w.t.Fatalf("heights %v, votes heard %v: want height %d and votes of %v within %v", heights, votes, height, nodes, soon)
		}
	}
}

// listener is the peer that hears votes. It takes nothing.
type listener struct {
	peer.Handler
	*witness
}

func (l *listener) OnBundle(_ context.Context, from chain.PublicKey, b *chain.Bundle) (useless int, err error) {
	for _, v := range b.Votes {
		if i := int(v.Validator); i < validators && l.keys[i] == from {
			l.disk.Mark(voted{i, v})
			l.mu.Lock()
			l.votes[i]++
			l.mu.Unlock()
		}
	}
	return 0, nil
}

func (l *listener) OnPong(chain.PublicKey, uint64, uint64)            {}
func (l *listener) OnAsk(chain.PublicKey)                             {}
func (l *listener) OnEndorsed(chain.PublicKey, *chain.Endorsed) error { return nil }
func (l *listener) LinkUp(chain.PublicKey)                            {}
func (l *listener) LinkDown(chain.PublicKey)                          {}
func (l *listener) OnAck(chain.PublicKey, chain.Hash, error)          {}
func (l *listener) OnCommitment(context.Context, chain.PublicKey, *chain.Commitment) error {
	return errNothing
}
func (l *listener) OnBatch(context.Context, chain.PublicKey, []byte) error { return errNothing }
func (l *listener) Batch(context.Context, chain.Hash) ([]byte, error)      { return nil, peer.ErrNotHeld }
func (l *listener) FinalBlock(context.Context, uint64) ([]byte, error)     { return nil, peer.ErrNotHeld }
func (l *listener) Block(context.Context, chain.Hash) ([]byte, error)      { return nil, peer.ErrNotHeld }
func (l *listener) Status(context.Context, chain.Hash) (*chain.Status, error) {
	return nil, errNothing
}

// whose returns the number of the node that a path of the disk belongs to.
func whose(path string) (i int, ok bool) {
	first, _, _ := strings.Cut(path, "/")
	_, err := fmt.Sscanf(first, "v%d", &i)
	return i, err == nil
}
