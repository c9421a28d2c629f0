package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peersfile"
	"github.com/diseq/diseq/node/store"
)

func newDevnet() *cobra.Command {
	var p parameters
	d := devnet{}
	cmd := &cobra.Command{
		Use:   "devnet --validators N --threshold T --dir DIR --http HOST:PORT",
		Short: "Run a local network of validators",
		Long: `Run a whole network on this machine, one process for each validator, until SIGTERM or Ctrl-C. It prints "ready" when the first
block can be made. Validator i serves clients on the port of --http plus i.

Everything is under DIR: genesis.json, peers.json, network.json (addresses, process ids and directories of the nodes), and node0,
node1, ... with node.yaml, keys, data and node.log. Starting it again on the same DIR continues the chain.

diseq devnet add, remove and replace change the validators while the network runs.

The processes end with this one, in whatever way it ends. It does not restart a process that is killed: use the command that it prints
for that validator. With --start K it starts the first K validators only, and prints the commands for the others. Stop a validator
that you started by hand before you start the network again.`,
		Example: "  diseq devnet --dir ./net\n  diseq devnet --validators 7 --threshold 5 --dir ./net7 --http 127.0.0.1:19000 --start 6",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			constants, err := p.value()
			if err != nil {
				return err
			}
			d.parameters, d.deltaMS, d.changed, d.out = constants, p.deltaMS(), cmd.Flags().Changed, cmd.OutOrStdout()
			if err := d.prepare(cmd.Context()); err != nil {
				return err
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.validators, "validators", 4, "how many validators")
	f.Uint32Var(&d.threshold, "threshold", 3, "how many of them must sign, more than half")
	f.StringVar(&d.dir, "dir", "", "the network's directory")
	f.StringVar(&d.http, "http", "127.0.0.1:18080", "the address at which the first validator serves clients")
	f.IntVar(&d.start, "start", 0, "how many validators to start; 0 for all")
	p.register(cmd)
	cmd.AddCommand(newDevnetAdd(), newDevnetRemove(), newDevnetReplace())
	return cmd
}

// prepare makes the network's files, or takes the existing ones.
func (d *devnet) prepare(ctx context.Context) error {
	if err := d.sized(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(d.http)
	if err != nil {
		return clientcmd.Usagef("--http %q: want host:port", d.http)
	}
	if d.port, err = strconv.Atoi(port); err != nil || d.port < 1 || d.port+d.validators > 1<<16 {
		return clientcmd.Usagef("--http %q: want a port from 1 to %d", d.http, 1<<16-d.validators)
	}
	if d.host = host; d.host == "" {
		d.host = "127.0.0.1"
	}
	if d.executable, err = os.Executable(); err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	if err := d.find(); err != nil {
		return err
	}
	if d.start == 0 || d.start > len(d.nodes) {
		d.start = len(d.nodes)
	}
	if err := d.awaitIdle(ctx); err != nil {
		return err
	}
	return d.address()
}

// devNode is a node of the network: a validator of the genesis document, or one that came later.
type devNode struct {
	// index is the number in its name and in that of its directory.
	index  int
	name   string
	key    chain.PublicKey
	config node.Config
	client *client.Client
	// child is its process; nil if it was not started.
	child *child
}

// goneFile marks the directory of a node that has left the network. Its identity never comes back.
const goneFile = "left"

// find adds the nodes that are not known yet: those of the genesis document and those that were
// added later, but for those that have left.
func (d *devnet) find() error {
	known := map[int]bool{}
	for _, n := range d.nodes {
		known[n.index] = true
	}
	count, err := d.count()
	if err != nil {
		return err
	}
	for i := range count {
		if known[i] || exists(filepath.Join(d.nodeDir(i), goneFile)) {
			continue
		}
		n := &devNode{index: i}
		if i < len(d.genesis.Validators) {
			v := d.genesis.Validators[i]
			n.name, n.key = v.Name, v.PublicKey
		} else {
			v, err := readPublic(filepath.Join(d.nodeDir(i), "keys", "public.json"))
			if err != nil {
				return err
			}
			n.name, n.key = v.Name, v.PublicKey
		}
		d.nodes = append(d.nodes, n)
	}
	return nil
}

// count returns how many nodes the network has had. One that is being added counts once its
// identity is whole.
func (d *devnet) count() (int, error) {
	dirs, err := filepath.Glob(filepath.Join(d.dir, "node*"))
	if err != nil {
		return 0, err
	}
	count := len(d.genesis.Validators)
	for _, dir := range dirs {
		i, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "node"))
		if err == nil && i >= count && exists(filepath.Join(dir, "keys", "public.json")) {
			count = i + 1
		}
	}
	return count, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sized refuses flags for which there is no network.
func (d *devnet) sized() error {
	if d.dir == "" {
		return clientcmd.Usagef("--dir is required")
	}
	if d.validators < 1 || d.validators > chain.MaxValidators {
		return clientcmd.Usagef("--validators %d: want 1 to %d", d.validators, chain.MaxValidators)
	}
	return nil
}

// open makes the network's identities and its genesis document, or takes the existing ones.
func (d *devnet) open() (err error) {
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if err := durable.MakeDirectory(d.dir, 0o755); err != nil {
		return err
	}
	d.genesis, err = clientcmd.ReadGenesis(filepath.Join(d.dir, "genesis.json"))
	if err == nil {
		return d.compare()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return d.create()
	}
	return err
}

// startable refuses a --start that no network of g can become ready with.
func (d *devnet) startable(g *chain.Genesis) error {
	if n := len(g.Validators); d.start != 0 && (d.start < int(g.Threshold) || d.start > n) {
		return clientcmd.Usagef("--start %d: want at least the threshold, %d, and at most %d", d.start, g.Threshold, n)
	}
	return nil
}

// idleAfter is how long the nodes of a network that has just been killed have to be gone.
const idleAfter = 2 * time.Second

// awaitIdle fails if a node runs already: one restarted by hand outlives its network. New addresses
// would cut it off.
func (d *devnet) awaitIdle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, idleAfter)
	defer cancel()
	for _, n := range d.nodes {
		for {
			running, err := inUse(filepath.Join(d.nodeDir(n.index), "data"))
			if err != nil {
				return err
			}
			if !running {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s runs already, on %s: stop it first", n.name, d.nodeDir(n.index))
			case <-time.After(readyEvery):
			}
		}
	}
	return nil
}

