package monitoring

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/hack/skipped"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/test/system"
)

func TestMain(m *testing.M) { os.Exit(system.Main(m)) }

// notShown are the alerts that no network of processes on one machine can show. promtool plays
// their faults.
var notShown = map[string]string{
	"DiseqStateBehind":       "a node computes the state faster than a test makes blocks",
	"DiseqChainAhead":        "all processes of this machine have one clock",
	"DiseqClockSkew":         "all processes of this machine have one clock",
	"DiseqEvidence":          "no validator equivocates; test/processes has one that does",
	"DiseqRevealsMissed":     "two epochs that are long enough for a busy machine take minutes",
	"DiseqSynchronyBreaches": "a node that is stopped that often does not answer Prometheus either",

	"DiseqOperatorAway":              "no operator runs here: a test in a cluster would be needed",
	"DiseqReconcileErrors":           "no operator runs here",
	"DiseqNetworkUnavailable":        "no operator runs here",
	"DiseqNetworkMarginLost":         "no operator runs here",
	"DiseqNetworkValidatorsNotReady": "no operator runs here",
	"DiseqNetworkChangeStuck":        "no operator runs here",
}

// needDisk are those of a disk that fills up, for which a file system is mounted.
var needDisk = []string{"DiseqStorageLow", "DiseqDiskFilling", "DiseqDiskFull"}

