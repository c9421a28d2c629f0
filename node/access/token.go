package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// algorithms are those that a token may be signed with: each with one kind of public key, so that a
// key of one can never be taken for a secret of another.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

const (
	// skew is how far the clocks of issuer and node may be apart.
	skew = 30 * time.Second
	// maxLifetime is how far ahead a token may expire. A token cannot be revoked before that.
	maxLifetime = 24 * time.Hour
	maxKeys     = 100
	minRSABits  = 2048
	// triedKeys is how many keys of one id are tried on a token.
	triedKeys = 4
	// minToken is the shortest opaque token: 24 random bytes in base64 have as many characters.
	minToken = 32
	// maxVerified is how many verified tokens are remembered, so that their signatures are not
	// verified with each request.
	maxVerified = 4096
)

// parseToken reads the file of an opaque token and returns its hash: the token itself is not kept.
func parseToken(raw []byte) (hash [sha256.Size]byte, err error) {
	text := bytes.TrimSpace(raw)
	if len(text) < minToken {
		return hash, fmt.Errorf("the token has %d characters: want at least %d random ones", len(text), minToken)
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return hash, errors.New("the token has characters that no HTTP header carries: want letters, digits and punctuation of ASCII")
		}
	}
	return sha256.Sum256(text), nil
}

// parseKeys reads a JSON Web Key Set. Keys of kinds that no accepted algorithm uses are left out,
// as RFC 7517 wants. A secret in the file is refused: a set that others read must not have one.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("not a JSON Web Key Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, allowed are %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for i, text := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(text); errors.Is(err, jose.ErrUnsupportedKeyType) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if !k.IsPublic() {
			return nil, fmt.Errorf("keys[%d] is a secret: a key set has public keys alone; replace this key", i)
		}
		if usable(&k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no key for RS256, ES256 or EdDSA: no token could be verified")
	}
	return keys, nil
}

// usable says that tokens may be signed with a key.
func usable(k *jose.JSONWebKey) bool {
	return (k.Use == "" || k.Use == "sig") && algorithmOf(k) != "" && (k.Algorithm == "" || k.Algorithm == string(algorithmOf(k)))
}

// algorithmOf is the algorithm that a key is for, empty for none.
func algorithmOf(k *jose.JSONWebKey) jose.SignatureAlgorithm {
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return jose.RS256
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return jose.ES256
		}
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}

// issuer is an issuer with its keys; none while its file could not be read yet.
type issuer struct {
	Issuer
	keys []jose.JSONWebKey
}

// find returns the keys that a token's header asks for. Without an id of the key there must be just
// one: a guess among many would cost a signature each.
func (i *issuer) find(h jose.Header) (keys []jose.JSONWebKey) {
	for _, k := range i.keys {
		if string(algorithmOf(&k)) == h.Algorithm && (h.KeyID == k.KeyID || h.KeyID == "" && len(i.keys) == 1) && len(keys) < triedKeys {
			keys = append(keys, k)
		}
	}
	return keys
}

// verify returns the subject of a token, and when it ceases to be accepted.
func (p *policy) verify(raw string, now time.Time) (*issuer, string, time.Time, error) {
	var none time.Time
	token, err := jwt.ParseSigned(raw, algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, "", none, unauthenticated("the bearer token is neither a token of a client nor a JWT signed with RS256, ES256 or EdDSA")
	}
	var claimed jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claimed); err != nil {
		return nil, "", none, unauthenticated("the token has claims that cannot be read")
	}
	issuer := p.issuers[claimed.Issuer]
	if issuer == nil {
		return nil, "", none, unauthenticated("the token is of an issuer that this node does not know")
	}
	var claims jwt.Claims
	var all map[string]any
	err = errors.New("no such key")
	for _, key := range issuer.find(token.Headers[0]) {
		claims, all = jwt.Claims{}, nil
		if err = token.Claims(key.Key, &claims, &all); err == nil {
			break
		}
	}
	if err != nil {
		return nil, "", none, unauthenticated("the token's signature is not by a key of issuer %s", issuer.Name)
	}
	if claims.Expiry == nil {
		return nil, "", none, unauthenticated("the token never expires: want one with the claim exp, at most %v ahead", maxLifetime)
	}
	audiences := issuer.Audiences
	if len(audiences) == 0 {
		audiences = []string{p.chainID}
	}
	expires := claims.Expiry.Time().Add(skew)
	switch err := claims.ValidateWithLeeway(jwt.Expected{Issuer: issuer.Issuer.Issuer, AnyAudience: audiences, Time: now}, skew); {
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, "", none, unauthenticated("the token is for another audience: want one for %s", audiences[0])
	case errors.Is(err, jwt.ErrExpired), err == nil && !expires.After(now):
		return nil, "", none, unauthenticated("the token has expired: get a new one")
	case err != nil:
		return nil, "", none, unauthenticated("the token is not valid yet: compare the clocks of issuer and node")
	case expires.After(now.Add(maxLifetime + 2*skew)):
		return nil, "", none, unauthenticated("the token expires too late: want one that expires within %v", maxLifetime)
	}
	subject := claims.Subject
	if issuer.Claim != "" {
		subject, _ = all[issuer.Claim].(string)
	}
	if subject == "" {
		return nil, "", none, unauthenticated("the token does not name a subject")
	}
	return issuer, subject, expires, nil
}

// verified remembers tokens that were verified, by their hash, until they expire.
type verified struct {
	mu     sync.Mutex
	tokens map[[sha256.Size]byte]verifiedToken
}

type verifiedToken struct {
	client  *client
	expires time.Time
}

func (v *verified) get(hash [sha256.Size]byte, now time.Time) (verifiedToken, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, ok := v.tokens[hash]
	return t, ok && now.Before(t.expires)
}

func (v *verified) put(hash [sha256.Size]byte, t verifiedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tokens == nil {
		v.tokens = map[[sha256.Size]byte]verifiedToken{}
	}
	for other := range v.tokens { // any: the order of a map is random
		if len(v.tokens) < maxVerified {
			break
		}
		delete(v.tokens, other)
	}
	v.tokens[hash] = t
}
