package chain

import (
	"bytes"
	"fmt"
	"io"

	"github.com/diseq/diseq/internal/document"
)

// ReceiptMessage is the message that a receipt is about.
type ReceiptMessage struct {
	ID Hash `json:"id"`
	Message
}

// Inclusion is the RFC 6962 audit path from the message to the block's messages root, lowest
// sibling first.
type Inclusion struct {
	Path []Hash `json:"path"`
}

// ReceiptCertificate is a finalization as receipts show it, with its strength spelled out.
type ReceiptCertificate struct {
	Certificate
	Strength int `json:"strength"`
}

// ValidatorSetChange is one step of a reader from a validator set to the next: a final header that
// names the new set's hash. [Eras] follow it. The names of the new members and the endorsements of
// the change are left out: votes of the set before stand for them (see [FinalChange]).
type ValidatorSetChange struct {
	Header      Header             `json:"header"`
	Certificate ReceiptCertificate `json:"certificate"`
	Next        ValidatorSet       `json:"change"`
}

// Receipt proves to whoever holds the genesis document that a message is at an index of a final
// block. Holders of a [ReaderCheckpoint] need the changes above it only.
type Receipt struct {
	Version          uint32               `json:"version"`
	ChainID          string               `json:"chain_id"`
	Message          ReceiptMessage       `json:"message"`
	Height           uint64               `json:"height"`
	Index            uint32               `json:"index"`
	Header           Header               `json:"header"`
	Inclusion        Inclusion            `json:"inclusion"`
	Certificate      ReceiptCertificate   `json:"certificate"`
	ValidatorChanges []ValidatorSetChange `json:"validator_changes"`
}

// NewReceipts makes the receipts of the messages at these places of a final block. changes lead
// from the set that the reader starts from, such as genesis', to the block's set. It takes time in
// proportion to the block, however many receipts are asked for. With the tree of the block it takes
// time in proportion to the receipts: see [MessageTree.Receipts].
func NewReceipts(f *FinalBlock, changes []ValidatorSetChange, indexes ...int) ([]*Receipt, error) {
	return NewMessageTree(f.Messages).Receipts(f, changes, indexes...)
}

// Receipts is NewReceipts for the block whose messages the tree is of. The receipts share nothing
// with the block, so that they do not keep it in memory.
func (t *MessageTree) Receipts(f *FinalBlock, changes []ValidatorSetChange, indexes ...int) ([]*Receipt, error) {
	if len(f.Messages) != t.count {
		return nil, fmt.Errorf("a tree of %d messages for block %d, which has %d", t.count, f.Header.Height, len(f.Messages))
	}
	if changes == nil {
		changes = []ValidatorSetChange{}
	}
	certificate := ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()}
	receipts := make([]*Receipt, len(indexes))
	for i, index := range indexes {
		if index < 0 || index >= len(f.Messages) {
			return nil, fmt.Errorf("receipt of message %d of block %d, which has %d", index, f.Header.Height, len(f.Messages))
		}
		m := f.Messages[index]
		m.Data = bytes.Clone(m.Data)
		receipts[i] = &Receipt{
			Version: 1, ChainID: f.Header.ChainID, Message: ReceiptMessage{ID: m.ID(), Message: m}, Height: f.Header.Height,
			Index: uint32(index), Header: f.Header, Inclusion: Inclusion{Path: t.path(f.Messages, index)},
			Certificate: certificate, ValidatorChanges: changes,
		}
	}
	return receipts, nil
}

// Verify checks the receipt against what the reader trusts: message -> messages_root -> header hash
// -> finalize votes of the set in force, followed from there. strength is the least number of
// finalize votes that the reader insists on; 0 means the threshold. With a genesis document every
// field takes part, so that a receipt altered anywhere is refused. With a checkpoint the changes up
// to it take no part.
func (r *Receipt) Verify(from Trust, strength int) error {
	eras := from.Eras()
	if r.Version != 1 {
		return fmt.Errorf("receipt version %d, want 1", r.Version)
	}
	if r.ChainID != eras.chainID {
		return fmt.Errorf("receipt of chain %q, want %q", r.ChainID, eras.chainID)
	}
	if id := r.Message.Message.ID(); id != r.Message.ID {
		return fmt.Errorf("the message has id %v, the receipt says %v", id, r.Message.ID)
	}
	if r.Height == 0 || r.Height != r.Header.Height {
		return fmt.Errorf("receipt for height %d, its header is of height %d", r.Height, r.Header.Height)
	}
	root, err := rootFromPath(merkleLeaf(r.Message.Message), uint64(r.Index), uint64(r.Header.MessagesCount), r.Inclusion.Path)
	if err != nil {
		return err
	}
	if root != r.Header.MessagesRoot {
		return fmt.Errorf("the inclusion path leads to root %v, the header says %v", root, r.Header.MessagesRoot)
	}
	set, err := eras.SetAt(r.Height, r.ValidatorChanges...)
	if err != nil {
		return err
	}
	return r.Certificate.VerifyFinal(&r.Header, eras.chainID, set, strength)
}

// VerifyFinal checks that the certificate makes a header final (see [Header.VerifyFinal]), that it
// holds as many votes as it says, and at least strength of them.
func (c *ReceiptCertificate) VerifyFinal(h *Header, chainID string, set *ValidatorSet, strength int) error {
	if c.Strength != len(c.Votes) {
		return fmt.Errorf("certificate says strength %d, it holds %d votes", c.Strength, len(c.Votes))
	}
	if err := h.VerifyFinal(&c.Certificate, chainID, set); err != nil {
		return err
	}
	if c.Strength < strength {
		return fmt.Errorf("certificate of strength %d, %d asked for", c.Strength, strength)
	}
	return nil
}

// maxReceiptBytes bounds a receipt in JSON: the largest message in base64 and certificates of many
// set changes.
const maxReceiptBytes = 64 << 20

// ReadReceipt reads a JSON receipt of at most 64 MiB. It is not verified.
func ReadReceipt(r io.Reader) (*Receipt, error) {
	out := &Receipt{}
	if err := document.Read(r, maxReceiptBytes, out); err != nil {
		return nil, fmt.Errorf("receipt: %w: %w", ErrMalformed, err)
	}
	return out, nil
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (r *Receipt) UnmarshalJSON(b []byte) error {
	type plain Receipt
	return document.Unmarshal(b, (*plain)(r))
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (c *ReceiptCertificate) UnmarshalJSON(b []byte) error {
	type plain ReceiptCertificate
	return document.Unmarshal(b, (*plain)(c))
}
