package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

func readGenesis(path string) (*chain.Genesis, error) {
	if path == "" {
		return nil, usagef("--genesis is required")
	}
	return readDocument(path, chain.ReadGenesis)
}

func readDocument[T any](path string, read func(io.Reader) (T, error)) (v T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if v, err = read(f); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// trust are the flags that say what a reader believes.
type trust struct{ genesis, checkpoint string }

func (t *trust) register(f *pflag.FlagSet) {
	f.StringVar(&t.genesis, "genesis", "", "the genesis document")
	f.StringVar(&t.checkpoint, "checkpoint", "", "a checkpoint that diseq checkpoint wrote, in the place of the genesis document")
}

// read returns what the reader believes, and a function that names the validators that it has names
// of.
func (t *trust) read() (eras *chain.Eras, nameOf func(chain.PublicKey) string, err error) {
	switch {
	case (t.genesis == "") == (t.checkpoint == ""):
		return nil, nil, usagef("one of --genesis and --checkpoint is required")
	case t.genesis != "":
		g, err := readGenesis(t.genesis)
		if err != nil {
			return nil, nil, err
		}
		return g.Eras(), g.NameOf, nil
	}
	c, err := readDocument(t.checkpoint, chain.ReadCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	return c.Eras(), func(key chain.PublicKey) string { return key.String()[:16] }, nil
}

// maxReceiptBytes is what chain.ReadReceipt allows.
const maxReceiptBytes = 64 << 20

func newVerify() *cobra.Command {
	var from trust
	var strength int
	var authors []string
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE | --checkpoint FILE",
		Short: "Verify receipts, blocks and proofs offline",
		Long: `Verify what a node says with nothing but the genesis document or a checkpoint: no node is asked.

- A receipt proves that its message is final.
- A block proves that it is final, with its messages.
- A proof proves that a message is, or is not, in the blocks up to a height.
- Changes, as diseq get changes prints them, prove which validators decided which heights.

The file holds one document, or several of them one after the other, as diseq submit --lines --wait and diseq tail print them. The
command prints one verdict for each. It exits with 0 if every document is verified, otherwise with 1. A document that two programs could
read differently is refused: a name in other letters or twice, base64 with line breaks, an unknown member of a receipt.

The validators of a chain may change. Each set is believed only once the set before it has voted for it. A receipt brings the changes
that lead to its block. A block or a proof does not: put the changes, or every block since the start, before it in the file.

The genesis document is what you trust. Take it from the operators of the chain, not from the person who gave you the receipt. A
checkpoint is trusted in the same way: it is short however often the validators have changed, and what stolen keys of validators that
left before it sign is refused. With it, documents at or below its height cannot be verified.

--author also asks who wrote the message of a receipt: it must be signed, as diseq submit --sign-with does, by the key that you name. The
key is 64 hex digits, or a file with the public key in PEM, as openssl pkey -pubout writes it. Blocks and proofs do not show authors.

--strength asks for more signatures than the chain's threshold. With a certificate of all n validators, finality holds on any network
unless as many validators as the threshold are malicious. The verdict says how many that is for the document at hand. If the chain has a
synchrony wait, the verdict also says what the wait adds.`,
		Example: "  diseq verify receipt.json --genesis genesis.json --author author.pub\n" +
			"  diseq get receipt ID | diseq verify - --genesis genesis.json --strength 4\n" +
			"  diseq submit --lines --wait orders.txt > receipts.jsonl && diseq verify receipts.jsonl --genesis genesis.json\n\n" +
			"  (diseq get changes; diseq get block latest) | diseq verify - --checkpoint checkpoint.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			eras, _, err := from.read()
			if err != nil {
				return err
			}
			if strength < 0 || strength > chain.MaxValidators {
				return usagef("--strength %d: want 0 to %d signatures", strength, chain.MaxValidators)
			}
			v := &verifier{eras: eras, strength: strength}
			if v.authors, err = readAuthors(authors); err != nil {
				return err
			}
			in, err := openInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }() // it was only read
			return verifyAll(cmd.OutOrStdout(), v, args[0], in)
		},
	}
	from.register(cmd.Flags())
	cmd.Flags().IntVar(&strength, "strength", 0, "the least number of signatures; 0 for the chain's threshold")
	cmd.Flags().StringSliceVar(&authors, "author", nil, "the public key of the author, hex or a file in PEM; may be repeated: any of them")
	return cmd
}

