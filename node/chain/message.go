package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/internal/sha256lanes"
)

// Message is an opaque payload to be ordered.
type Message struct {
	// Data is what is ordered, 1 to max_message_bytes bytes.
	Data []byte `json:"data"`
	// Timestamp is the submitter's, in Unix seconds; 0 when none was given. It is stored and
	// certified but no part of the identity: of two submissions of the same data the first ordered
	// wins.
	Timestamp uint32 `json:"timestamp"`
}

// leafPrefix is the bincode of the trie leaf (prefix None, empty key, hash None, data Some) up to
// the length of its data.
var leafPrefix = [11]byte{10: 1}

// ID returns the message's identity, which is also its key in the trie: SHA-256 over the leaf with
// an empty key (docs/protocol.md, message id). It depends on Data alone: equal data is the same
// message for ever.
func (m Message) ID() Hash {
	var prefix [len(leafPrefix) + 8]byte
	copy(prefix[:], leafPrefix[:])
	binary.LittleEndian.PutUint64(prefix[len(leafPrefix):], uint64(len(m.Data)))
	return sum(prefix[:], m.Data)
}

// IDs returns the ids of messages, computed many at a time.
func IDs(messages []Message) []Hash {
	b := batches.Get().(*sha256lanes.Batch)
	defer batches.Put(b)
	ids := make([]Hash, len(messages))
	for i, m := range messages {
		n := len(leafPrefix) + 8 + len(m.Data)
		if n > sha256lanes.Longest {
			ids[i] = m.ID()
			continue
		}
		leaf := b.Next(n, (*[32]byte)(&ids[i]))
		copy(leaf, leafPrefix[:])
		binary.LittleEndian.PutUint64(leaf[len(leafPrefix):], uint64(len(m.Data)))
		copy(leaf[len(leafPrefix)+8:], m.Data)
	}
	b.Flush()
	return ids
}

// batches hash messages side by side.
var batches = sync.Pool{New: func() any { return new(sha256lanes.Batch) }}

// Size returns the bytes that m takes of max_block_bytes: those of its encoding.
func (m Message) Size() int { return 8 + len(m.Data) }

func appendMessages(b []byte, messages []Message) []byte {
	b = appendU32(b, uint32(len(messages)))
	for _, m := range messages {
		b = appendBytes(appendU32(b, m.Timestamp), m.Data)
	}
	return b
}

// messages reads a list whose data may take limit bytes in all (its encoding is bounded by the
// input anyway).
func (d *decoder) messages(limit int) []Message {
	n := d.count("messages", limit/9+1, 9)
	messages := make([]Message, 0, n)
	for range n {
		m := Message{Timestamp: d.u32("timestamp"), Data: d.bytes("message", limit)}
		if d.err == nil && len(m.Data) == 0 {
			d.fail("empty message")
		}
		messages = append(messages, m)
	}
	return messages
}

// EncodeMessages returns the canonical encoding of a list of messages.
func EncodeMessages(messages []Message) []byte {
	size := 4
	for _, m := range messages {
		size += m.Size()
	}
	return appendMessages(make([]byte, 0, size), messages)
}

// DecodeMessages reads a list of messages of at most limit bytes. The data of the messages aliases
// b.
func DecodeMessages(b []byte, limit int) ([]Message, error) {
	if len(b) > limit+4 {
		return nil, fmt.Errorf("messages: %w: %d bytes, at most %d allowed", ErrMalformed, len(b), limit+4)
	}
	d := decoder{b: b}
	messages := d.messages(limit)
	return messages, d.finish("messages")
}

// Batch is a run of messages that one node accepted, in the order of their acceptance. It is signed
// and numbered by that node, so that everyone can order it and no one can make a hole in it unseen.
type Batch struct {
	Author PublicKey
	// Incarnation is the Unix time in nanoseconds at which the author's pool was opened, or the one
	// before it plus 1 where the clock was set back: numbers start again at 1 with each opening, so
	// that none is ever given twice.
	Incarnation uint64
	// Number counts the author's batches of this incarnation from 1, without gaps.
	Number    uint64
	Messages  []Message
	Signature Signature
}

