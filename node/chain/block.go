package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/diseq/diseq/internal/document"
)

// Header describes a block; validators sign its hash. It names its height and not its round, so
// that a later round can propose the very same block again.
type Header struct {
	ProtocolVersion uint32 `json:"protocol_version"`
	ChainID         string `json:"chain_id"`
	Height          uint64 `json:"height"`
	ParentHash      Hash   `json:"parent_hash"`
	// Timestamp is the proposer's clock in Unix milliseconds, later than the parent's.
	Timestamp uint64 `json:"timestamp"`
	// Proposer is the index of the validator that first proposed the block, in the height's set.
	Proposer uint32 `json:"proposer"`
	// MessagesRoot is the RFC 6962 root over the block's messages.
	MessagesRoot  Hash   `json:"messages_root"`
	MessagesCount uint32 `json:"messages_count"`
	// StateHeight is the newest height whose trie root the proposer had computed, StateRoot that
	// root (zero: empty trie).
	StateHeight uint64 `json:"state_height"`
	StateRoot   Hash   `json:"state_root"`
	// Beacon is the randomness of the height's beacon epoch.
	Beacon Hash `json:"beacon"`
	// CommitmentHash is the hash of the VRF commitment that the block carries, zero if it carries
	// none.
	CommitmentHash Hash `json:"commitment_hash"`
	// ChangeHash is the hash of the validator set change that the block carries, zero if it carries
	// none. NextValidatorsHash is of the set that decides the next height: it differs from
	// ValidatorsHash exactly when there is a change.
	ChangeHash         Hash `json:"change_hash"`
	ValidatorsHash     Hash `json:"validators_hash"`
	NextValidatorsHash Hash `json:"next_validators_hash"`
}

const maxChainIDBytes = 64