// verifyAll prints a verdict for each document in the file at path. If the file has one document
// only, the error says why it is not verified.
func verifyAll(out io.Writer, v *verifier, path string, in io.Reader) error {
	d := newDocuments(in)
	count, failed := 0, 0
	for more := true; more; more = d.more() {
		line := d.line
		text, err := d.next()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		verdict, err := v.verify(text)
		if err != nil {
			if count == 0 && !d.more() {
				return fmt.Errorf("%s: %w", path, err)
			}
			failed++
			verdict = fmt.Sprintf("line %d: %v", line, err)
		}
		count++
		if _, err := fmt.Fprintln(out, verdict); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s: %d of %d documents are not verified", path, failed, count)
	}
	return nil
}

// documents splits a file into JSON documents. A document is one line, or begins with a line that
// opens it with a brace and ends before the next such line, as indented JSON does. So one damaged
// document does not hide those after it.
type documents struct {
	lines *bufio.Scanner
	// head is the first line of the next document, nil at the end of the file; line is its number.
	head []byte
	line int
}

func newDocuments(in io.Reader) *documents {
	d := &documents{lines: bufio.NewScanner(in)}
	d.lines.Buffer(nil, maxReceiptBytes)
	d.advance()
	return d
}

// advance finds the next line that is not blank.
func (d *documents) advance() {
	for d.head = nil; d.head == nil && d.lines.Scan(); d.line++ {
		if line := d.lines.Bytes(); len(bytes.Trim(line, " \t\r")) > 0 {
			d.head = bytes.Clone(line)
		}
	}
}

func (d *documents) more() bool { return d.head != nil }

// next returns the next document, nothing if there is none.
func (d *documents) next() ([]byte, error) {
	text := d.head
	if json.Valid(text) {
		d.advance()
		return text, d.lines.Err()
	}
	d.head = nil
	for d.lines.Scan() {
		d.line++
		line := d.lines.Bytes()
		if bytes.HasPrefix(line, []byte("{")) {
			d.head = bytes.Clone(line)
			break
		}
		if text = append(append(text, '\n'), line...); len(text) > maxReceiptBytes {
			return nil, fmt.Errorf("a document is longer than %d bytes", maxReceiptBytes)
		}
	}
	return text, d.lines.Err()
}

// A verifier judges documents of one chain, and follows the changes of its validator set that they
// bring.
type verifier struct {
	eras     *chain.Eras
	strength int
	// authors are the keys one of which must have signed a message; nil if nobody asks.
	authors []chain.PublicKey
}

// verify returns the verdict about one document, or why it is not verified.
func (v *verifier) verify(text []byte) (string, error) {
	var kind struct {
		HeaderHash *string     `json:"header_hash"`
		Proof      *struct{}   `json:"proof"`
		Changes    *[]struct{} `json:"changes"`
	}
	// if it is none of these, reading it as a receipt says what is wrong
	_ = document.UnmarshalAnswer(text, &kind)
	if v.authors != nil && (kind.HeaderHash != nil || kind.Proof != nil) {
		return "", notVerified(errors.New("--author is about receipts: a block or a proof shows no author"))
	}
	switch {
	case kind.HeaderHash != nil:
		return v.block(text)
	case kind.Proof != nil:
		return v.proof(text)
	case kind.Changes != nil:
		return v.changes(text)
	}
	return v.receipt(text)
}

func notVerified(err error) error { return fmt.Errorf("not verified: %w", err) }

