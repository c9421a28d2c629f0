package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// client is a client of the file, or all of those without a credential.
type client struct {
	name  string
	allow []Right
	usage *usage
}

// policy is an access file with the files that it names, ready to decide.
type policy struct {
	file    *File
	digest  string
	chainID string
	// anonymous is what clients without a credential share.
	anonymous *client
	// known are the clients that prove to be themselves by a certificate or as an issuer's subject,
	// by the text that File.identityOf has for them.
	known   map[string]*client
	tokens  []tokenOf
	issuers map[string]*issuer
	// parsed is what the files that are named held when they were last good.
	parsed map[string]any
	// problems are those of files that are named and cannot be used.
	problems []string
	verified verified
	// replaced is closed when another policy takes over.
	replaced chan struct{}
}

type tokenOf struct {
	hash   [sha256.Size]byte
	client *client
}

// everybody is the policy without an access file.
func everybody() *policy {
	none, nothing := uint64(0), Bytes(0)
	return &policy{
		file:      &File{Anonymous: Anonymous{Allow: Rights}, Reserve: Reserve{Share: &none, Disk: &nothing}},
		anonymous: &client{name: AnonymousName, allow: Rights, usage: newUsage(AnonymousName, Limits{})},
		replaced:  make(chan struct{}),
	}
}

// loadPolicy reads the access file and the files that it names. One of those that cannot be used
// keeps the content that it had in the last policy; one that is gone has none.
func loadPolicy(r *reading, path, chainID string, last *policy) (*policy, error) {
	raw, err := r.file(path)
	if err != nil {
		return nil, err
	}
	file, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	p := &policy{
		file: file, digest: hex.EncodeToString(sum[:]), chainID: chainID, known: map[string]*client{}, issuers: map[string]*issuer{},
		parsed: map[string]any{}, replaced: make(chan struct{}),
	}
	if last == nil {
		last = &policy{}
	}
	p.anonymous = &client{name: AnonymousName, allow: file.Anonymous.Allow, usage: last.usageOf(AnonymousName, "clients without a credential")}
	for _, i := range file.Issuers {
		keys, _ := named(p, last, r, i.JWKSFile, parseKeys)
		p.issuers[i.Issuer] = &issuer{i, keys}
	}
	for i := range file.Clients {
		f := &file.Clients[i]
		c := &client{name: f.Name, allow: f.Allow, usage: last.usageOf(f.Name, "client "+f.Name)}
		if f.Token == nil {
			identity, err := file.identityOf(f)
			if err != nil {
				return nil, err // Parse has found none
			}
			p.known[identity] = c
			continue
		}
		if hash, ok := named(p, last, r, f.Token.File, parseToken); ok {
			p.tokens = append(p.tokens, tokenOf{hash, c})
		}
	}
	p.dropShared()
	return p, nil
}

// named reads a file that the access file names.
func named[T any](p, last *policy, r *reading, name string, parse func([]byte) (T, error)) (content T, ok bool) {
	path := r.path(name)
	raw, err := r.file(name)
	missing := err != nil && gone(err)
	if err == nil {
		content, err = parse(raw)
	}
	if err == nil {
		p.parsed[path] = content
		return content, true
	}
	if missing {
		p.problems = append(p.problems, fmt.Sprintf("%v: nobody is let in by it", err))
		return content, false
	}
	if content, ok = last.parsed[path].(T); ok {
		p.parsed[path] = content
		p.problems = append(p.problems, fmt.Sprintf("%s: %v: its last good content stays in force", path, err))
		return content, true
	}
	p.problems = append(p.problems, fmt.Sprintf("%s: %v: nobody is let in by it", path, err))
	return content, false
}

// dropShared drops tokens that two clients share: nobody could tell which of them sent it.
func (p *policy) dropShared() {
	times := map[[sha256.Size]byte]int{}
	for _, t := range p.tokens {
		times[t.hash]++
	}
	p.tokens = slices.DeleteFunc(p.tokens, func(t tokenOf) bool {
		if times[t.hash] > 1 {
			p.problems = append(p.problems, "client "+t.client.name+" has the same token as another client: nobody is let in by it")
		}
		return times[t.hash] > 1
	})
}