func (h *Header) append(b []byte) []byte {
	b = appendU32(b, h.ProtocolVersion)
	b = appendBytes(b, h.ChainID)
	b = appendU64(b, h.Height)
	b = append(b, h.ParentHash[:]...)
	b = appendU64(b, h.Timestamp)
	b = appendU32(b, h.Proposer)
	b = append(b, h.MessagesRoot[:]...)
	b = appendU32(b, h.MessagesCount)
	b = appendU64(b, h.StateHeight)
	b = append(b, h.StateRoot[:]...)
	b = append(b, h.Beacon[:]...)
	b = append(b, h.CommitmentHash[:]...)
	b = append(b, h.ChangeHash[:]...)
	b = append(b, h.ValidatorsHash[:]...)
	return append(b, h.NextValidatorsHash[:]...)
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (h *Header) UnmarshalJSON(b []byte) error {
	type plain Header
	return document.Unmarshal(b, (*plain)(h))
}

// Encode returns the canonical encoding.
func (h *Header) Encode() []byte { return h.append(make([]byte, 0, 416)) }

// Time returns the timestamp as a time, at most [MaxNumber] milliseconds.
func (h *Header) Time() time.Time { return time.UnixMilli(int64(min(h.Timestamp, MaxNumber))) }

// checkNumbers reports a number that no valid header holds.
func (h *Header) checkNumbers() error {
	if m := max(h.Height, h.Timestamp, h.StateHeight); m > MaxNumber {
		return fmt.Errorf("%w: header with the number %d, at most %d allowed", ErrMalformed, m, uint64(MaxNumber))
	}
	return nil
}

// Hash returns the block hash.
func (h *Header) Hash() Hash { return digest("diseq/header", h.Encode()) }

func (d *decoder) header() Header {
	h := Header{ProtocolVersion: d.u32("protocol version"), ChainID: string(d.bytes("chain id", maxChainIDBytes)), Height: d.number("height")}
	d.fixed("parent hash", h.ParentHash[:])
	h.Timestamp = d.number("timestamp")
	h.Proposer = d.u32("proposer")
	d.fixed("messages root", h.MessagesRoot[:])
	h.MessagesCount = d.u32("messages count")
	h.StateHeight = d.number("state height")
	for _, f := range []*Hash{&h.StateRoot, &h.Beacon, &h.CommitmentHash, &h.ChangeHash, &h.ValidatorsHash, &h.NextValidatorsHash} {
		d.fixed("header hashes", f[:])
	}
	return h
}

// DecodeHeader reads a header.
func DecodeHeader(b []byte) (*Header, error) {
	d := decoder{b: b}
	h := d.header()
	if err := d.finish("header"); err != nil {
		return nil, err
	}
	return &h, nil
}

func headerSigning(hash Hash) []byte { return append([]byte("diseq/header-signature"), hash[:]...) }

// Commitment is the reveal of a beacon epoch's committing validator: its VRF output and the proof
// of it.
type Commitment struct {
	Epoch uint64 `json:"epoch"`
	// Validator is the index in the set of the first height of the epoch before.
	Validator uint32 `json:"validator"`
	// Output is the VRF output y: the only part that entropy is taken from.
	Output VRFOutput `json:"output"`
	Proof  []byte    `json:"proof"`
}

// MaxProofBytes bounds a commitment's proof.
const MaxProofBytes = 1024

func (c *Commitment) append(b []byte) []byte {
	b = appendU64(b, c.Epoch)
	b = appendU32(b, c.Validator)
	b = append(b, c.Output[:]...)
	return appendBytes(b, c.Proof)
}

// Encode returns the canonical encoding.
func (c *Commitment) Encode() []byte { return c.append(nil) }

// Hash returns the hash that headers name the commitment by.
func (c *Commitment) Hash() Hash { return digest("diseq/commitment", c.Encode()) }

func (d *decoder) commitment() Commitment {
	c := Commitment{Epoch: d.number("epoch"), Validator: d.u32("validator")}
	d.fixed("output", c.Output[:])
	c.Proof = d.bytes("proof", MaxProofBytes)
	return c
}

// DecodeCommitment reads a commitment; its proof is not checked.
func DecodeCommitment(b []byte) (*Commitment, error) {
	d := decoder{b: b}
	c := d.commitment()
	if err := d.finish("commitment"); err != nil {
		return nil, err
	}
	return &c, nil
}

// Block is a header with its parts: the first proposer's signature, the commitment and the
// validator set change that the block carries, if any, and the batches whose messages it orders.
type Block struct {
	Header     Header
	Signature  Signature
	Commitment *Commitment
	Change     *Change
	// Body names batches in their order. The block's messages are theirs, less each id already
	// final or earlier in the block; header.messages_root is over what is left.
	Body []BatchRef
}

// Hash returns the header's hash.
func (b *Block) Hash() Hash { return b.Header.Hash() }

// Sign sets the signature of the first proposer.
func (b *Block) Sign(key ed25519.PrivateKey) { b.Signature = sign(key, headerSigning(b.Hash())) }

// VerifySignature checks the signature of the block's first proposer, a validator of set.
func (b *Block) VerifySignature(set *ValidatorSet) error {
	if int64(b.Header.Proposer) >= int64(len(set.Validators)) {
		return fmt.Errorf("block names proposer %d: the set has %d", b.Header.Proposer, len(set.Validators))
	}
	if !verify(set.Validators[b.Header.Proposer].PublicKey, headerSigning(b.Hash()), b.Signature) {
		return fmt.Errorf("block at height %d of proposer %d: %w", b.Header.Height, b.Header.Proposer, ErrSignature)
	}
	return nil
}

// CheckCommitment compares the commitment carried with the hash in the header. It does not check
// the proof of the commitment.
func (b *Block) CheckCommitment() error {
	want := Hash{}
	if b.Commitment != nil {
		want = b.Commitment.Hash()
	}
	if b.Header.CommitmentHash != want {
		return fmt.Errorf("%w: header names commitment %v, the block carries %v", ErrMalformed, b.Header.CommitmentHash, want)
	}
	return nil
}

// CheckChange compares the validator set change carried with the hash in the header. It does not
// check whether the change is valid. One header must not have two changes: a node that is shown the
// wrong one would call the hash invalid, and stop when the block is final.
func (b *Block) CheckChange() error {
	want := Hash{}
	if b.Change != nil {
		want = b.Change.Hash()
	}
	if b.Header.ChangeHash != want {
		return fmt.Errorf("%w: header names change %v, the block carries %v", ErrMalformed, b.Header.ChangeHash, want)
	}
	return nil
}

// CheckMessages compares messages with the root and the count in the header.
func (h *Header) CheckMessages(messages []Message) error {
	if int64(len(messages)) != int64(h.MessagesCount) {
		return fmt.Errorf("block at height %d has %d messages, its header says %d", h.Height, len(messages), h.MessagesCount)
	}
	if root := MessagesRoot(messages); root != h.MessagesRoot {
		return fmt.Errorf("block at height %d has messages root %v, its header says %v", h.Height, root, h.MessagesRoot)
	}
	return nil
}

// EmptyMessagesRoot is the messages root of a block without messages.
func EmptyMessagesRoot() Hash { return sha256.Sum256(nil) }

const batchRefSize = 32 + 32

func (b *Block) append(out []byte) []byte {
	out = b.Header.append(out)
	out = append(out, b.Signature[:]...)
	out = appendOptional(out, b.Commitment != nil)
	if b.Commitment != nil {
		out = b.Commitment.append(out)
	}
	out = appendOptional(out, b.Change != nil)
	if b.Change != nil {
		out = b.Change.append(out)
	}
	out = appendU32(out, uint32(len(b.Body)))
	for _, r := range b.Body {
		out = append(out, r.Author[:]...)
		out = append(out, r.Hash[:]...)
	}
	return out
}

// MaxBodyRefs bounds the batches of a block.
const MaxBodyRefs = 16384

func (d *decoder) block() Block {
	b := Block{Header: d.header()}
	d.fixed("proposer's signature", b.Signature[:])
	if d.optional("commitment") {
		c := d.commitment()
		b.Commitment = &c
	}
	if d.optional("change") {
		c := d.change()
		b.Change = &c
	}
	b.Body = make([]BatchRef, d.count("body", MaxBodyRefs, batchRefSize))
	for i := range b.Body {
		d.fixed("author", b.Body[i].Author[:])
		d.fixed("batch hash", b.Body[i].Hash[:])
	}
	if d.err == nil {
		d.err = b.CheckCommitment()
	}
	if d.err == nil {
		d.err = b.CheckChange()
	}
	return b
}

// Encode returns the canonical encoding.
func (b *Block) Encode() []byte { return b.append(make([]byte, 0, 1536+len(b.Body)*batchRefSize)) }

// DecodeBlock reads a block. No signature is checked.
func DecodeBlock(in []byte) (*Block, error) {
	d := decoder{b: in}
	b := d.block()
	if err := d.finish("block"); err != nil {
		return nil, err
	}
	return &b, nil
}

// FinalBlock is a block with its messages in full and the finalization that makes it final. Height
// 0 has a zero certificate.
type FinalBlock struct {
	Block
	Messages    []Message
	Certificate Certificate
}

// Encode returns the canonical encoding: block, messages, certificate.
func (f *FinalBlock) Encode() []byte {
	out := f.append(make([]byte, 0, 4096))
	out = appendMessages(out, f.Messages)
	return f.Certificate.append(out)
}

// DecodeFinalBlock reads a final block of height 1 or above whose messages take at most limit bytes
// (max_block_bytes). Its messages alias in. Nothing is verified: see Verify.
func DecodeFinalBlock(in []byte, limit int) (*FinalBlock, error) {
	d := decoder{b: in}
	f := &FinalBlock{Block: d.block()}
	f.Messages = d.messages(limit)
	f.Certificate = d.certificate()
	if err := d.finish("final block"); err != nil {
		return nil, err
	}
	return f, nil
}

// Verify checks what a reader can check of a final block without the blocks below it: that it is of
// the chain, that the set made its header final, and that its messages are those of the header. The
// caller checks the parent hash.
func (f *FinalBlock) Verify(chainID string, set *ValidatorSet) error {
	if err := f.Header.CheckMessages(f.Messages); err != nil {
		return err
	}
	return f.Header.VerifyFinal(&f.Certificate, chainID, set)
}

// VerifyFinal checks that a certificate makes the header final on a chain: the header is of the
// chain, of this protocol version and of the set, and the certificate is a finalization of it.
func (h *Header) VerifyFinal(c *Certificate, chainID string, set *ValidatorSet) error {
	if err := h.checkNumbers(); err != nil {
		return err
	}
	if h.ChainID != chainID {
		return fmt.Errorf("header of chain %q, want %q", h.ChainID, chainID)
	}
	if h.ProtocolVersion != ProtocolVersion {
		return fmt.Errorf("header of protocol version %d, want %d", h.ProtocolVersion, ProtocolVersion)
	}
	if want := set.Hash(); h.ValidatorsHash != want {
		return fmt.Errorf("header at height %d is of validator set %v, the set in force is %v", h.Height, h.ValidatorsHash, want)
	}
	if c.Kind != Finalize {
		return fmt.Errorf("certificate of %v votes, want finalize", c.Kind)
	}
	if hash := h.Hash(); c.Height != h.Height || c.Block != hash {
		return fmt.Errorf("certificate for block %v at height %d, the header is %v at height %d", c.Block, c.Height, hash, h.Height)
	}
	return c.Verify(chainID, set)
}

// Proposal is a leader's proposal: its Statement, the block, and why the round may decide on it.
type Proposal struct {
	// Statement is a vote of kind Propose by the round's leader.
	Statement Vote
	Block     Block
	// Notarization is of the highest earlier round that has one; nil if there is none. Then the
	// block is the one notarized.
	Notarization *Certificate
	// Nullifications are those of every round between the Notarization's (or the start) and this
	// one, in rising order.
	Nullifications []Certificate
}

// MaxJustification bounds the nullifications of a proposal: later rounds are reached by catching
// up.
const MaxJustification = 4 * MaxValidators

// Encode returns the canonical encoding.
func (p *Proposal) Encode() []byte {
	out := p.Statement.append(make([]byte, 0, 4096))
	out = p.Block.append(out)
	out = appendOptional(out, p.Notarization != nil)
	if p.Notarization != nil {
		out = p.Notarization.append(out)
	}
	out = appendU32(out, uint32(len(p.Nullifications)))
	for i := range p.Nullifications {
		out = p.Nullifications[i].append(out)
	}
	return out
}

// DecodeProposal reads a proposal and checks that the statement is about the block. No signature
// and no justification is checked.
func DecodeProposal(in []byte) (*Proposal, error) {
	d := decoder{b: in}
	p := &Proposal{Statement: d.vote(), Block: d.block()}
	if d.optional("notarization") {
		c := d.certificate()
		p.Notarization = &c
	}
	n := d.count("nullifications", MaxJustification, 49+signatureSize)
	for range n {
		p.Nullifications = append(p.Nullifications, d.certificate())
	}
	if d.err == nil && (p.Statement.Kind != Propose || p.Statement.Height != p.Block.Header.Height || p.Statement.Block != p.Block.Hash()) {
		d.fail("statement of another block")
	}
	if err := d.finish("proposal"); err != nil {
		return nil, err
	}
	return p, nil
}
