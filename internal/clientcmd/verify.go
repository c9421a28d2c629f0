package clientcmd

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

	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// ReadGenesis reads a genesis document.
func ReadGenesis(path string) (*chain.Genesis, error) {
	if path == "" {
		return nil, Usagef("--genesis is required")
	}
	return ReadDocument(path, chain.ReadGenesis)
}

// ReadDocument reads a file with a reader of documents.
func ReadDocument[T any](path string, read func(io.Reader) (T, error)) (v T, err error) {
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

// Trust are the flags that say what a reader believes.
type Trust struct{ Genesis, Checkpoint string }

// Register adds the flags.
func (t *Trust) Register(f *pflag.FlagSet) {
	f.StringVar(&t.Genesis, "genesis", "", "the genesis document")
	f.StringVar(&t.Checkpoint, "checkpoint", "", "a checkpoint that diseq checkpoint wrote, in the place of the genesis document")
}

// Read returns what the reader believes, and a function that names the validators that it has names
// of.
func (t *Trust) Read() (eras *chain.Eras, nameOf func(chain.PublicKey) string, err error) {
	switch {
	case (t.Genesis == "") == (t.Checkpoint == ""):
		return nil, nil, Usagef("one of --genesis and --checkpoint is required")
	case t.Genesis != "":
		g, err := ReadGenesis(t.Genesis)
		if err != nil {
			return nil, nil, err
		}
		return g.Eras(), g.NameOf, nil
	}
	c, err := ReadDocument(t.Checkpoint, chain.ReadCheckpoint)
	if err != nil {
		return nil, nil, err
	}
	return c.Eras(), func(key chain.PublicKey) string { return key.String()[:16] }, nil
}

// MaxReceiptBytes is what chain.ReadReceipt allows.
const MaxReceiptBytes = 64 << 20

// VerifyAll prints a verdict for each document in the file at path. If the file has one document
// only, the error says why it is not verified.
func VerifyAll(out io.Writer, v *Verifier, path string, in io.Reader) error {
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
	d.lines.Buffer(nil, MaxReceiptBytes)
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
		if text = append(append(text, '\n'), line...); len(text) > MaxReceiptBytes {
			return nil, fmt.Errorf("a document is longer than %d bytes", MaxReceiptBytes)
		}
	}
	return text, d.lines.Err()
}

// A Verifier judges documents of one chain, and follows the changes of its validator set that they
// bring.
type Verifier struct {
	Eras *chain.Eras
	// Strength is the least number of signatures; 0 stands for the threshold.
	Strength int
	// Authors are the keys one of which must have signed a message; nil if nobody asks.
	Authors []chain.PublicKey
}

