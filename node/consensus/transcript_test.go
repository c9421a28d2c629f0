package consensus

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

var update = flag.Bool("update", false, "write the transcripts anew")

// TestTranscripts plays testdata/*.txt: what goes into one core, and after ---- what has to come
// out.
//
// A transcript is a list of stanzas between empty lines; # begins a comment. Blocks are named by
// letters. The commands are the cases of transcript.command.
//
// Promise 1: wait.txt.
// Promise 3: voter.txt, rounds.txt.
// Promise 4: justification.txt.
// Promise 7: evidence.txt.
// Promise 8: evidence.txt, withhold.txt.
// Promise 12: recovery.txt.
// Promise 13: recovery.txt.
// Promise 14: recovery.txt.
// Promise 17: missing.txt.
// Promise 34: withhold.txt.
// Promise 54: idle.txt.
// Promise 70: era.txt.
// Promise 72: era.txt, era-wait.txt.
func TestTranscripts(t *testing.T) {
	playFiles(t, "testdata/*.txt", func(t *testing.T) player { return &transcript{t: t} })
}

// TestNetworkTranscripts plays testdata/network/*.txt: several Cores that send each other messages.
// The format is that of TestTranscripts, with the commands of network.command.
//
// Promise 7: equivocation.txt.
// Promise 12: crash.txt.
// Promise 13: crash.txt.
// Promise 70: era.txt.
// Promise 72: era.txt.
func TestNetworkTranscripts(t *testing.T) {
	playFiles(t, "testdata/network/*.txt", func(t *testing.T) player { return &network{t: t} })
}

// player answers the commands of a transcript, each by a list of lines.
type player interface{ command(line string) []string }

func playFiles(t *testing.T, pattern string, newPlayer func(*testing.T) player) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := play(string(in), newPlayer(t))
			if *update {
				if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if out != string(in) {
				want, got := strings.Split(string(in), "\n"), strings.Split(out, "\n")
				for i := range want {
					if i >= len(got) || got[i] != want[i] {
						t.Fatalf("%s:%d: want %q; the whole answer (go test -run %s -update writes it):\n%s", file, i+1, want[i], t.Name(), out)
					}
				}
				t.Fatalf("%s: more comes out than written down:\n%s", file, out)
			}
		})
	}
}

func play(in string, p player) string {
	var out strings.Builder
	for i, stanza := range strings.Split(strings.TrimSpace(in), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands := 0
		var answers []string
		for line := range strings.Lines(stanza) {
			if line = strings.TrimRight(line, "\n"); line == "----" {
				break
			}
			out.WriteString(line + "\n")
			if line != "" && line[0] != '#' {
				commands++
				answers = append(answers, p.command(line)...)
			}
		}
		if commands > 0 {
			out.WriteString("----\n")
			for _, a := range answers {
				out.WriteString(a + "\n")
			}
		}
	}
	return out.String()
}

type transcript struct {
	t    *testing.T
	core *Core
	cfg  Config
	// set is that of the height, sets are those of all heights, was the hash of the set before.
	set    *chain.ValidatorSet
	sets   map[uint64]*chain.ValidatorSet
	was    chain.Hash
	order  []int
	height uint64
	finals map[uint64]*chain.Certificate
	disk   []chain.Record
	blocks map[string]*chain.Block
	names  map[chain.Hash]string
	// send, in a network, takes what leaves the Core for one peer, or for all of them if to is nil.
	send func(to *chain.PublicKey, b chain.Bundle)
	// ask, in a network, makes the others send again.
	ask func()
}