// inUse reports whether a process has a data directory, by the lock that package store takes on it.
func inUse(data string) (bool, error) {
	f, err := os.Open(filepath.Join(data, "LOCK"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // which gives the lock back
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// compare refuses flags that contradict the existing network. A flag that is left out agrees with
// anything.
func (d *devnet) compare() error {
	g := d.genesis
	if n := len(g.Validators); d.changed("validators") && d.validators != n {
		return clientcmd.Usagef("%s has a network of %d validators, --validators says %d: use another --dir", d.dir, n, d.validators)
	}
	if d.changed("threshold") && d.threshold != g.Threshold {
		return clientcmd.Usagef("%s has a network of threshold %d, --threshold says %d: use another --dir", d.dir, g.Threshold, d.threshold)
	}
	have, want := g.Parameters, d.parameters
	for _, p := range []struct {
		flag       string
		have, want uint32
	}{
		{"min-block-interval", have.MinBlockIntervalMS, want.MinBlockIntervalMS}, {"beacon-interval", have.BeaconInterval, want.BeaconInterval},
		{"max-message-bytes", have.MaxMessageBytes, want.MaxMessageBytes}, {"max-block-bytes", have.MaxBlockBytes, want.MaxBlockBytes},
		{"round-timeout", have.RoundTimeoutMS, want.RoundTimeoutMS}, {"max-round-timeout", have.MaxRoundTimeoutMS, want.MaxRoundTimeoutMS},
		{"synchrony-delta", g.SynchronyDeltaMS, d.deltaMS},
	} {
		if d.changed(p.flag) && p.have != p.want {
			return clientcmd.Usagef("%s has a network with another --%s (%d, not %d): use another --dir", d.dir, p.flag, p.have, p.want)
		}
	}
	return d.startable(g)
}

// create makes identities and the genesis document, in this order: a run that was interrupted is
// completed by the next one.
func (d *devnet) create() error {
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	g := &chain.Genesis{
		Version: 1, ChainID: "devnet-" + hex.EncodeToString(random), TimeMS: uint64(time.Now().UnixMilli()), Threshold: d.threshold,
		SynchronyDeltaMS: d.deltaMS, Parameters: d.parameters, Validators: make([]chain.NamedValidator, d.validators),
	}
	// placeholder keys, so that wrong flags leave no file behind
	for i := range g.Validators {
		id, err := identity.New()
		if err != nil {
			return err
		}
		g.Validators[i] = chain.NamedValidator{Name: nodeName(i), Validator: id.Public()}
	}
	if err := g.Validate(); err != nil {
		return clientcmd.Usage(err)
	}
	if err := d.startable(g); err != nil {
		return err
	}
	for i := range g.Validators {
		public, err := d.identity(i)
		if err != nil {
			return err
		}
		g.Validators[i] = public
	}
	out, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	d.genesis = g
	return writeFile(filepath.Join(d.dir, "genesis.json"), append(out, '\n'))
}

// identity makes a validator's identity with its vote store, or takes up one that was made before
// the genesis document.
func (d *devnet) identity(i int) (chain.NamedValidator, error) {
	dir := d.nodeDir(i)
	blocks := filepath.Join(dir, "data", "blocks.db")
	if _, err := os.Lstat(blocks); !errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(fmt.Errorf("%s is of a chain whose genesis document is not in %s: put it back", blocks, d.dir), err)
		return chain.NamedValidator{}, err
	}
	if _, err := os.Lstat(filepath.Join(dir, "keys")); errors.Is(err, fs.ErrNotExist) {
		// Without a genesis document no node can have run: a vote store without its keys has no
		// votes in it.
		if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
			return chain.NamedValidator{}, err
		}
		return initValidator(dir, nodeName(i))
	}
	id, err := identity.Load(filepath.Join(dir, "keys"))
	if err != nil {
		return chain.NamedValidator{}, err
	}
	exists, err := store.VotesExist(filepath.Join(dir, "data"))
	if err == nil && !exists {
		err = fmt.Errorf("%s has keys but no vote store, and %s no genesis document: use another --dir", dir, d.dir)
	}
	return chain.NamedValidator{Name: nodeName(i), Validator: id.Public()}, err
}

func nodeName(i int) string { return fmt.Sprintf("v%d", i) }

func (d *devnet) nodeDir(i int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", i)) }

func (d *devnet) configPath(i int) string { return filepath.Join(d.nodeDir(i), "node.yaml") }

// address gives every node its addresses and writes its configuration and the peers file. A node
// keeps the ports that it had if they are still free.
func (d *devnet) address() error {
	highest := 0
	for _, n := range d.nodes {
		highest = max(highest, n.index)
	}
	if d.port+highest >= 1<<16 {
		return clientcmd.Usagef("--http %q: want a port from 1 to %d", d.http, 1<<16-highest-1)
	}
	ports := d.ports(highest + 1)
	defer ports.close()
	path := filepath.Join(d.dir, "peers.json")
	file := &peersfile.File{}
	if exists(path) { // it may have a target and a checkpoint
		var err error
		if file, err = peersfile.Read(path); err != nil {
			return err
		}
	}
	file.Peers = nil
	for _, n := range d.nodes {
		c := node.DefaultConfig()
		c.Listen.Peer, c.Listen.Operations = "", ""
		if existing, err := node.LoadConfig(d.configPath(n.index)); err == nil {
			c = existing
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := d.configure(n, c, &ports); err != nil {
			return err
		}
		file.Peers = append(file.Peers, n.entry())
	}
	return writeJSON(path, file)
}

// configure gives a node its addresses and writes its configuration.
func (d *devnet) configure(n *devNode, c node.Config, ports *portPicker) error {
	// Relative, so that the directory can be moved.
	c.Name, c.Genesis, c.Keys, c.Data, c.Peers = n.name, "../genesis.json", "keys", "data", "../peers.json"
	c.Listen.Public = net.JoinHostPort(d.host, strconv.Itoa(d.port+n.index))
	for _, a := range []*string{&c.Listen.Peer, &c.Listen.Operations} {
		var err error
		if *a, err = ports.pick(*a); err != nil {
			return err
		}
	}
	if err := durable.MakeDirectory(d.nodeDir(n.index), 0o755); err != nil {
		return err
	}
	n.config = c
	return writeConfig(d.configPath(n.index), c)
}

// entry is the node's in the peers file.
func (n *devNode) entry() peersfile.Entry {
	return peersfile.Entry{Name: n.name, PublicKey: n.key, Address: n.config.Listen.Peer}
}

// ports returns a picker that leaves the ports at which nodes serve clients: those of this many
// nodes, and of the newcomers of a network that grows later.
func (d *devnet) ports(nodes int) portPicker {
	const newcomers = 1000
	return portPicker{low: d.port, high: d.port + nodes + newcomers}
}

// A portPicker finds free loopback ports outside the range [low, high). It keeps listening on those
// it has picked until it is closed, so that it picks none twice.
type portPicker struct {
	low, high int
	held      []net.Listener
}

// The range to pick from lies below the ports that kernels hand out of their own accord: there, a
// node that dials a peer which is down could be given the very port that it dials, and talk to
// itself.
const (
	firstPort = 12000
	lastPort  = 32000
)

// pick returns address if it is a free loopback port outside the range, else a new one.
func (p *portPicker) pick(address string) (string, error) {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "127.0.0.1" {
		if n, err := strconv.Atoi(port); err == nil && n >= firstPort && n < lastPort && p.take(n) {
			return address, nil
		}
	}
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort))
		if err != nil {
			return "", err
		}
		if port := firstPort + int(n.Int64()); p.take(port) {
			return fmt.Sprintf("127.0.0.1:%d", port), nil
		}
	}
	return "", errors.New("no free port found on 127.0.0.1: name one with --http")
}

