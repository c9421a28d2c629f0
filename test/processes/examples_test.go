package processes

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/test/system"
)

// examples are the programs in examples, with the network that they use.
type examples struct {
	*testing.T
	dir     string
	network *system.Network
}

// TestExamples runs the programs in examples on one network, as their README does, through the loss
// of each validator in turn. At the end it stops the network and verifies offline.
func TestExamples(t *testing.T) {
	e := &examples{T: t, dir: t.TempDir()}
	build := exec.Command("go", "build", "-trimpath", "-o", e.dir, "../../examples/auditlog", "../../examples/rollup")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.network = system.Start(t, system.Options{})
	genesis, err := os.ReadFile(filepath.Join(e.network.Dir, "genesis.json"))
	e.must(err)
	e.write("genesis.json", genesis)

	t.Run("auditlog", func(t *testing.T) { (&examples{t, e.dir, e.network}).appendLog() })
	t.Run("rollup", func(t *testing.T) { (&examples{t, e.dir, e.network}).transfer() })
	e.network.Stop()
	t.Run("auditlog offline", func(t *testing.T) { (&examples{t, e.dir, e.network}).verifyLog() })
	t.Run("rollup offline", func(t *testing.T) { (&examples{t, e.dir, e.network}).checkProof() })
}

func (e *examples) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *examples) path(name string) string { return filepath.Join(e.dir, name) }

func (e *examples) write(name string, content []byte) {
	e.Helper()
	e.must(os.WriteFile(e.path(name), content, 0o600))
}

func (e *examples) read(name string) []byte {
	e.Helper()
	b, err := os.ReadFile(e.path(name))
	e.must(err)
	return b
}