// command plays one line: a word, then arguments; those with = in them are options.
func (tr *transcript) command(line string) []string {
	tr.t.Helper()
	fields := strings.Fields(line)
	opt := make(map[string]string)
	var args []string
	for _, f := range fields[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			opt[k] = v
		} else {
			args = append(args, f)
		}
	}
	switch fields[0] {
	case "start":
		return tr.start(opt)
	case "restart":
		tr.height = tr.number(opt, "height", tr.height)
		return tr.restart(args)
	case "next":
		tr.height++
		tr.change(opt)
		return tr.begin()
	case "jump":
		tr.height = tr.number(opt, "height", 0)
		below := tr.certificate(chain.Finalize, 0, "Z", opt)
		below.Height = tr.height - 1
		tr.finals[below.Height] = below
		tr.change(opt)
		return tr.begin()
	case "ahead":
		highest := tr.number(opt, "h", 0)
		return tr.step(Ahead{From: tr.key(int(tr.number(opt, "via", 99))), Lowest: tr.number(opt, "low", highest), Height: highest})
	case "behind":
		return tr.step(Behind{From: tr.key(int(tr.number(opt, "via", 99))), Height: tr.number(opt, "h", 0)})
	case "pool":
		return tr.step(Pool{Pending: slices.Contains(args, "pending"), Full: slices.Contains(args, "full")})
	case "timer":
		kind := TimerKind(slices.Index(timerNames, args[0]))
		return tr.step(TimerFired{Timer{Kind: kind, Height: tr.number(opt, "h", tr.height), Round: uint32(tr.number(opt, "r", 0))}})
	case "health":
		return tr.step(Health{OK: args[0] == "well"})
	case "link":
		return tr.step(LinkUp{tr.key(tr.int(args[0]))})
	case "built":
		return tr.step(BlockBuilt{Round: uint32(tr.number(opt, "r", 0)), Block: tr.block(args[0], opt)})
	case "fetched":
		return tr.step(BlockFetched{tr.body(args[0], opt)})
	case "checked":
		verdict := map[string]Verdict{"valid": Valid, "withheld": Withheld, "invalid": Invalid, "misfit": Misfit}[args[1]]
		return tr.step(BlockChecked{
			Height: tr.number(opt, "h", tr.height), Round: uint32(tr.number(opt, "r", 0)), Block: tr.body(args[0], opt),
			Fresh: slices.Contains(args, "fresh"), Verdict: verdict,
		})
	case "vote", "certificate", "proposal":
		b := tr.bundle(fields[0], args, opt)
		from := uint64(99) // a stranger, but a proposal comes from its leader
		for _, p := range b.Proposals {
			from = uint64(p.Statement.Validator)
		}
		e := Received{From: tr.key(int(tr.number(opt, "via", from))), Bundle: b, Set: tr.set.Hash()}
		if slices.Contains(args, "stale") { // checked while the set before was the open one
			e.Set = tr.was
		}
		return tr.step(e)
	}
	tr.t.Fatalf("unknown command %q", line)
	return nil
}

func (tr *transcript) int(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		tr.t.Fatal(err)
	}
	return n
}

func (tr *transcript) number(opt map[string]string, key string, def uint64) uint64 {
	if opt[key] == "" {
		return def
	}
	return uint64(tr.int(opt[key]))
}

func (tr *transcript) list(s string) []int {
	var out []int
	for f := range strings.SplitSeq(s, ",") {
		out = append(out, tr.int(f))
	}
	return out
}

func (tr *transcript) key(i int) chain.PublicKey {
	if tr.set != nil && i < len(tr.set.Validators) {
		return tr.set.Validators[i].PublicKey
	}
	return testSet(i+1, i+1).Validators[i].PublicKey
}

// change puts another set in force: of the validators of "set", by the numbers that they had in the
// first set or would have had.
func (tr *transcript) change(opt map[string]string) {
	if opt["set"] != "" {
		tr.was = tr.set.Hash()
		set := &chain.ValidatorSet{
			Generation: tr.set.Generation + 1, Threshold: uint32(tr.number(opt, "t", 0)), SynchronyDeltaMS: tr.set.SynchronyDeltaMS,
		}
		for _, i := range tr.list(opt["set"]) {
			set.Validators = append(set.Validators, testSet(i+1, i+1).Validators[i])
		}
		tr.set, tr.order = set, order(len(set.Validators))
	}
	tr.sets[tr.height] = tr.set
}

func fakeSignature(v *chain.Vote) {
	v.Signature = chain.Signature{byte(v.Validator), byte(v.Kind), byte(v.Height), byte(v.Round), v.Block[0], v.Block[1]}
}

func (tr *transcript) start(opt map[string]string) []string {
	n := int(tr.number(opt, "n", 4))
	tr.set = testSet(n, int(tr.number(opt, "t", 3)))
	tr.set.SynchronyDeltaMS = uint32(tr.number(opt, "delta", 0))
	tr.order, tr.sets = order(n), map[uint64]*chain.ValidatorSet{1: tr.set}
	if opt["order"] != "" {
		tr.order = tr.list(opt["order"])
	}
	tr.height, tr.finals, tr.disk = 1, make(map[uint64]*chain.Certificate), nil
	tr.blocks, tr.names = make(map[string]*chain.Block), make(map[chain.Hash]string)
	tr.cfg = Config{
		ChainID: "test", PublicKey: tr.key(int(tr.number(opt, "self", 0))), Sign: fakeSignature, VoteFrom: tr.number(opt, "votefrom", 0),
		RoundTimeout: 500 * time.Millisecond, MaxRoundTimeout: 10 * time.Second, RetryInterval: time.Second,
		MinBlockInterval: 20 * time.Millisecond,
	}
	// With forgetful=1 the others may show certificates with votes of this core that it has not
	// cast.
	tr.cfg.Mutation.VoteForgetful = tr.number(opt, "forgetful", 0) == 1
	return tr.restart(nil)
}

// restart kills the process and starts it from what it has persisted.
func (tr *transcript) restart(args []string) []string {
	core, err := New(tr.cfg, tr.disk)
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	tr.core = core
	core.Step(Pool{Pending: slices.Contains(args, "pending")})
	core.Step(Health{OK: slices.Contains(args, "well")})
	return tr.begin()
}