func (v *verifier) receipt(text []byte) (string, error) {
	r, err := chain.ReadReceipt(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	if err := r.Verify(v.eras, v.strength); err != nil {
		return "", notVerified(err)
	}
	signed, err := v.author(r)
	if err != nil {
		return "", notVerified(err)
	}
	final, err := v.finality(r.Height, &r.Certificate)
	return fmt.Sprintf("verified: message %v%s is number %d of block %d of chain %s, %s",
		r.Message.ID, signed, r.Index, r.Height, r.ChainID, final), err
}

// author says who signed the message of a receipt, if anybody asks.
func (v *verifier) author(r *chain.Receipt) (string, error) {
	if v.authors == nil {
		return "", nil
	}
	m, err := client.ParseSigned(r.Message.Data)
	if err != nil {
		return "", fmt.Errorf("message %v: %w", r.Message.ID, err)
	}
	if err := m.Verify(r.ChainID); err != nil {
		return "", fmt.Errorf("message %v: %w", r.Message.ID, err)
	}
	if !slices.Contains(v.authors, m.Author) {
		return "", fmt.Errorf("message %v is signed by %v, which is not the author that you named", r.Message.ID, m.Author)
	}
	return fmt.Sprintf(", signed by %v,", m.Author), nil
}

// readAuthors reads public keys: hex digits, or files in PEM.
func readAuthors(arguments []string) (keys []chain.PublicKey, err error) {
	for _, argument := range arguments {
		var key chain.PublicKey
		if key.UnmarshalText([]byte(argument)) != nil {
			if key, err = readPublicKey(argument); err != nil {
				return nil, err
			}
		}
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("--author %s: %w", argument, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readPublicKey reads an Ed25519 key as openssl pkey -pubout writes it.
func readPublicKey(path string) (key chain.PublicKey, err error) {
	raw, err := readLimited(path, nil, maxPublicBytes)
	if err != nil {
		return key, fmt.Errorf("--author: want 64 hex digits or a file: %w", err)
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return key, fmt.Errorf(`--author %s: want one PEM block "PUBLIC KEY"`, path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	public, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return key, errors.Join(fmt.Errorf("--author %s: no Ed25519 key", path), err)
	}
	return chain.PublicKey(public), nil
}

func (v *verifier) block(text []byte) (string, error) {
	b := &client.Block{}
	if err := document.UnmarshalAnswer(text, b); err != nil {
		return "", fmt.Errorf("block: %w: %w", chain.ErrMalformed, err)
	}
	if err := b.Verify(v.eras, v.strength); err != nil {
		return "", notVerified(err)
	}
	if b.Certificate == nil {
		return fmt.Sprintf("verified: block 0 of chain %s is %v, as the genesis document has it", v.eras.ChainID(), b.HeaderHash), nil
	}
	final, err := v.finality(b.Header.Height, b.Certificate)
	if b.Change != nil {
		final += "; " + inForce(v.eras)
	}
	return fmt.Sprintf("verified: block %d of chain %s is %v with %d messages, %s",
		b.Header.Height, v.eras.ChainID(), b.HeaderHash, len(b.Messages), final), err
}

func (v *verifier) proof(text []byte) (string, error) {
	p := &client.Proof{}
	if err := document.UnmarshalAnswer(text, p); err != nil {
		return "", fmt.Errorf("proof: %w: %w", chain.ErrMalformed, err)
	}
	if err := p.Verify(v.eras, v.strength); err != nil {
		return "", notVerified(err)
	}
	what := "is in none of the blocks"
	if p.Included {
		what = "is in one of the blocks"
	}
	final, err := v.finality(p.Header.Height, p.Certificate)
	return fmt.Sprintf("verified: message %v %s up to %d of chain %s, by the state root in block %d, %s",
		p.ID, what, p.Height, v.eras.ChainID(), p.Header.Height, final), err
}

// changes verifies what GET /v1/changes answers, or several answers in one.
func (v *verifier) changes(text []byte) (string, error) {
	var page struct {
		Changes []chain.FinalChange `json:"changes"`
	}
	if err := document.UnmarshalAnswer(text, &page); err != nil {
		return "", fmt.Errorf("changes: %w: %w", chain.ErrMalformed, err)
	}
	if err := v.eras.FollowFinal(page.Changes...); err != nil {
		return "", notVerified(err)
	}
	return fmt.Sprintf("verified: %d changes of the validators of chain %s; %s", len(page.Changes), v.eras.ChainID(), inForce(v.eras)), nil
}

// inForce names the newest set that is known.
func inForce(eras *chain.Eras) string {
	c := eras.Checkpoint()
	return fmt.Sprintf("above block %d there are %d validators, threshold %d, generation %d",
		c.Height, len(c.Set.Validators), c.Set.Threshold, c.Set.Generation)
}

// finality says by how many validators of the set in force a block is final.
func (v *verifier) finality(height uint64, c *chain.ReceiptCertificate) (string, error) {
	set, err := v.eras.SetAt(height)
	if err != nil {
		return "", err
	}
	return finality(set, c), nil
}

// finality says by how many validators of the set in force a block is final, and how many malicious
// validators it would take for another block to be final in its place.
func finality(set *chain.ValidatorSet, c *chain.ReceiptCertificate) string {
	n, t := len(set.Validators), int(set.Threshold)
	text := fmt.Sprintf("final by %d of %d validators (threshold %d); "+
		"no other block can be final there unless %d or more validators are malicious",
		c.Strength, n, t, consensus.Tolerance(n, t).AtStrength(c.Strength)+1)
	if set.SynchronyDeltaMS != 0 && c.Strength < n {
		text += fmt.Sprintf("; unless %d or more are while messages between the others arrive within %d ms, by the synchrony wait",
			t, set.SynchronyDeltaMS)
	}
	return text
}

// evidenceName is the name of the command, and of the member of an answer.
const evidenceName = "evidence"

func newEvidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:     evidenceName,
		Short:   "Find and judge evidence against validators",
		Example: "  diseq get evidence > evidence.json\n  diseq evidence verify evidence.json --genesis genesis.json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return usagef("say what to do with it") },
	}
	cmd.AddCommand(newEvidenceVerify(), newEvidenceFind())
	return cmd
}

// ruleTexts say in words what breaks a rule of consensus.
var ruleTexts = map[chain.Rule]string{
	chain.RuleE1:      "it voted twice in a round",
	chain.RuleE2:      "it both nullified and finalized a round",
	chain.RuleE3:      "it finalized one block and notarized another in the same round",
	chain.RulePropose: "as leader it proposed two blocks in a round",
}

func newEvidenceVerify() *cobra.Command {
	var from trust
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE | --checkpoint FILE",
		Short: "Verify evidence offline and name who broke which rule",
		Long: `Verify evidence: pairs of votes that no honest validator signs. FILE holds one piece, a list of them, or the answer of
GET /v1/evidence. For each piece one line names the validator and the rule it broke; the first that is not true ends it with
exit code 1 and the reason.

A piece brings the changes of the validators up to its height, so the key of a validator that has left is convicted too. Such a key may
have been stolen after the validator left: the line then says when its set was replaced.`,
		Example: "  diseq evidence verify evidence.json --genesis genesis.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			eras, nameOf, err := from.read()
			if err != nil {
				return err
			}
			raw, err := readLimited(args[0], cmd.InOrStdin(), maxReceiptBytes)
			if err != nil {
				return err
			}
			pieces, err := parseEvidence(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			// All of them first: a later piece may know of a later set.
			verified, failed := 0, error(nil)
			for i := range pieces {
				if err := pieces[i].Verify(eras); err != nil {
					failed = fmt.Errorf("piece %d is not evidence: %w", i, err)
					break
				}
				verified++
			}
			newest := eras.Checkpoint()
			for i := range pieces[:verified] {
				e := &pieces[i]
				v, since := e.First, ""
				if v.Height <= newest.Height {
					since = fmt.Sprintf("; the validators have changed since, generation %d came with block %d", newest.Set.Generation, newest.Height)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "verified: validator %d (%s, %v) broke rule %s at height %d round %d: %s%s\n",
					v.Validator, nameOf(e.PublicKey), e.PublicKey, e.Rule, v.Height, v.Round, ruleTexts[e.Rule], since)
				if err != nil {
					return err
				}
			}
			if len(pieces) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "no evidence: no validator is accused")
			}
			return errors.Join(failed, err)
		},
	}
	from.register(cmd.Flags())
	return cmd
}

// parseEvidence reads one piece, a list, or {"evidence":[...]}.
func parseEvidence(raw []byte) ([]chain.EvidenceDocument, error) {
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		var list []chain.EvidenceDocument
		err := document.Unmarshal(raw, &list)
		return list, err
	}
	var one chain.EvidenceDocument
	err := document.Unmarshal(raw, &one)
	if wrong, ok := errors.AsType[*document.Error](err); ok && wrong.Path == "/evidence" {
		var answer struct {
			Evidence []chain.EvidenceDocument `json:"evidence"`
		}
		err := document.Unmarshal(raw, &answer)
		return answer.Evidence, err
	}
	if err != nil {
		return nil, err
	}
	return []chain.EvidenceDocument{one}, nil
}
