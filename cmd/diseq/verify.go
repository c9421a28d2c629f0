package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

func readGenesis(path string) (g *chain.Genesis, err error) {
	if path == "" {
		return nil, usagef("--genesis is required")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if g, err = chain.ReadGenesis(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// maxReceiptBytes is what chain.ReadReceipt allows.
const maxReceiptBytes = 64 << 20

func newVerify() *cobra.Command {
	var genesis string
	var strength int
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE",
		Short: "Verify receipts, blocks and proofs offline",
		Long: `Verify what a node says with nothing but the genesis document: no node is asked.

- A receipt proves that its message is final.
- A block proves that it is final, with its messages.
- A proof proves that a message is, or is not, in the blocks up to a height.

The file holds one document, or several of them one after the other, as diseq submit --lines --wait and diseq tail print them. The
command prints one verdict for each. It exits with 0 if every document is verified, otherwise with 1. A document that two programs could
read differently is refused: a name in other letters or twice, base64 with line breaks, an unknown member of a receipt.

The genesis document is what you trust. Take it from the operators of the chain, not from the person who gave you the receipt.

--strength asks for more signatures than the chain's threshold. With a certificate of all n validators, finality holds on any network
unless as many validators as the threshold are malicious. The verdict says how many that is for the document at hand. If the chain has a
synchrony wait, the verdict also says what the wait adds.`,
		Example: "  diseq verify receipt.json --genesis genesis.json\n" +
			"  diseq get receipt ID | diseq verify - --genesis genesis.json --strength 4\n" +
			"  diseq submit --lines --wait orders.txt > receipts.jsonl && diseq verify receipts.jsonl --genesis genesis.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := readGenesis(genesis)
			if err != nil {
				return err
			}
			if strength < 0 || strength > chain.MaxValidators {
				return usagef("--strength %d: want 0 to %d signatures", strength, chain.MaxValidators)
			}
			in, err := openInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }() // it was only read
			return verifyAll(cmd.OutOrStdout(), g, strength, args[0], in)
		},
	}
	cmd.Flags().StringVar(&genesis, "genesis", "", "the genesis document")
	cmd.Flags().IntVar(&strength, "strength", 0, "the least number of signatures; 0 for the chain's threshold")
	return cmd
}

// verifyAll prints a verdict for each document in the file at path. If the file has one document
// only, the error says why it is not verified.
func verifyAll(out io.Writer, g *chain.Genesis, strength int, path string, in io.Reader) error {
	d := newDocuments(in)
	count, failed := 0, 0
	for more := true; more; more = d.more() {
		line := d.line
		text, err := d.next()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		verdict, err := verifyOne(g, strength, text)
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

// verifyOne returns the verdict about one document, or why it is not verified.
func verifyOne(g *chain.Genesis, strength int, text []byte) (string, error) {
	var kind struct {
		HeaderHash *string   `json:"header_hash"`
		Proof      *struct{} `json:"proof"`
	}
	// if it is none of the two, reading it as a receipt says what is wrong
	_ = document.UnmarshalAnswer(text, &kind)
	switch {
	case kind.HeaderHash != nil:
		return verifyBlock(g, strength, text)
	case kind.Proof != nil:
		return verifyProof(g, strength, text)
	}
	return verifyReceipt(g, strength, text)
}

func notVerified(err error) error { return fmt.Errorf("not verified: %w", err) }

func verifyReceipt(g *chain.Genesis, strength int, text []byte) (string, error) {
	r, err := chain.ReadReceipt(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	if err := r.Verify(g, strength); err != nil {
		return "", notVerified(err)
	}
	set, err := g.SetAt(r.Height, r.ValidatorChanges...)
	if err != nil {
		return "", notVerified(err)
	}
	return fmt.Sprintf("verified: message %v is number %d of block %d of chain %s, %s",
		r.Message.ID, r.Index, r.Height, r.ChainID, finality(set, &r.Certificate)), nil
}

func verifyBlock(g *chain.Genesis, strength int, text []byte) (string, error) {
	b := &client.Block{}
	if err := document.UnmarshalAnswer(text, b); err != nil {
		return "", fmt.Errorf("block: %w: %w", chain.ErrMalformed, err)
	}
	if err := b.Verify(g, strength); err != nil {
		return "", notVerified(err)
	}
	if b.Certificate == nil {
		return fmt.Sprintf("verified: block 0 of chain %s is %v, as the genesis document has it", g.ChainID, b.HeaderHash), nil
	}
	return fmt.Sprintf("verified: block %d of chain %s is %v with %d messages, %s",
		b.Header.Height, g.ChainID, b.HeaderHash, len(b.Messages), finality(g.Set(), b.Certificate)), nil
}

func verifyProof(g *chain.Genesis, strength int, text []byte) (string, error) {
	p := &client.Proof{}
	if err := document.UnmarshalAnswer(text, p); err != nil {
		return "", fmt.Errorf("proof: %w: %w", chain.ErrMalformed, err)
	}
	if err := p.Verify(g, strength); err != nil {
		return "", notVerified(err)
	}
	what := "is in none of the blocks"
	if p.Included {
		what = "is in one of the blocks"
	}
	return fmt.Sprintf("verified: message %v %s up to %d of chain %s, by the state root in block %d, %s",
		p.ID, what, p.Height, g.ChainID, p.Header.Height, finality(g.Set(), p.Certificate)), nil
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

func newEvidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "evidence",
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
	var genesis string
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE",
		Short: "Verify evidence offline and name who broke which rule",
		Long: `Verify evidence: pairs of votes that no honest validator signs. FILE holds one piece, a list of them, or the answer of
GET /v1/evidence. For each piece one line names the validator and the rule it broke; the first that is not true ends it with
exit code 1 and the reason.`,
		Example: "  diseq evidence verify evidence.json --genesis genesis.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := readGenesis(genesis)
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
			set := g.Set()
			for i := range pieces {
				e := &pieces[i]
				if err := e.Verify(g.ChainID, set); err != nil {
					return fmt.Errorf("piece %d is not evidence: %w", i, err)
				}
				v := e.First
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "verified: validator %d (%s, %v) broke rule %s at height %d round %d: %s\n",
					v.Validator, g.Validators[v.Validator].Name, e.PublicKey, e.Rule, v.Height, v.Round, ruleTexts[e.Rule])
				if err != nil {
					return err
				}
			}
			if len(pieces) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "no evidence: no validator is accused")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&genesis, "genesis", "", "the genesis document")
	return cmd
}

// parseEvidence reads one piece, a list, or {"evidence":[...]}.
func parseEvidence(raw []byte) ([]chain.Evidence, error) {
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		var list []chain.Evidence
		err := document.Unmarshal(raw, &list)
		return list, err
	}
	var one chain.Evidence
	err := document.Unmarshal(raw, &one)
	if wrong, ok := errors.AsType[*document.Error](err); ok && wrong.Path == "/evidence" {
		var answer struct {
			Evidence []chain.Evidence `json:"evidence"`
		}
		err := document.Unmarshal(raw, &answer)
		return answer.Evidence, err
	}
	if err != nil {
		return nil, err
	}
	return []chain.Evidence{one}, nil
}