// key makes a key file, and returns the public key in hex.
func (e *examples) key(name string) string {
	e.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	e.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	e.must(err)
	e.write(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return fmt.Sprintf("%x", public)
}

// command is an example, with all nodes.
func (e *examples) command(program string, args ...string) *exec.Cmd {
	var urls []string
	for _, n := range e.network.Nodes {
		urls = append(urls, n.URL)
	}
	c := exec.Command(e.path(program), append([]string{"-nodes", strings.Join(urls, ",")}, args...)...)
	c.Dir = e.dir
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// run runs an example; it returns what it wrote, and whether it succeeded.
func (e *examples) run(stdin, program string, args ...string) (stdout, stderr string, ok bool) {
	var out, report bytes.Buffer
	c := e.command(program, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &report
	err := c.Run()
	e.Logf("%s %s: %v\n%.2000s%.2000s", program, strings.Join(args, " "), err, out.String(), report.String())
	return out.String(), report.String(), err == nil
}

// ok is run for what has to succeed.
func (e *examples) ok(stdin, program string, args ...string) (stdout string) {
	e.Helper()
	stdout, stderr, ok := e.run(stdin, program, args...)
	if !ok {
		e.Fatalf("%s %v failed: %s", program, args, stderr)
	}
	return stdout
}

// refused is run for what has to fail with a text.
func (e *examples) refused(want, stdin, program string, args ...string) {
	e.Helper()
	if _, stderr, ok := e.run(stdin, program, args...); ok || !strings.Contains(stderr, want) {
		e.Errorf("%s %v: succeeded %v, want a failure with %q", program, args, ok, want)
	}
}

const twoLines = "door 7 opened by badge 4711\ndoor 7 closed\n"

func (e *examples) appendLog() {
	e.key("author.key")
	e.ok(twoLines, "auditlog", "append")
	before := e.read("audit.jsonl")
	e.refused(`receipt of chain "`, "", "auditlog", "-genesis", e.otherGenesis(), "append")

	// The node that is asked first is dead. Two equal lines are two records.
	e.network.Nodes[0].Kill()
	e.ok("door 7 opened by badge 4711\nno line feed", "auditlog", "append")
	e.network.Nodes[0].Start()
	after := e.read("audit.jsonl")

	// As if auditlog had been killed before it wrote the receipts of these two.
	pending := struct {
		Size     int      `json:"size"`
		Messages [][]byte `json:"messages"`
	}{Size: len(before)}
	for line := range bytes.Lines(after[len(before):]) {
		r, err := chain.ReadReceipt(bytes.NewReader(line))
		e.must(err)
		pending.Messages = append(pending.Messages, r.Message.Data)
	}
	document, err := json.Marshal(pending)
	e.must(err)
	e.write("audit.jsonl", append(slices.Clone(before), "half a rec"...))
	e.refused("the log is cut off in record 3", "", "auditlog", "append")
	e.write("audit.jsonl.pending", document) // without its line feed it was never submitted
	e.refused("the log is cut off in record 3", "", "auditlog", "append")
	e.write("audit.jsonl.pending", append([]byte("damaged "), append(document, '\n')...))
	e.refused("is damaged, and its records may be in the chain", "", "auditlog", "append")
	e.write("audit.jsonl.pending", append(document, '\n'))
	e.ok("", "auditlog", "append")
	if got := e.read("audit.jsonl"); len(lineIDs(e.T, got)) != 4 || !slices.Equal(lineIDs(e.T, got), lineIDs(e.T, after)) {
		e.Errorf("after a crash the log has messages %v, want %v", lineIDs(e.T, got), lineIDs(e.T, after))
	}

	e.refused("cannot read a line of at most", "short\n"+strings.Repeat("x", 64<<10)+"\n", "auditlog", "append")
	if got := len(lineIDs(e.T, e.read("audit.jsonl"))); got != 5 {
		e.Errorf("%d records, want 5: the line before the one that is too long counts", got)
	}
	e.refused("has no Ed25519 key in PEM", "", "auditlog", "-key", "genesis.json", "append")
	e.key("another.key")
	e.refused("the author is", "", "auditlog", "-key", "another.key", "append")
	e.network.Nodes[0].AwaitReady(soon)
}

// lineIDs returns the ids of the messages in a log.
func lineIDs(t *testing.T, log []byte) (ids []chain.Hash) {
	t.Helper()
	for line := range bytes.Lines(log) {
		r, err := chain.ReadReceipt(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.Message.ID)
	}
	return ids
}

// otherGenesis writes the genesis document under another chain id.
func (e *examples) otherGenesis() string {
	e.Helper()
	genesis := *e.network.Genesis
	genesis.ChainID = "other"
	b, err := json.Marshal(genesis)
	e.must(err)
	e.write("other.json", b)
	return "other.json"
}

func (e *examples) verifyLog() {
	out := e.ok("", "auditlog", "append") // with nothing to append it needs no node
	author := strings.TrimSpace(out[strings.LastIndex(out, " "):])
	log := e.read("audit.jsonl")
	out = e.ok("", "auditlog", "-author", author, "verify")
	for i, want := range []string{"door 7 opened by badge 4711", "door 7 closed", "door 7 opened by badge 4711", "no line feed", "short"} {
		if line := strings.Split(out, "\n")[i]; !strings.HasPrefix(line, fmt.Sprint(i+1, " ")) || !strings.HasSuffix(line, ": "+want) {
			e.Errorf("record %d is %q, want %q", i+1, line, want)
		}
	}
	lines := bytes.SplitAfter(log, []byte("\n"))
	height := []byte(fmt.Sprintf(`"height":%d`, heightOf(e.T, lines[1])))
	for name, c := range map[string]struct {
		log  []byte
		want string
	}{
		"a record is missing":   {slices.Concat(lines[0], lines[2]), "record 2 of the log: it has number 3"},
		"the first is missing":  {slices.Concat(lines[1:]...), "record 1 of the log: it has number 2"},
		"two in another order":  {slices.Concat(lines[1], lines[0]), "record 1 of the log: it has number 2"},
		"one twice":             {slices.Concat(lines[0], lines[0]), "record 2 of the log: it has number 1"},
		"another height":        {slices.Concat(lines[0], bytes.Replace(lines[1], height, []byte(`"height":1000000`), 1)), "record 2 of the log: "},
		"another text":          {bytes.Replace(lines[0], []byte(`"data":"iU`), []byte(`"data":"iV`), 1), "record 1 of the log: "},
		"cut off":               {log[:len(log)-2], "the log is cut off in record 5; the records before it are sound"},
		"no receipt":            {[]byte("{}\n"), "record 1 of the log: "},
		"a receipt of the user": {[]byte("null\n"), "record 1 of the log: "},
	} {
		e.write("altered.jsonl", c.log)
		if bytes.Equal(c.log, log) {
			e.Errorf("%s: nothing is altered", name)
		}
		e.refused(c.want, "", "auditlog", "-author", author, "-log", "altered.jsonl", "verify")
	}
	e.refused("the author is "+author, "", "auditlog", "-author", strings.Repeat("ab", 32), "verify")
	e.refused("-author: ", "", "auditlog", "verify")
	e.refused(`chain "`, "", "auditlog", "-author", author, "-genesis", e.otherGenesis(), "verify")
	e.refused("no such file", "", "auditlog", "-author", author, "-log", "none", "verify")
	e.refused("want append or verify", "", "auditlog")
}

func heightOf(t *testing.T, line []byte) uint64 {
	t.Helper()
	r, err := chain.ReadReceipt(bytes.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	return r.Height
}

// account is one of the rollup's.
type account struct{ Balance, Nonce uint64 }

func (e *examples) transfer() {
	alice, bob := e.key("alice.key"), e.key("bob.key")
	e.write("allocation.json", fmt.Appendf(nil, `{"%s": {"balance": 100}}`, alice))

	// A second reader, which is connected all the time.
	follow := e.command("rollup", "-state", "second.json", "follow")
	var reports bytes.Buffer
	follow.Stderr = &reports
	e.must(follow.Start())
	ended := make(chan error, 1)
	go func() { ended <- follow.Wait() }()

	for i, node := range e.network.Nodes {
		node.Kill()
		e.ok("", "rollup", "-key", "alice.key", "-to", bob, "-amount", fmt.Sprint(i+1), "send")
		node.Start()
		node.AwaitReady(soon)
	}
	e.refused("the rollup refused it", "", "rollup", "-key", "alice.key", "-to", bob, "-amount", "91", "send")
	e.refused("send needs -amount, and -to", "", "rollup", "-key", "alice.key", "-to", bob, "send")
	e.refused("send needs -amount, and -to", "", "rollup", "-key", "alice.key", "-amount", "1", "send")

	want := map[string]account{alice: {90, 4}, bob: {10, 0}}
	e.balances(want)
	second := struct{ Accounts map[string]account }{}
	system.Eventually(e.T, soon, "the second reader has the same state", func() error {
		select {
		case err := <-ended:
			e.Fatalf("rollup follow ended: %v\n%s", err, reports.String())
		default:
		}
		if err := json.Unmarshal(e.read("second.json"), &second); err != nil {
			return err
		}
		if second.Accounts[alice] != want[alice] || second.Accounts[bob] != want[bob] {
			return errors.New(fmt.Sprint(second.Accounts))
		}
		return nil
	})
	e.must(follow.Process.Kill())
	if err := <-ended; err == nil {
		e.Error("rollup follow ended by itself")
	}
	if !strings.Contains(reports.String(), "refused: 91 to "+bob+": the sender has 90") {
		e.Errorf("the second reader reports:\n%s", reports.String())
	}

	e.write("proof.json", []byte(e.ok("", "rollup", "-key", "alice.key", "prove")))

	// The state is derived again, from the first block.
	whole := e.read("state.json")
	e.write("state.json", whole[:len(whole)-7])
	e.refused("state.json is damaged or cut off: remove it", "", "rollup", "balances")
	e.must(os.Remove(e.path("state.json")))
	e.balances(want)
	e.refused("of another chain or allocation", "", "rollup", "-genesis", e.otherGenesis(), "balances")
}

func (e *examples) balances(want map[string]account) {
	e.Helper()
	got := map[string]account{}
	e.must(json.Unmarshal([]byte(e.ok("", "rollup", "balances")), &got))
	if len(got) != len(want) {
		e.Errorf("balances %v, want %v", got, want)
	}
	for key, a := range want {
		if got[key] != a {
			e.Errorf("the account %s is %v, want %v", key, got[key], a)
		}
	}
}

func (e *examples) checkProof() {
	proof := string(e.read("proof.json"))
	allocation := map[string]account{}
	e.must(json.Unmarshal(e.read("allocation.json"), &allocation))
	for alice := range allocation {
		out := e.ok(proof, "rollup", "-claimant", alice, "check")
		if !strings.Contains(out, `"`+alice+`":{"balance":90,"nonce":4}`) {
			e.Errorf("the proof shows %s", out)
		}
		replace := func(old, with string) string {
			if !strings.Contains(proof, old) {
				e.Fatalf("the proof has no %s", old)
			}
			return strings.Replace(proof, old, with, 1)
		}
		for _, altered := range []string{
			replace(`"balance":90`, `"balance":91`), // in the state
			replace(`"receipt":{"version":1`, `"receipt":{"version":2`),
			replace(`"block":{"header":{"protocol_version":2`, `"block":{"header":{"protocol_version":3`),
			replace(`"strength":`, `"strength":1`),
			proof[:len(proof)/2], "{}", "null",
		} {
			e.refused("rollup: ", altered, "rollup", "-claimant", alice, "check")
		}
		e.refused("the receipt is not of a word of", proof, "rollup", "-claimant", strings.Repeat("ab", 32), "check")
		e.refused("rollup: ", proof, "rollup", "-claimant", alice, "-genesis", "other.json", "check")
	}
}