// verify returns the verdict about one document, or why it is not verified.
func (v *Verifier) verify(text []byte) (string, error) {
	var kind struct {
		HeaderHash *string     `json:"header_hash"`
		Proof      *struct{}   `json:"proof"`
		Changes    *[]struct{} `json:"changes"`
	}
	// if it is none of these, reading it as a receipt says what is wrong
	_ = document.UnmarshalAnswer(text, &kind)
	if v.Authors != nil && (kind.HeaderHash != nil || kind.Proof != nil) {
		return "", NotVerified(errors.New("--author is about receipts: a block or a proof shows no author"))
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

// NotVerified is the error about a document that does not verify.
func NotVerified(err error) error { return fmt.Errorf("not verified: %w", err) }

func (v *Verifier) receipt(text []byte) (string, error) {
	r, err := chain.ReadReceipt(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	if err := r.Verify(v.Eras, v.Strength); err != nil {
		return "", NotVerified(err)
	}
	signed, err := v.author(r)
	if err != nil {
		return "", NotVerified(err)
	}
	final, err := v.finality(r.Height, &r.Certificate)
	return fmt.Sprintf("verified: message %v%s is number %d of block %d of chain %s, %s",
		r.Message.ID, signed, r.Index, r.Height, r.ChainID, final), err
}

// author says who signed the message of a receipt, if anybody asks.
func (v *Verifier) author(r *chain.Receipt) (string, error) {
	if v.Authors == nil {
		return "", nil
	}
	m, err := client.ParseSigned(r.Message.Data)
	if err != nil {
		return "", fmt.Errorf("message %v: %w", r.Message.ID, err)
	}
	if err := m.Verify(r.ChainID); err != nil {
		return "", fmt.Errorf("message %v: %w", r.Message.ID, err)
	}
	if !slices.Contains(v.Authors, m.Author) {
		return "", fmt.Errorf("message %v is signed by %v, which is not the author that you named", r.Message.ID, m.Author)
	}
	return fmt.Sprintf(", signed by %v,", m.Author), nil
}

// maxKeyFile bounds a file with a public key.
const maxKeyFile = 64 << 10

// ReadAuthors reads public keys: hex digits, or files in PEM.
func ReadAuthors(arguments []string) (keys []chain.PublicKey, err error) {
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
	raw, err := ReadLimited(path, nil, maxKeyFile)
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

func (v *Verifier) block(text []byte) (string, error) {
	b := &client.Block{}
	if err := document.UnmarshalAnswer(text, b); err != nil {
		return "", fmt.Errorf("block: %w: %w", chain.ErrMalformed, err)
	}
	if err := b.Verify(v.Eras, v.Strength); err != nil {
		return "", NotVerified(err)
	}
	if b.Certificate == nil {
		return fmt.Sprintf("verified: block 0 of chain %s is %v, as the genesis document has it", v.Eras.ChainID(), b.HeaderHash), nil
	}
	final, err := v.finality(b.Header.Height, b.Certificate)
	if b.Change != nil {
		final += "; " + inForce(v.Eras)
	}
	return fmt.Sprintf("verified: block %d of chain %s is %v with %d messages, %s",
		b.Header.Height, v.Eras.ChainID(), b.HeaderHash, len(b.Messages), final), err
}

func (v *Verifier) proof(text []byte) (string, error) {
	p := &client.Proof{}
	if err := document.UnmarshalAnswer(text, p); err != nil {
		return "", fmt.Errorf("proof: %w: %w", chain.ErrMalformed, err)
	}
	if err := p.Verify(v.Eras, v.Strength); err != nil {
		return "", NotVerified(err)
	}
	what := "is in none of the blocks"
	if p.Included {
		what = "is in one of the blocks"
	}
	final, err := v.finality(p.Header.Height, p.Certificate)
	return fmt.Sprintf("verified: message %v %s up to %d of chain %s, by the state root in block %d, %s",
		p.ID, what, p.Height, v.Eras.ChainID(), p.Header.Height, final), err
}

// changes verifies what GET /v1/changes answers, or several answers in one.
func (v *Verifier) changes(text []byte) (string, error) {
	var page struct {
		Changes []chain.FinalChange `json:"changes"`
	}
	if err := document.UnmarshalAnswer(text, &page); err != nil {
		return "", fmt.Errorf("changes: %w: %w", chain.ErrMalformed, err)
	}
	if err := v.Eras.FollowFinal(page.Changes...); err != nil {
		return "", NotVerified(err)
	}
	return fmt.Sprintf("verified: %d changes of the validators of chain %s; %s", len(page.Changes), v.Eras.ChainID(), inForce(v.Eras)), nil
}

// inForce names the newest set that is known.
func inForce(eras *chain.Eras) string {
	c := eras.Checkpoint()
	return fmt.Sprintf("above block %d there are %d validators, threshold %d, generation %d",
		c.Height, len(c.Set.Validators), c.Set.Threshold, c.Set.Generation)
}

// finality says by how many validators of the set in force a block is final.
func (v *Verifier) finality(height uint64, c *chain.ReceiptCertificate) (string, error) {
	set, err := v.Eras.SetAt(height)
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