// BatchRef names a batch in the body of a block.
type BatchRef struct {
	Author PublicKey `json:"author"`
	Hash   Hash      `json:"hash"`
}

// batchOverhead is the size of an encoded batch without messages.
const batchOverhead = 32 + 8 + 8 + 4 + 64

func (b *Batch) appendFixed(out []byte) []byte {
	out = append(out, b.Author[:]...)
	out = appendU64(out, b.Incarnation)
	return appendU64(out, b.Number)
}

func (b *Batch) appendUnsigned(out []byte) []byte {
	return appendMessages(b.appendFixed(out), b.Messages)
}

// Size returns the bytes that the batch's messages take of max_block_bytes.
func (b *Batch) Size() int {
	n := 0
	for _, m := range b.Messages {
		n += m.Size()
	}
	return n
}

// Hash returns the hash by which blocks name the batch. It covers the chain id and all but the
// signature.
func (b *Batch) Hash(chainID string) Hash {
	// It is hashed piece by piece. A copy in one piece is half a MiB of garbage for a large batch.
	h := sha256.New()
	piece := append(make([]byte, 0, 2048), "diseq/batch"...)
	piece = b.appendFixed(appendBytes(piece, chainID))
	piece = appendU32(piece, uint32(len(b.Messages)))
	for i := range b.Messages {
		m := &b.Messages[i]
		if len(piece)+8+len(m.Data) > cap(piece) {
			h.Write(piece)
			piece = piece[:0]
		}
		piece = appendU32(appendU32(piece, m.Timestamp), uint32(len(m.Data)))
		if len(piece)+len(m.Data) > cap(piece) {
			h.Write(piece)
			h.Write(m.Data)
			piece = piece[:0]
			continue
		}
		piece = append(piece, m.Data...)
	}
	h.Write(piece)
	var out Hash
	h.Sum(out[:0])
	return out
}

// Sign sets Author and Signature, and returns the batch's hash.
func (b *Batch) Sign(key ed25519.PrivateKey, chainID string) Hash {
	b.Author = PublicKeyOf(key)
	hash := b.Hash(chainID)
	b.Signature = sign(key, batchSigning(hash))
	return hash
}

func batchSigning(hash Hash) []byte { return append([]byte("diseq/batch-signature"), hash[:]...) }

// Verify checks the author's signature and that the batch has messages, none empty or above
// maxMessage bytes. The hash is returned since it is computed on the way.
func (b *Batch) Verify(chainID string, maxMessage int) (Hash, error) {
	hash := b.Hash(chainID)
	if b.Number == 0 || len(b.Messages) == 0 {
		return hash, fmt.Errorf("batch %v: %w: number %d with %d messages", hash, ErrMalformed, b.Number, len(b.Messages))
	}
	for i, m := range b.Messages {
		if len(m.Data) == 0 || len(m.Data) > maxMessage {
			return hash, fmt.Errorf("batch %v: %w: message %d has %d bytes, allowed are 1 to %d", hash, ErrMalformed, i, len(m.Data), maxMessage)
		}
	}
	if !verify(b.Author, batchSigning(hash), b.Signature) {
		return hash, fmt.Errorf("batch %v of %v: %w", hash, b.Author, ErrSignature)
	}
	return hash, nil
}

// Encode returns the canonical encoding.
func (b *Batch) Encode() []byte {
	out := b.appendUnsigned(make([]byte, 0, batchOverhead+b.Size()))
	return append(out, b.Signature[:]...)
}

// DecodeBatch reads a batch whose messages take at most limit bytes (max_block_bytes). Their data
// aliases b. The signature is not checked: see Verify.
func DecodeBatch(b []byte, limit int) (*Batch, error) {
	if len(b) > limit+batchOverhead {
		return nil, fmt.Errorf("batch: %w: %d bytes, at most %d allowed", ErrMalformed, len(b), limit+batchOverhead)
	}
	d := decoder{b: b}
	out := &Batch{}
	d.fixed("author", out.Author[:])
	out.Incarnation = d.u64("incarnation")
	out.Number = d.u64("number")
	out.Messages = d.messages(limit)
	d.fixed("signature", out.Signature[:])
	if err := d.finish("batch"); err != nil {
		return nil, err
	}
	return out, nil
}