func (tr *transcript) begin() []string {
	actions, err := tr.core.StartHeight(Height{Number: tr.height, Parent: tr.parent(tr.height), Set: tr.set, Order: tr.order, Last: tr.finals[tr.height-1]})
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	return tr.format(actions)
}

func (tr *transcript) parent(height uint64) chain.Hash {
	if below := tr.finals[height-1]; below != nil {
		return below.Block
	}
	return chain.Hash{}
}

func (tr *transcript) step(e Event) []string { return tr.format(tr.core.Step(e)) }

// block returns the block of a name, made on first use: of this height and, unless said otherwise,
// by the leader of round 0.
func (tr *transcript) block(name string, opt map[string]string) *chain.Block {
	if b := tr.blocks[name]; b != nil {
		return b
	}
	height := tr.number(opt, "h", tr.height)
	b := &chain.Block{Header: chain.Header{
		ChainID: "test", Height: height, ParentHash: tr.parent(height), Timestamp: uint64(name[0]),
		Proposer: uint32(tr.number(opt, "by", uint64(tr.order[0]))),
	}}
	if parent := tr.blocks[opt["parent"]]; parent != nil {
		b.Header.ParentHash = parent.Hash()
	} else if opt["parent"] != "" {
		b.Header.ParentHash = chain.Hash{1}
	}
	tr.blocks[name], tr.names[b.Hash()] = b, name
	return b
}

// body returns the block of a name with as many batches in its body as the option says.
func (tr *transcript) body(name string, opt map[string]string) *chain.Block {
	b := *tr.block(name, opt)
	b.Body = make([]chain.BatchRef, tr.number(opt, "body", 0))
	return &b
}

var kindByName = map[string]chain.Kind{
	"notarize": chain.Notarize, "nullify": chain.Nullify, "finalize": chain.Finalize, "propose": chain.Propose,
	"notarization": chain.Notarize, "nullification": chain.Nullify, "finalization": chain.Finalize,
}

func (tr *transcript) hash(kind chain.Kind, name string, opt map[string]string) chain.Hash {
	if kind == chain.Nullify {
		return chain.Hash{}
	}
	return tr.block(name, opt).Hash()
}

func (tr *transcript) certificate(kind chain.Kind, r uint32, name string, opt map[string]string) *chain.Certificate {
	cert := &chain.Certificate{Kind: kind, Height: tr.number(opt, "h", tr.height), Round: r, Block: tr.hash(kind, name, opt)}
	signers := []int{0, 1, 2, 3, 4, 5, 6}[:tr.set.Threshold]
	if opt["from"] != "" {
		signers = tr.list(opt["from"])
	}
	for _, i := range signers {
		v := chain.Vote{Kind: kind, Height: cert.Height, Round: r, Block: cert.Block, Validator: uint32(i)}
		fakeSignature(&v)
		cert.Votes = append(cert.Votes, chain.VoteSignature{Validator: v.Validator, Signature: v.Signature})
	}
	return cert
}

// bundle reads "vote notarize 0 A from=1,2", "certificate nullification 0 from=1,2,3" or "proposal
// 1 A just=nullification:0,notarization:0:A".
func (tr *transcript) bundle(word string, args []string, opt map[string]string) chain.Bundle {
	var b chain.Bundle
	name := ""
	if args := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "stale" }); len(args) > 1 {
		name = args[len(args)-1]
	}
	if word == "proposal" {
		r := uint32(tr.int(args[0]))
		leader := tr.order[int(r)%len(tr.order)]
		if opt["by"] == "" {
			opt["by"] = strconv.Itoa(leader)
		}
		p := &chain.Proposal{Block: *tr.body(name, opt)}
		p.Statement = chain.Vote{
			Kind: chain.Propose, Height: tr.number(opt, "h", tr.height), Round: r, Block: p.Block.Hash(),
			Validator: uint32(tr.number(opt, "signer", uint64(leader))),
		}
		fakeSignature(&p.Statement)
		if opt["just"] != "" {
			for just := range strings.SplitSeq(opt["just"], ",") {
				parts := append(strings.Split(just, ":"), "")
				cert := tr.certificate(kindByName[parts[0]], uint32(tr.int(parts[1])), parts[2], opt)
				if cert.Kind == chain.Notarize {
					p.Notarization = cert
				} else {
					p.Nullifications = append(p.Nullifications, *cert)
				}
			}
		}
		b.Proposals = append(b.Proposals, p)
		return b
	}
	kind, r := kindByName[args[0]], uint32(tr.int(args[1]))
	if word == "certificate" {
		b.Certificates = append(b.Certificates, tr.certificate(kind, r, name, opt))
		return b
	}
	for _, i := range tr.list(opt["from"]) {
		v := chain.Vote{Kind: kind, Height: tr.number(opt, "h", tr.height), Round: r, Block: tr.hash(kind, name, opt), Validator: uint32(i)}
		fakeSignature(&v)
		b.Votes = append(b.Votes, v)
	}
	return b
}