// usageOf returns the usage of a client of that name, a new one if there was none.
func (p *policy) usageOf(name, whose string) *usage {
	if c := p.clients()[name]; c != nil {
		return c.usage
	}
	return newUsage(whose, Limits{})
}

// clients returns all clients by name, those without a credential among them.
func (p *policy) clients() map[string]*client {
	all := map[string]*client{}
	for _, c := range p.known {
		all[c.name] = c
	}
	for _, t := range p.tokens {
		all[t.client.name] = t.client
	}
	if p.anonymous != nil {
		all[AnonymousName] = p.anonymous
	}
	return all
}

// Proof is how a client proved to be itself.
type Proof string

// The proofs there are.
const (
	ByNothing     Proof = "none"
	ByCertificate Proof = "certificate"
	ByJWT         Proof = "jwt"
	ByToken       Proof = "token"
)

// identify returns whose request it is. The first credential that is there decides.
func (p *policy) identify(r *http.Request, m *material, now time.Time) (*client, Proof, time.Time, error) {
	var never time.Time
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c, expires, err := p.byCertificate(r.TLS, m, now)
		return c, ByCertificate, expires, err
	}
	presented := r.Header.Values("Authorization")
	if len(presented) == 0 {
		return p.anonymous, ByNothing, never, nil
	}
	scheme, token, _ := strings.Cut(presented[0], " ")
	token = strings.TrimSpace(token)
	if len(presented) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, ByToken, never, unauthenticated("want one header Authorization: Bearer TOKEN, or a client certificate")
	}
	hash := sha256.Sum256([]byte(token))
	if c := p.byToken(hash); c != nil {
		return c, ByToken, never, nil
	}
	if known, ok := p.verified.get(hash, now); ok {
		return known.client, ByJWT, known.expires, nil
	}
	if len(p.issuers) == 0 {
		return nil, ByToken, never, unauthenticated("the bearer token is not that of a client of this node")
	}
	issuer, subject, expires, err := p.verify(token, now)
	if err != nil {
		return nil, ByJWT, never, err
	}
	c := p.known["jwt "+issuer.Name+" "+subject]
	if c == nil {
		return nil, ByJWT, never, unauthenticated("the token is good, and no client of this node is its subject %.200q", subject)
	}
	p.verified.put(hash, verifiedToken{c, expires})
	return c, ByJWT, expires, nil
}

// byToken compares with every token, in the same time whichever it is.
func (p *policy) byToken(hash [sha256.Size]byte) (found *client) {
	for i := range p.tokens {
		if subtle.ConstantTimeCompare(p.tokens[i].hash[:], hash[:]) == 1 {
			found = p.tokens[i].client
		}
	}
	return found
}

func (p *policy) byCertificate(state *tls.ConnectionState, m *material, now time.Time) (*client, time.Time, error) {
	var never time.Time
	if m == nil || !m.believes(state, now) {
		return nil, never, unauthenticated("the client certificate has expired, or its authority is not trusted any more")
	}
	leaf := state.PeerCertificates[0]
	var found *client
	for _, name := range namesOf(leaf) {
		c := p.known[name]
		if c == nil || c == found {
			continue
		}
		if found != nil {
			return nil, never, unauthenticated("the client certificate has the names of two clients, %s and %s", found.name, c.name)
		}
		found = c
	}
	if found == nil {
		return nil, never, unauthenticated("the client certificate is good, and no client of this node has one of its names: %.200q",
			namesOf(leaf))
	}
	return found, leaf.NotAfter, nil
}

// may reports whether a client has one of the rights; without any, whether it has a right at all.
func (c *client) may(rights ...Right) bool {
	if len(rights) == 0 {
		return len(c.allow) > 0
	}
	return slices.ContainsFunc(rights, func(r Right) bool { return slices.Contains(c.allow, r) })
}
