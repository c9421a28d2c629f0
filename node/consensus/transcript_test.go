package consensus

import (
	"flag"
	"fmt"
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

// TestTranscripts plays testdata/*.txt: what goes into one core, and after ---- what has to come out.
//
// A transcript is a list of stanzas between empty lines; # begins a comment. Blocks are named by letters. The commands are
// the cases of transcript.command.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := playTranscript(t, string(in))
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

func playTranscript(t *testing.T, in string) string {
	t.Helper()
	tr := &transcript{t: t}
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
				answers = append(answers, tr.command(line)...)
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
	t      *testing.T
	core   *Core
	cfg    Config
	set    *chain.ValidatorSet
	order  []int
	height uint64
	finals map[uint64]*chain.Certificate
	disk   []Record
	blocks map[string]*chain.Block
	names  map[chain.Hash]string
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
	from := tr.key(int(tr.number(opt, "via", 99)))
	switch fields[0] {
	case "start":
		return tr.start(opt)
	case "restart":
		tr.height = tr.number(opt, "height", tr.height)
		return tr.restart(args)
	case "next":
		tr.height++
		return tr.begin()
	case "jump":
		tr.height = tr.number(opt, "height", 0)
		below := tr.certificate(chain.Finalize, 0, "Z", opt)
		below.Height = tr.height - 1
		tr.finals[below.Height] = below
		return tr.begin()
	case "pool":
		return tr.step(Pool{Pending: slices.Contains(args, "pending"), Full: slices.Contains(args, "full")})
	case "timer":
		kind := map[string]TimerKind{"round": RoundTimer, "retry": RetryTimer, "interval": IntervalTimer}[args[0]]
		return tr.step(TimerFired{Timer{Kind: kind, Height: tr.number(opt, "h", tr.height), Round: uint32(tr.number(opt, "r", 0))}})
	case "link":
		return tr.step(LinkUp{tr.key(tr.int(args[0]))})
	case "built":
		return tr.step(BlockBuilt{Round: uint32(tr.number(opt, "r", 0)), Block: tr.block(args[0], opt)})
	case "fetched":
		return tr.step(BlockFetched{tr.block(args[0], opt)})
	case "checked":
		verdict := map[string]Verdict{"valid": Valid, "withheld": Withheld, "invalid": Invalid}[args[1]]
		return tr.step(BlockChecked{
			Height: tr.number(opt, "h", tr.height), Round: uint32(tr.number(opt, "r", 0)), Block: tr.block(args[0], opt).Hash(),
			Fresh: slices.Contains(args, "fresh"), Verdict: verdict,
		})
	case "vote", "certificate", "proposal":
		return tr.step(Received{From: from, Bundle: tr.bundle(fields[0], args, opt)})
	case "screen":
		rest, actions := tr.core.Screen(from, tr.bundle(args[0], args[1:], opt))
		out := tr.format(actions)
		return append(out, "worth checking: "+tr.formatBundle(&rest))
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
	return chain.PublicKey{'x', byte(i)}
}

func fakeSignature(v *chain.Vote) {
	v.Signature = chain.Signature{byte(v.Validator), byte(v.Kind), byte(v.Height), byte(v.Round), v.Block[0], v.Block[1]}
}

func (tr *transcript) start(opt map[string]string) []string {
	n := int(tr.number(opt, "n", 4))
	tr.set = testSet(n, int(tr.number(opt, "t", 3)))
	tr.order = nil
	for i := range n {
		tr.order = append(tr.order, i)
	}
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
	return tr.begin()
}

func (tr *transcript) begin() []string {
	actions, err := tr.core.StartHeight(Height{Height: tr.height, Parent: tr.parent(tr.height), Set: tr.set, Order: tr.order, Last: tr.finals[tr.height-1]})
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

// block returns the block of a name, made on first use: of this height and, unless said otherwise, by the leader of round 0.
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

// bundle reads "vote notarize 0 A from=1,2", "certificate nullification 0 from=1,2,3" or "proposal 1 A just=nullification:0,notarization:0:A".
func (tr *transcript) bundle(word string, args []string, opt map[string]string) Bundle {
	var b Bundle
	name := ""
	if len(args) > 1 {
		name = args[len(args)-1]
	}
	if word == "proposal" {
		r := uint32(tr.int(args[0]))
		leader := tr.order[int(r)%len(tr.order)]
		if opt["by"] == "" {
			opt["by"] = strconv.Itoa(leader)
		}
		p := &chain.Proposal{Block: *tr.block(name, opt)}
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

func (tr *transcript) name(h chain.Hash) string {
	if h.IsZero() {
		return ""
	}
	if n := tr.names[h]; n != "" {
		return " " + n
	}
	return " ?"
}

// at writes a height where it is not the current one.
func (tr *transcript) at(h uint64) string {
	if h == tr.height {
		return ""
	}
	return fmt.Sprintf("h%d ", h)
}

func (tr *transcript) vote(v chain.Vote) string {
	return fmt.Sprintf("%s(%s%d%s)", v.Kind, tr.at(v.Height), v.Round, tr.name(v.Block))
}

func (tr *transcript) votesOf(votes []chain.Vote) []string {
	var out []string
	for _, v := range votes {
		s := tr.vote(v)
		if v.Kind == chain.Propose || int(v.Validator) != tr.set.Index(tr.cfg.PublicKey) {
			s += fmt.Sprintf("/%d", v.Validator)
		}
		out = append(out, s)
	}
	return out
}

func (tr *transcript) formatCertificate(c *chain.Certificate) string {
	var signers []string
	for _, s := range c.Votes {
		signers = append(signers, strconv.Itoa(int(s.Validator)))
	}
	name := map[chain.Kind]string{chain.Notarize: "notarization", chain.Nullify: "nullification", chain.Finalize: "finalization"}[c.Kind]
	return fmt.Sprintf("%s(%s%d%s by %s)", name, tr.at(c.Height), c.Round, tr.name(c.Block), strings.Join(signers, ","))
}

func (tr *transcript) formatProposal(p *chain.Proposal) string {
	just := ""
	if p.Notarization != nil {
		just += " " + tr.formatCertificate(p.Notarization)
	}
	for i := range p.Nullifications {
		just += " " + tr.formatCertificate(&p.Nullifications[i])
	}
	if just == "" {
		just = " nothing"
	}
	return fmt.Sprintf("proposal(%s%d%s on%s)", tr.at(p.Statement.Height), p.Statement.Round, tr.name(p.Statement.Block), just)
}

func (tr *transcript) formatBundle(b *Bundle) string {
	var parts []string
	for _, c := range b.Certificates {
		parts = append(parts, tr.formatCertificate(c))
	}
	for _, p := range b.Proposals {
		parts = append(parts, tr.formatProposal(p))
	}
	parts = append(parts, tr.votesOf(b.Votes)...)
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func (tr *transcript) peers(keys []chain.PublicKey) string {
	var out []string
	for _, k := range keys {
		out = append(out, tr.peer(k))
	}
	return strings.Join(out, ",")
}

func (tr *transcript) peer(k chain.PublicKey) string {
	if i := tr.set.Index(k); i >= 0 {
		return strconv.Itoa(i)
	}
	return fmt.Sprintf("observer %d", k[1])
}

func (tr *transcript) record(r Record) string {
	var s string
	var err error
	switch r.Kind {
	case RecordVote:
		var v chain.Vote
		v, err = chain.DecodeVote(r.Data)
		s = tr.vote(v)
	case RecordCertificate:
		var c *chain.Certificate
		if c, err = chain.DecodeCertificate(r.Data); err == nil {
			s = tr.formatCertificate(c)
		}
	case RecordBlock:
		var b *chain.Block
		if b, err = chain.DecodeBlock(r.Data); err == nil {
			s = "block(" + strings.TrimSpace(tr.name(b.Hash())) + ")"
		}
	case RecordProposal:
		var p *chain.Proposal
		if p, err = chain.DecodeProposal(r.Data); err == nil {
			s = tr.formatProposal(p)
		}
	}
	if err != nil {
		tr.t.Fatal(err)
	}
	return s
}

func (tr *transcript) format(actions []Action) []string {
	var out []string
	for _, a := range actions {
		out = append(out, tr.formatAction(a))
	}
	return out
}

func (tr *transcript) formatAction(a Action) string {
	switch a := a.(type) {
	case Persist:
		tr.disk = append(tr.disk, a.Records...)
		var parts []string
		for _, r := range a.Records {
			parts = append(parts, tr.record(r))
		}
		return "persist " + strings.Join(parts, ", ")
	case Broadcast:
		return "broadcast " + tr.formatBundle(&a.Bundle)
	case Send:
		return "send to " + tr.peer(a.To) + " " + tr.formatBundle(&a.Bundle)
	case SetTimer:
		name := map[TimerKind]string{RoundTimer: "round", RetryTimer: "retry", IntervalTimer: "interval"}[a.Timer.Kind]
		if a.Timer.Kind == RoundTimer {
			name += fmt.Sprintf(" %d", a.Timer.Round)
		}
		return fmt.Sprintf("timer %s in %v", name, a.After)
	case CheckBlock:
		fresh := ""
		if a.Fresh {
			fresh = " fresh"
		}
		return fmt.Sprintf("check%s round %d%s, held by %s", tr.name(a.Block.Hash()), a.Round, fresh, tr.peers(a.Holders))
	case FetchBlock:
		return fmt.Sprintf("fetch%s, held by %s", tr.name(a.Block), tr.peers(a.Holders))
	case RequestBlock:
		return fmt.Sprintf("request block for round %d", a.Round)
	case Commit:
		tr.finals[tr.height] = a.Finalization
		s := fmt.Sprintf("commit%s %s", tr.name(a.Block.Hash()), tr.formatCertificate(a.Finalization))
		for _, c := range a.Justification {
			s += ", justified by " + tr.formatCertificate(c)
		}
		return s
	case Strengthen:
		return "strengthen " + tr.formatCertificate(a.Finalization)
	case AnswerFinalization:
		return fmt.Sprintf("answer %s with the finalization of height %d", tr.peer(a.To), a.Height)
	case CatchUp:
		return fmt.Sprintf("catch up to height %d from %s", a.Height, tr.peer(a.From))
	case EvidenceFound:
		e := a.Evidence
		return fmt.Sprintf("evidence %s against %d: %s, %s", e.Rule, e.First.Validator, tr.vote(e.First), tr.vote(e.Second))
	case Contradiction:
		return "contradiction: " + strings.NewReplacer(tr.replacements()...).Replace(a.Reason)
	}
	tr.t.Fatalf("unknown action %T", a)
	return ""
}

// replacements puts names in place of hashes.
func (tr *transcript) replacements() []string {
	var out []string
	for h, n := range tr.names {
		out = append(out, h.String(), n)
	}
	return out
}