// Each query of a dashboard returns data while a network works. Each alert that a network of
// processes can be brought to fires for its fault and names what it is about. No other alert fires.
//
// The network v0 to v3 needs three of four. w0 and w1 are a network of their own with the synchrony
// wait. An operator without a cluster is there for its dashboard.
func TestARealPrometheusSeesTheFaultsOfANetwork(t *testing.T) {
	dir := t.TempDir()
	for i, more := range []string{"limits: {maxPoolBytes: 4Mi}", "access: access.json"} {
		port := system.FreePorts(t, 2)
		write(t, filepath.Join(dir, fmt.Sprint("node", i), "node.yaml"),
			fmt.Sprintf("name: v%d\nlisten: {peer: 127.0.0.1:%d, operations: 127.0.0.1:%d}\n%s\n", i, port, port+1, more))
	}
	access, audit := filepath.Join(dir, "node1", "access.json"), filepath.Join(dir, "node1", "audit.log")
	const open = `{"anonymous": {"allow": ["Submit", "Read", "Observe"]}, "audit": {"file": "audit.log"}}`
	write(t, access, open)
	var disk *smallDisk
	t.Run("a small disk", func(t *testing.T) { disk = mountDisk(t, filepath.Join(dir, "node2")) })
	if disk != nil {
		t.Cleanup(disk.unmount)
	}
	n := system.Start(t, system.Options{Dir: dir, Flags: []string{"--beacon-interval", "100000"}})
	w := system.Start(t, system.Options{Validators: 2, Threshold: 2, Flags: []string{"--synchrony-delta", "10s"}})
	v0, v1, v2, v3 := n.Nodes[0], n.Nodes[1], n.Nodes[2], n.Nodes[3]
	targets := func(n *system.Network, letter string) map[string]string {
		found := map[string]string{}
		for i, node := range n.Nodes {
			found[fmt.Sprint(letter, i)] = node.Operations
		}
		return found
	}
	p := startPrometheus(t, job{name: "net", targets: targets(n, "v")}, job{name: "waits", targets: targets(w, "w")},
		job{name: "operator", targets: map[string]string{"a": startOperator(t)}, honor: true})
	startLoad := func() *system.Ledger { return system.Load{Nodes: n.Nodes[:2], Rate: 40, Batch: 1, Size: 100}.Start(t) }
	load := startLoad()

	// A node makes the series of a refused request with the first one.
	if err := v0.Get("/v1/blocks/none", nil); err == nil {
		t.Fatal("a block without a height")
	}
	for _, dashboard := range []map[string]string{
		panels(t, "network", "$job", "net"), panels(t, "node", "$job", "net", "$instance", "v0"),
		panels(t, "operator", "$namespace", "a", "$name", "demo"),
	} {
		for title, expr := range dashboard {
			p.awaitData(title, expr)
		}
	}
	p.awaitData("time for every alert", `min(count_over_time(up[1m])) > 8`)

	// shown are the alerts that have fired; lasting are those that go on to the end.
	shown := map[string]bool{}
	var lasting []string
	await := func(when string, want ...string) {
		t.Helper()
		want = slices.Concat(want, lasting)
		p.awaitAlerts(when, want...)
		for _, name := range want {
			name, _, _ = strings.Cut(name, " ")
			shown[name] = true
		}
	}
	await("all is well")

	w.Nodes[1].Kill()
	n.Kill(v1, v2, v3)
	lasting = []string{"DiseqNoQuorum waits", "DiseqAbstaining waits w0", "DiseqNodeDown waits w1", "DiseqValidatorMissing waits v1"}
	alone := []string{
		"DiseqNoQuorum net", "DiseqStalled net", "DiseqNodeDown net v1", "DiseqNodeDown net v2", "DiseqNodeDown net v3",
		"DiseqValidatorMissing net v1", "DiseqValidatorMissing net v2", "DiseqValidatorMissing net v3",
	}
	await("three of four, and one of two, are killed", append(alone, "DiseqOneDisk net v0")...)

	load.Stop() // small messages find room for long, and are on one disk
	flood := system.Load{Nodes: n.Nodes[:1], Rate: 1000, Batch: 1, Size: 20_000, Clients: 32}.Start(t)
	await("clients flood the one that is left", append(alone, "DiseqSubmissionsRefused net v0 pool_full")...)
	flood.Stop()

	v1.Start()
	v2.Start()
	v1.AwaitReady(soon) // it does not start with a wrong access file
	load = startLoad()
	stop := strangers(t, v0)
	write(t, access, "{")
	remove(t, audit)
	must(t, os.Mkdir(audit, 0o700))
	await("v3 is down, strangers come to v0, v1 has a wrong access file and no audit file",
		"DiseqMarginLost net", "DiseqNodeDown net v3", "DiseqValidatorMissing net v3", "DiseqPeerBehind net v3",
		"DiseqPeerRefused net v0 tls", "DiseqPeerFlood net v0 flood", "DiseqAccessFilesWrong net v1", "DiseqAuditLost net v1")
	stop()
	remove(t, audit)
	write(t, access, open)

	// The others are at the same addresses as ever, and v3 looks for them elsewhere.
	before, err := os.ReadFile(v3.ConfigPath())
	must(t, err)
	cutOff(t, n, v3)
	v3.Start()
	want := []string{
		"DiseqMarginLost net", "DiseqValidatorMissing net v3", "DiseqPeerBehind net v3", "DiseqNodeBehind net v3", "DiseqLinkDown net v3 v0",
		"DiseqLinkDown net v3 v1", "DiseqLinkDown net v3 v2", "DiseqChangeStuck net", "DiseqCertificateExpires net v3",
	}
	low := []string{"DiseqStorageLow net v2", "DiseqDiskFilling net v2"}
	if disk != nil {
		disk.leave(t, 64<<20)
		want = append(want, low...)
	}
	await("v3 is cut off, wants another set, and its certificate ends; the disk of v2 is low", want...)
	v3.Kill()
	write(t, v3.ConfigPath(), string(before))
	v3.Start()
	awaitHeight(t, v3, v0)
	if disk != nil {
		disk.leave(t, 0)
		await("the disk of v2 is full", append(low, "DiseqDiskFull net v2", "DiseqNodeBehind net v2", "DiseqPeerBehind net v2")...)
		disk.leave(t, roomy)
		awaitHeight(t, v2, v0)
	}

	load.Stop()
	awaitIdle(t, n)
	v3.Kill()
	must(t, os.RemoveAll(v3.DataDir()))
	v3.Start()
	damage(t, v0, v1)
	lasting = append(lasting, "DiseqDamage net v1 block")
	await("v3 has lost its data and waits for a block, v1 has found damage", "DiseqNotVoting net v3")
	startLoad()
	await("all is well, but for the network with the synchrony wait")

	for _, name := range alerts(t) {
		reason, left := notShown[name]
		if disk == nil && slices.Contains(needDisk, name) {
			reason, left = "no file system can be mounted here", true
		}
		if shown[name] == left {
			t.Errorf("%s: fired %v, is left out %v: %s", name, shown[name], left, reason)
		}
	}
}

func config(t *testing.T, n *system.Node) node.Config {
	t.Helper()
	c, err := node.LoadConfig(n.ConfigPath())
	must(t, err)
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)))
}

func remove(t *testing.T, path string) {
	t.Helper()
	must(t, os.RemoveAll(path))
}

// smallDisk is a file system of a node. Its size changes while the node runs.
type smallDisk struct{ path string }

const roomy = 2 << 30

func mountDisk(t *testing.T, path string) *smallDisk {
	t.Helper()
	must(t, os.MkdirAll(path, 0o700))
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d", roomy)); err != nil {
		skipped.Test(t, "no disk can be filled here: mounting a small file system: %v", err)
	}
	return &smallDisk{path: path}
}

func (d *smallDisk) unmount() {
	_ = unix.Unmount(d.path, unix.MNT_DETACH) // a file system that stays goes with the machine
}

