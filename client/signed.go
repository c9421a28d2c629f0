package client

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/chain"
)

// SignedMessage is a message that shows who wrote it: an envelope around the content, with the
// author's signature. Nodes do not look into it, and validators order it as they order any data.
// Together with a receipt it proves that the author wrote the content, and where it stands in the
// chain. docs/protocol.md has the encoding, under "Signed messages".
//
// The signature holds for one chain. Equal content of one author on one chain gives equal data, so
// that a repetition is the same message; a nonce in the content makes two of them. Nobody but the
// author can make another message of the same content.
type SignedMessage struct {
	ChainID string
	Author  chain.PublicKey
	// Content is what the author signed; it may be empty.
	Content   []byte
	Signature chain.Signature
}

// ErrNotSigned is wrapped by the error about data that has not the form of a signed message.
var ErrNotSigned = errors.New("not a signed message")

const (
	// signedMagic opens a signed message. No text in UTF-8 begins like that.
	signedMagic   = "\x89DISEQSM"
	signedVersion = 1
	signedDomain  = "diseq/signed-message"
	maxChainID    = 64
)

// SignedOverhead returns how many bytes longer a signed message on a chain is than its content.
func SignedOverhead(chainID string) int {
	return len(signedMagic) + 1 + 4 + len(chainID) + ed25519.PublicKeySize + 4 + ed25519.SignatureSize
}

// Sign makes a signed message for one chain.
func Sign(key ed25519.PrivateKey, chainID string, content []byte) (*SignedMessage, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("sign: a key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	if chainID == "" || len(chainID) > maxChainID {
		return nil, fmt.Errorf("sign: chain id %q: want 1 to %d bytes", chainID, maxChainID)
	}
	m := &SignedMessage{ChainID: chainID, Author: chain.PublicKeyOf(key), Content: content}
	m.Signature = chain.Signature(ed25519.Sign(key, m.signed()))
	return m, nil
}

// appendUnsigned appends all but the signature.
func (m *SignedMessage) appendUnsigned(b []byte) []byte {
	b = append(append(b, signedMagic...), signedVersion)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(m.ChainID))), m.ChainID...)
	b = append(b, m.Author[:]...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(m.Content))), m.Content...)
}

func (m *SignedMessage) signed() []byte { return m.appendUnsigned([]byte(signedDomain)) }

// Encode returns the data to submit.
func (m *SignedMessage) Encode() []byte {
	return append(m.appendUnsigned(make([]byte, 0, SignedOverhead(m.ChainID)+len(m.Content))), m.Signature[:]...)
}

// ParseSigned reads the data of a signed message. Each signed message has one encoding. The
// signature is not checked; see [SignedMessage.Verify]. The content aliases data.
func ParseSigned(data []byte) (*SignedMessage, error) {
	rest, ok := bytes.CutPrefix(data, []byte(signedMagic))
	if !ok || len(rest) == 0 {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrNotSigned)
	}
	if rest[0] != signedVersion {
		return nil, fmt.Errorf("%w of version %d: it has version %d", ErrNotSigned, signedVersion, rest[0])
	}
	m := &SignedMessage{}
	rest = rest[1:]
	// next takes a field of a size off rest.
	next := func(size int) []byte {
		if !ok || size > len(rest) {
			ok = false
			return nil
		}
		field := rest[:size:size]
		rest = rest[size:]
		return field
	}
	sized := func() []byte {
		size := next(4)
		if !ok {
			return nil
		}
		return next(int(min(binary.BigEndian.Uint32(size), 1<<30)))
	}
	m.ChainID = string(sized())
	copy(m.Author[:], next(len(m.Author)))
	m.Content = sized()
	copy(m.Signature[:], next(len(m.Signature)))
	if !ok || len(rest) > 0 || m.ChainID == "" || len(m.ChainID) > maxChainID {
		return nil, fmt.Errorf("%w: it is cut off or damaged", ErrNotSigned)
	}
	return m, nil
}

// Verify checks that the author signed the content for that chain. Compare Author with the key that
// you expect: anyone can sign with a key of their own.
func (m *SignedMessage) Verify(chainID string) error {
	if m.ChainID != chainID {
		return fmt.Errorf("the author signed for chain %q, this is chain %q", m.ChainID, chainID)
	}
	if err := m.Author.Validate(); err != nil {
		return fmt.Errorf("the author's key %v: %w", m.Author, err)
	}
	if !ed25519.Verify(m.Author[:], m.signed(), m.Signature[:]) {
		return fmt.Errorf("the signature of %v: %w", m.Author, chain.ErrSignature)
	}
	return nil
}