func (p *portPicker) take(port int) bool {
	if port >= p.low && port < p.high {
		return false
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	p.held = append(p.held, l)
	return true
}

func (p *portPicker) close() {
	for _, l := range p.held {
		_ = l.Close() // nobody connected
	}
}

// networkFile is network.json, which describes a running network.
type networkFile struct {
	Nodes []networkNode `json:"nodes"`
}

type networkNode struct {
	Name string `json:"name"`
	// HTTP and Operations are base URLs.
	HTTP       string `json:"http"`
	Operations string `json:"operations"`
	// PID is 0 for a node that was not started.
	PID int    `json:"pid"`
	Dir string `json:"dir"`
}

func (d *devnet) writeNetwork() error {
	file := networkFile{Nodes: []networkNode{}}
	for _, n := range d.nodes {
		c := n.config
		out := networkNode{
			Name: c.Name, HTTP: "http://" + c.Listen.Public, Operations: "http://" + c.Listen.Operations, Dir: d.nodeDir(n.index),
		}
		if n.child != nil {
			out.PID = n.child.cmd.Process.Pid
		}
		file.Nodes = append(file.Nodes, out)
	}
	return writeJSON(filepath.Join(d.dir, "network.json"), file)
}

// connected reports whether a node is ready and has links to enough peers for the next block.
func (d *devnet) connected(ctx context.Context, n *devNode) (ok bool, threshold int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := n.client.Status(ctx)
	// Another process may serve on the node's address, and the node itself have ended for it.
	if err != nil || s.ChainID != d.genesis.ChainID || s.PublicKey != n.key {
		return false, 0
	}
	links := 1 // to itself
	for _, p := range s.Peers {
		if p.Connected {
			links++
		}
	}
	return n.client.Ready(ctx) == nil && links >= int(s.Threshold), int(s.Threshold)
}