// leave changes the size so that free bytes are left.
func (d *smallDisk) leave(t *testing.T, free uint64) {
	t.Helper()
	// The used space may grow between the two calls, and a disk does not shrink below that.
	system.Eventually(t, soon, fmt.Sprintf("a disk with %d bytes free", free), func() error {
		var fs unix.Statfs_t
		if err := unix.Statfs(d.path, &fs); err != nil {
			return err
		}
		used := (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
		return unix.Mount("tmpfs", d.path, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", used+free))
	})
}

// strangers speak no TLS to the peer port of a node, and open more connections than it lets wait,
// until they are stopped.
func strangers(t *testing.T, target *system.Node) (stop func()) {
	t.Helper()
	address := config(t, target).Listen.Peer
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil
		}
		return c
	}
	every := func(pause time.Duration, f func()) {
		running.Go(func() {
			for tick := time.NewTicker(pause); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					f()
				}
			}
		})
	}
	for range 4 {
		every(200*time.Millisecond, func() {
			if c := dial(); c != nil {
				_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // refused
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				_, _ = c.Read(make([]byte, 1)) // until it is closed
				_ = c.Close()                  // it is
			}
		})
	}
	var silent []net.Conn
	every(time.Second, func() {
		for range 320 { // of 256 the oldest is closed
			if c := dial(); c != nil {
				silent = append(silent, c)
			}
		}
		for ; len(silent) > 320; silent = silent[1:] {
			_ = silent[0].Close() // the node has closed it
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		for _, c := range silent {
			_ = c.Close() // nothing was sent
		}
	})
	t.Cleanup(stop)
	return stop
}

// cutOff makes a node that does not run start with a peers file of its own, which has all others at
// an address where nobody is and declares a set that no other node wants. The others do not find it
// either. Its clients see a certificate of a day.
func cutOff(t *testing.T, n *system.Network, victim *system.Node) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Dir, "peers.json"))
	must(t, err)
	var file map[string]any
	must(t, json.Unmarshal(text, &file))
	for _, p := range file["peers"].([]any) {
		p.(map[string]any)["address"] = "127.0.0.1:1"
	}
	text, err = json.Marshal(file)
	must(t, err)
	own := filepath.Join(victim.Dir, "peers.json")
	write(t, own, string(text))
	if out, ok := system.Run("target", "make", "--genesis", filepath.Join(n.Dir, "genesis.json"), "--peers", own, "--threshold", "4",
		"-u", n.Nodes[0].URL); !ok {
		t.Fatal(out)
	}
	writeCertificate(t, victim.Dir)
	text, err = os.ReadFile(victim.ConfigPath())
	must(t, err)
	changed := strings.NewReplacer("../peers.json", "peers.json",
		config(t, victim).Listen.Peer, fmt.Sprintf("127.0.0.1:%d", system.FreePorts(t, 1))).Replace(string(text))
	write(t, victim.ConfigPath(), changed+"\ntls: {certificate: node.crt, key: node.key}\n")
}

func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, filepath.Join(dir, "node.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})))
	write(t, filepath.Join(dir, "node.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// awaitHeight waits until a node has come to the height that another has now.
func awaitHeight(t *testing.T, node, other *system.Node) {
	t.Helper()
	s, err := other.Status()
	must(t, err)
	system.Eventually(t, soon, node.Name+" has caught up", func() error {
		now, err := node.Status()
		if err == nil && now.Height < s.Height {
			err = fmt.Errorf("it is at height %d of %d", now.Height, s.Height)
		}
		return err
	})
}

// awaitIdle waits until nothing waits for a block, and no block comes for two seconds.
func awaitIdle(t *testing.T, n *system.Network) {
	t.Helper()
	var height uint64
	since := time.Now()
	system.Eventually(t, soon, "the network is idle", func() error {
		for _, node := range n.Nodes {
			s, err := node.Status()
			if err != nil || s.Height != height || s.Pool.Messages > 0 {
				height, since = max(height, s.Height), time.Now()
				return fmt.Errorf("%s is at height %d, another at %d; %d messages wait; %w", node.Name, s.Height, height, s.Pool.Messages, err)
			}
		}
		if quiet := time.Since(since); quiet < 2*time.Second {
			return fmt.Errorf("quiet for %v", quiet)
		}
		return nil
	})
}

// damage flips a bit in an old block on the disk of a node and asks the node for the block.
func damage(t *testing.T, healthy, node *system.Node) {
	t.Helper()
	var block client.Block
	for height := uint64(1); len(block.Messages) == 0; height++ {
		must(t, healthy.Get(fmt.Sprintf("/v1/blocks/%d", height), &block))
	}
	data := block.Messages[0].Data
	segments, err := filepath.Glob(filepath.Join(node.DataDir(), "messages-*.log"))
	must(t, err)
	for _, path := range segments {
		text, err := os.ReadFile(path)
		must(t, err)
		at := strings.Index(string(text), string(data))
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{data[len(data)-1] ^ 1}, int64(at+len(data)-1))
		must(t, errors.Join(err, f.Close()))
		err = node.Get(fmt.Sprintf("/v1/blocks/%d", block.Header.Height), nil)
		if refused, ok := errors.AsType[*system.AnswerError](err); err != nil && (!ok || refused.Code != http.StatusServiceUnavailable) {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("none of %v has %s", segments, hex.EncodeToString(data))
}
