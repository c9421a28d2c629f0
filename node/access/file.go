package access

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/diseq/diseq/node/internal/yamlfile"
)

// File is the access file, JSON or YAML: who may do what on the public listener, and how much.
// Paths in it are relative to its directory.
type File struct {
	// Anonymous is what clients without a credential may do: nothing, unless the file says so.
	Anonymous Anonymous `json:"anonymous,omitzero"`
	// Issuers are those whose tokens (JWT) are accepted: at most 16.
	Issuers []Issuer `json:"issuers,omitempty"`
	// Clients are those that the node knows by name: at most 256.
	Clients []Client `json:"clients,omitempty"`
	// Reserve is what clients without a name cannot take.
	Reserve Reserve `json:"reserve,omitzero"`
	// Audit says where a line about each request goes; by default there are no such lines.
	Audit Audit `json:"audit,omitzero"`
}

// Right is what a client may do.
type Right string

const (
	// Submit is to submit messages, and to get the receipts of what one submits.
	Submit Right = "Submit"
	// Read is to read messages, blocks, receipts, proofs and streams.
	Read Right = "Read"
	// Observe is to read the node's status in full.
	Observe Right = "Observe"
)

// Rights are all rights.
var Rights = []Right{Submit, Read, Observe}

// Anonymous is what clients without a credential may do.
type Anonymous struct {
	Allow []Right `json:"allow,omitempty"`
	// Limits are those of each address: an IPv4 address or the first 64 bits of an IPv6 address.
	// Total are those of all clients without a credential together: without them, whoever has many
	// addresses has many times the limits.
	Limits Limits `json:"limits,omitzero"`
	Total  Limits `json:"total,omitzero"`
}

// Issuer is one whose tokens are accepted.
type Issuer struct {
	// Name is what clients of this file refer to.
	Name string `json:"name"`
	// Issuer is the claim iss of its tokens. No two issuers share one.
	Issuer string `json:"issuer"`
	// Audiences are the values of the claim aud that are accepted; without any, the id of the chain
	// alone.
	Audiences []string `json:"audiences,omitempty"`
	// JWKSFile is the file of its public keys, a JSON Web Key Set (RFC 7517).
	JWKSFile string `json:"jwksFile"`
	// Claim is the claim that names the client, sub if it is left out.
	Claim string `json:"claim,omitempty"`
}

// Client is a client that the node knows by name. Exactly one of Certificate, Token and JWT says
// how it proves to be itself.
type Client struct {
	// Name appears in metrics and audit lines: 1 to 63 lower-case letters, digits, dots and
	// hyphens.
	Name        string       `json:"name"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Token       *Token       `json:"token,omitempty"`
	JWT         *JWT         `json:"jwt,omitempty"`
	Allow       []Right      `json:"allow,omitempty"`
	Limits      Limits       `json:"limits,omitzero"`
}

// Certificate is the name in a client's certificate; exactly one field is set. A certificate with
// URIs is known by them alone, one without them by its DNS names, and one without either by its
// common name.
type Certificate struct {
	URI        string `json:"uri,omitempty"`
	DNS        string `json:"dns,omitempty"`
	CommonName string `json:"commonName,omitempty"`
}

// Token is a secret text that the client sends as its bearer token.
type Token struct {
	// File has the token: at least 32 characters, and space around it that does not count.
	File string `json:"file"`
}

// JWT is a client of an issuer.
type JWT struct {
	// Issuer is the name of one of the file's issuers, Subject the value of that issuer's Claim.
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Limits bound what a client takes of this node, in memory: a restart begins anew. A field that is
// left out bounds nothing.
type Limits struct {
	// MessagesPerSecond and BytesPerSecond bound submissions. A client that was silent may send one
	// request of the largest size at once.
	MessagesPerSecond *uint64 `json:"messagesPerSecond,omitempty"`
	BytesPerSecond    *Bytes  `json:"bytesPerSecond,omitempty"`
	// BytesPerDay bounds the bytes submitted in a day, which begins at midnight UTC.
	BytesPerDay *Bytes `json:"bytesPerDay,omitempty"`
	// Connections and Streams bound how many are open at once. 0 streams are none.
	Connections *uint64 `json:"connections,omitempty"`
	Streams     *uint64 `json:"streams,omitempty"`
}

// Bytes is a number of bytes: a number, or a string such as "256Mi".
type Bytes = yamlfile.Bytes

// Reserve is what the clients of the file have for themselves.
type Reserve struct {
	// Share is how much of the node's streams, large requests and pool anonymous clients cannot
	// take, in percent: 0 to 90, 25 if it is left out.
	Share *uint64 `json:"share,omitempty"`
	// Disk is the free space, above the 512 MiB that all leave, that anonymous clients' messages do
	// not fill: 2 GiB if it is left out.
	Disk *Bytes `json:"disk,omitempty"`
}

// Audit says where the lines about requests go.
type Audit struct {
	// Stderr sends them to the standard error, File appends them to a file.
	Stderr bool   `json:"stderr,omitempty"`
	File   string `json:"file,omitempty"`
}

const (
	maxClients   = 256
	maxIssuers   = 16
	maxAudiences = 16
	maxText      = 1024
	maxShare     = 90
)

// AnonymousName stands for clients without a credential, in metrics and audit lines.
const AnonymousName = "anonymous"

var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// Parse reads an access file and validates it.
func Parse(raw []byte) (*File, error) {
	f := &File{}
	if err := yamlfile.Unmarshal(raw, f); err != nil {
		return nil, err
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Validate checks every field; the error names the one that is wrong and what is allowed. It does
// not read the files that are named.
func (f *File) Validate() error {
	if err := checkRights("anonymous.allow", f.Anonymous.Allow); err != nil {
		return err
	}
	if err := f.Anonymous.Limits.check("anonymous.limits"); err != nil {
		return err
	}
	if err := f.Anonymous.Total.check("anonymous.total"); err != nil {
		return err
	}
	if s := f.Reserve.Share; s != nil && *s > maxShare {
		return fmt.Errorf("reserve.share: %d, allowed are 0 to %d percent", *s, maxShare)
	}
	if err := f.checkIssuers(); err != nil {
		return err
	}
	return f.checkClients()
}

func (f *File) checkIssuers() error {
	if len(f.Issuers) > maxIssuers {
		return fmt.Errorf("issuers: %d, allowed are %d", len(f.Issuers), maxIssuers)
	}
	names, issuers := map[string]bool{}, map[string]bool{}
	for i, issuer := range f.Issuers {
		field := fmt.Sprintf("issuers[%d]", i)
		switch {
		case !name.MatchString(issuer.Name) || names[issuer.Name]:
			return fmt.Errorf("%s.name %q: want a name of its own, 1 to 63 lower-case letters, digits, dots and hyphens", field, issuer.Name)
		case issuer.Issuer == "" || len(issuer.Issuer) > maxText || issuers[issuer.Issuer]:
			return fmt.Errorf("%s.issuer %.100q: want the claim iss of its tokens, 1 to %d bytes, which no other issuer has",
				field, issuer.Issuer, maxText)
		case issuer.JWKSFile == "":
			return fmt.Errorf("%s.jwksFile: want the file of the issuer's public keys", field)
		case len(issuer.Audiences) > maxAudiences:
			return fmt.Errorf("%s.audiences: %d, allowed are %d", field, len(issuer.Audiences), maxAudiences)
		case len(issuer.Claim) > maxText:
			return fmt.Errorf("%s.claim: %d bytes, allowed are %d", field, len(issuer.Claim), maxText)
		}
		for j, audience := range issuer.Audiences {
			if audience == "" || len(audience) > maxText {
				return fmt.Errorf("%s.audiences[%d]: want 1 to %d bytes", field, j, maxText)
			}
		}
		names[issuer.Name], issuers[issuer.Issuer] = true, true
	}
	return nil
}

func (f *File) checkClients() error {
	if len(f.Clients) > maxClients {
		return fmt.Errorf("clients: %d, allowed are %d", len(f.Clients), maxClients)
	}
	names, identities := map[string]bool{}, map[string]string{}
	for i := range f.Clients {
		c, field := &f.Clients[i], fmt.Sprintf("clients[%d]", i)
		if !name.MatchString(c.Name) || c.Name == AnonymousName || names[c.Name] {
			return fmt.Errorf("%s.name %q: want a name of its own, 1 to 63 lower-case letters, digits, dots and hyphens, and not %q",
				field, c.Name, AnonymousName)
		}
		names[c.Name] = true
		identity, err := f.identityOf(c)
		if err != nil {
			return fmt.Errorf("%s.%w", field, err)
		}
		if other := identities[identity]; other != "" {
			return fmt.Errorf("%s: %s proves to be itself in the same way as %s: each client needs its own", field, c.Name, other)
		}
		identities[identity] = c.Name
		if err := checkRights(field+".allow", c.Allow); err != nil {
			return err
		}
		if err := c.Limits.check(field + ".limits"); err != nil {
			return err
		}
	}
	return nil
}

// identityOf returns how the client proves to be itself, the same text for the same proof.
func (f *File) identityOf(c *Client) (string, error) {
	given := 0
	for _, is := range []bool{c.Certificate != nil, c.Token != nil, c.JWT != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return "", fmt.Errorf("name %q: want exactly one of certificate, token and jwt, not %d", c.Name, given)
	}
	switch {
	case c.Token != nil && c.Token.File == "":
		return "", errors.New("token.file: want the file of the token")
	case c.Token != nil:
		return "token " + c.Token.File, nil
	case c.JWT != nil:
		if !slices.ContainsFunc(f.Issuers, func(i Issuer) bool { return i.Name == c.JWT.Issuer }) {
			return "", fmt.Errorf("jwt.issuer %q: want the name of one of the issuers", c.JWT.Issuer)
		}
		if c.JWT.Subject == "" || len(c.JWT.Subject) > maxText {
			return "", fmt.Errorf("jwt.subject: want 1 to %d bytes", maxText)
		}
		return "jwt " + c.JWT.Issuer + " " + c.JWT.Subject, nil
	}
	return c.Certificate.identity()
}

func (c *Certificate) identity() (string, error) {
	switch u, err := url.Parse(c.URI); {
	case c.URI != "" && c.DNS == "" && c.CommonName == "":
		if err != nil || !u.IsAbs() || u.String() != c.URI {
			return "", fmt.Errorf("certificate.uri %q: want a URI such as spiffe://example.org/client", c.URI)
		}
		return "uri " + c.URI, nil
	case c.DNS != "" && c.URI == "" && c.CommonName == "":
		if c.DNS != strings.ToLower(c.DNS) || len(c.DNS) > 253 {
			return "", fmt.Errorf("certificate.dns %q: want a DNS name in lower case", c.DNS)
		}
		return "dns " + c.DNS, nil
	case c.CommonName != "" && c.URI == "" && c.DNS == "":
		return "cn " + c.CommonName, nil
	}
	return "", errors.New("certificate: want exactly one of uri, dns and commonName")
}

func checkRights(field string, allow []Right) error {
	for i, right := range allow {
		if !slices.Contains(Rights, right) || slices.Contains(allow[:i], right) {
			return fmt.Errorf("%s[%d] %q: want Submit, Read or Observe, each once", field, i, right)
		}
	}
	return nil
}

func (l *Limits) check(field string) error {
	for _, f := range []struct {
		name  string
		value *uint64
	}{{"messagesPerSecond", l.MessagesPerSecond}, {"connections", l.Connections}} {
		if f.value != nil && *f.value == 0 {
			return fmt.Errorf("%s.%s: 0, want at least 1: to allow nothing, leave the right out of allow", field, f.name)
		}
	}
	for _, f := range []struct {
		name  string
		value *Bytes
	}{{"bytesPerSecond", l.BytesPerSecond}, {"bytesPerDay", l.BytesPerDay}} {
		if f.value != nil && *f.value <= 0 {
			return fmt.Errorf("%s.%s: 0, want at least 1: to allow nothing, leave the right out of allow", field, f.name)
		}
	}
	return nil
}
