package access

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// place is a directory with the files of an access control.
type place struct {
	t   testing.TB
	dir string
	log syncBuffer
	// stderr gets audit lines.
	stderr syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newPlace(t testing.TB) *place { return &place{t: t, dir: t.TempDir()} }

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name string, content []byte) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o700); err != nil {
		p.t.Fatal(err)
	}
	// As a volume of Kubernetes does: the new content is there at once.
	if err := os.WriteFile(p.path(name)+".new", content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.path(name)+".new", p.path(name)); err != nil {
		p.t.Fatal(err)
	}
}

// open opens a control with an access file.
func (p *place) open(file string, change ...func(*Config)) *Control {
	p.t.Helper()
	p.write("access.json", []byte(file))
	cfg := Config{
		Files: Files{Access: p.path("access.json")}, ChainID: "demo", Logger: slog.New(slog.NewTextHandler(&p.log, nil)), Stderr: &p.stderr,
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := Open(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// request is one with a header Authorization, empty for none.
func request(authorization string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/blocks", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func bearer(token string) *http.Request { return request("Bearer " + token) }

// refusal identifies a request that must be refused, and returns why.
func refusal(t testing.TB, c *Control, r *http.Request) string {
	t.Helper()
	id, err := c.Identify(r)
	refused, ok := err.(*Refusal)
	if !ok || refused.Reason != Unauthenticated {
		t.Fatalf("identified as %q, %v; want a refusal", id.Name, err)
	}
	return refused.Message
}

func identified(t testing.TB, c *Control, r *http.Request) *Identity {
	t.Helper()
	id, err := c.Identify(r)
	if err != nil {
		t.Fatalf("not identified: %v", err)
	}
	return id
}

// signer is a key of an issuer.
type signer struct {
	id  string
	key crypto.Signer
	alg jose.SignatureAlgorithm
}

func newSigner(t testing.TB, id string, alg jose.SignatureAlgorithm) *signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case jose.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, key, alg}
}

func jwks(t testing.TB, signers ...*signer) []byte {
	t.Helper()
	set := jose.JSONWebKeySet{}
	for _, s := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(s.alg), Use: "sig"})
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type claims = map[string]any

// good are the claims of a token that is accepted.
func good(change claims) claims {
	out := claims{
		"iss": "https://cluster", "aud": "demo", "sub": "system:serviceaccount:pay:api",
		"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range change {
		if out[name] = value; value == nil {
			delete(out, name)
		}
	}
	return out
}

func (s *signer) token(t testing.TB, c claims) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: s.alg, Key: jose.JSONWebKey{Key: s.key, KeyID: s.id}}, c)
}

func sign(t testing.TB, key jose.SigningKey, c claims) string {
	t.Helper()
	with, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(with).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// authority issues certificates.
type authority struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, &a.key.PublicKey)
	return a
}

func (a *authority) sign(c, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = serial
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if parent == nil {
		parent = c
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

// issue returns a certificate and its key in PEM.
func (a *authority) issue(c *x509.Certificate) (certificate, key []byte) {
	a.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	c.KeyUsage = x509.KeyUsageDigitalSignature
	signed := a.sign(c, a.cert, &own.PublicKey)
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pair(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.issue(c))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func uri(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

const opaque = "correct-horse-battery-staple-0123456789"

const withToken = `{"anonymous":{"allow":["Read"]},"clients":[{"name":"auditor","token":{"file":"token"},"allow":["Read","Observe"]}]}`

// Without a credential a client is anonymous. A wrong credential is refused: it is never taken for
// none.
// Promise 84.
func TestAWrongCredentialIsNeverAnonymous(t *testing.T) {
	p := newPlace(t)
	p.write("token", []byte(opaque+"\n"))
	c := p.open(withToken)
	if id := identified(t, c, request("")); id.Name != AnonymousName || id.Proof != ByNothing || id.May(Read) != nil || id.May(Submit) == nil {
		t.Errorf("without a credential: %+v", id)
	}
	if id := identified(t, c, bearer(opaque)); id.Name != "auditor" || id.Proof != ByToken || !id.Has(Observe) || id.Has(Submit) {
		t.Errorf("with the token: %+v", id)
	}
	if id := identified(t, c, request("bEARER  "+opaque)); id.Name != "auditor" {
		t.Errorf("with the scheme in other letters: %+v", id)
	}
	for _, authorization := range []string{
		"Bearer", "Bearer ", "Bearer x", "Bearer " + opaque[1:], "Bearer " + opaque + "x", "Bearer " + strings.ToUpper(opaque),
		"Basic " + opaque, opaque, "Bearer " + opaque + ", Bearer " + opaque, " ",
	} {
		refusal(t, c, request(authorization))
	}
	twice := bearer(opaque)
	twice.Header.Add("Authorization", "Bearer "+opaque)
	refusal(t, c, twice)

	forbidden, ok := identified(t, c, bearer(opaque)).May(Submit).(*Refusal)
	if !ok || forbidden.Reason != Forbidden || !strings.Contains(forbidden.Message, "auditor does not have the right Submit") {
		t.Errorf("a named client without the right: %v", forbidden)
	}
	missing, ok := identified(t, c, request("")).May(Submit).(*Refusal)
	if !ok || missing.Reason != Unauthenticated || !strings.Contains(missing.Message, "the right Submit") {
		t.Errorf("a client without a credential and without the right: %v", missing)
	}
}

const withIssuer = `{"issuers":[{"name":"cluster","issuer":"https://cluster","jwksFile":"jwks.json"},
  {"name":"corp","issuer":"https://corp","audiences":["a","b"],"jwksFile":"corp.json","claim":"client_id"}],
  "clients":[{"name":"payments","jwt":{"issuer":"cluster","subject":"system:serviceaccount:pay:api"},"allow":["Submit"]},
  {"name":"shop","jwt":{"issuer":"corp","subject":"shop-7"},"allow":["Submit"]}]}`

// Each algorithm is accepted with a key of its kind, and a token counts for its issuer alone.
func TestTokensOfIssuers(t *testing.T) {
	p := newPlace(t)
	keys := []*signer{newSigner(t, "1", jose.RS256), newSigner(t, "2", jose.ES256), newSigner(t, "3", jose.EdDSA)}
	corp := newSigner(t, "1", jose.ES256)
	p.write("jwks.json", jwks(t, keys...))
	p.write("corp.json", jwks(t, corp))
	c := p.open(withIssuer)
	for _, key := range keys {
		id := identified(t, c, bearer(key.token(t, good(nil))))
		if id.Name != "payments" || id.Proof != ByJWT || time.Until(id.Expires) > time.Hour+skew || time.Until(id.Expires) < time.Hour {
			t.Errorf("%s: %+v", key.alg, id)
		}
		again := key.token(t, good(claims{"aud": []string{"other", "demo"}}))
		for range 2 { // the second time from memory
			if id := identified(t, c, bearer(again)); id.Name != "payments" {
				t.Errorf("%s, one of two audiences: %+v", key.alg, id)
			}
		}
	}
	ofCorp := claims{"iss": "https://corp", "aud": "b", "client_id": "shop-7"}
	if id := identified(t, c, bearer(corp.token(t, good(ofCorp)))); id.Name != "shop" {
		t.Errorf("another claim: %+v", id)
	}
	if why := refusal(t, c, bearer(keys[0].token(t, good(ofCorp)))); !strings.Contains(why, "not by a key of issuer corp") {
		t.Errorf("a token of one issuer, signed by another: %s", why)
	}
	// A token of an issuer with one key need not name it.
	unnamed := sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: corp.key}, good(ofCorp))
	if id := identified(t, c, bearer(unnamed)); id.Name != "shop" {
		t.Errorf("no key named: %+v", id)
	}
}

func part(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64url(raw)
}

// Tokens that an attacker can make, or has kept, are refused, and the refusal says why.
// Promise 84.
func TestTokensOfAnAttackerAreRefused(t *testing.T) {
	p := newPlace(t)
	key, other := newSigner(t, "1", jose.RS256), newSigner(t, "2", jose.RS256)
	ec := newSigner(t, "3", jose.ES256)
	p.write("jwks.json", jwks(t, key, ec))
	p.write("corp.json", jwks(t, other))
	c := p.open(withIssuer)
	public, err := x509.MarshalPKIXPublicKey(key.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	hs := func(secret []byte) string {
		return sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: secret, KeyID: "1"}}, good(nil))
	}
	none := part(t, claims{"alg": "none", "typ": "JWT"}) + "." + part(t, good(nil)) + "."
	pieces := strings.Split(key.token(t, good(nil)), ".")
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other.key}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := jwt.Signed(embedded).Claims(good(nil)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, attack := range map[string]struct{ token, want string }{
		"expired":                      {key.token(t, good(claims{"exp": time.Now().Add(-skew - 2*time.Second).Unix()})), "has expired"},
		"expired long ago":             {key.token(t, good(claims{"exp": 1})), "has expired"},
		"never expires":                {key.token(t, good(claims{"exp": nil})), "never expires"},
		"expires too late":             {key.token(t, good(claims{"exp": time.Now().Add(25 * time.Hour).Unix()})), "expires too late"},
		"expires in no time":           {key.token(t, good(claims{"exp": 1e30})), ""},
		"not valid yet":                {key.token(t, good(claims{"nbf": time.Now().Add(time.Minute).Unix()})), "not valid yet"},
		"of the future":                {key.token(t, good(claims{"iat": time.Now().Add(time.Minute).Unix()})), "not valid yet"},
		"another audience":             {key.token(t, good(claims{"aud": "prod"})), "another audience: want one for demo"},
		"no audience":                  {key.token(t, good(claims{"aud": nil})), "another audience"},
		"empty audience":               {key.token(t, good(claims{"aud": ""})), "another audience"},
		"another issuer":               {key.token(t, good(claims{"iss": "https://evil"})), "does not know"},
		"no issuer":                    {key.token(t, good(claims{"iss": nil})), "does not know"},
		"another subject":              {key.token(t, good(claims{"sub": "system:serviceaccount:evil:api"})), "no client of this node"},
		"no subject":                   {key.token(t, good(claims{"sub": nil})), "does not name a subject"},
		"a subject of two":             {key.token(t, good(claims{"sub": []string{"a", "b"}})), ""},
		"another key":                  {other.token(t, good(nil)), "not by a key of issuer cluster"},
		"another key, known id":        {(&signer{"1", other.key, jose.RS256}).token(t, good(nil)), "not by a key of issuer cluster"},
		"no key named":                 {sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: key.key}, good(nil)), "not by a key"},
		"its own key":                  {withKey, "not by a key of issuer cluster"},
		"alg none":                     {none, "neither"},
		"HS256, the modulus":           {hs(key.key.Public().(*rsa.PublicKey).N.Bytes()), "neither"},
		"HS256, the PEM":               {hs(publicPEM), "neither"},
		"HS256, the DER":               {hs(public), "neither"},
		"PS256":                        {sign(t, jose.SigningKey{Algorithm: jose.PS256, Key: jose.JSONWebKey{Key: key.key, KeyID: "1"}}, good(nil)), "neither"},
		"another algorithm of the key": {part(t, claims{"alg": "ES256", "kid": "1"}) + "." + pieces[1] + "." + pieces[2], "not by a key"},
		"other claims":                 {pieces[0] + "." + part(t, good(claims{"aud": "x"})) + "." + pieces[2], "not by a key"},
		"no signature":                 {pieces[0] + "." + pieces[1] + ".", "not by a key"},
		"two parts":                    {pieces[0] + "." + pieces[1], "neither"},
		"four parts":                   {key.token(t, good(nil)) + ".x", "neither"},
		"not base64":                   {"a.b.c", "neither"},
		"critical header":              {part(t, claims{"alg": "RS256", "kid": "1", "crit": []string{"x"}, "x": 1}) + "." + pieces[1] + "." + pieces[2], ""},
	} {
		if why := refusal(t, c, bearer(attack.token)); !strings.Contains(why, attack.want) {
			t.Errorf("%s: %q, want %q", name, why, attack.want)
		}
	}
	if id := identified(t, c, bearer(strings.Join(pieces, "."))); id.Name != "payments" {
		t.Errorf("the token that the attacks are made of: %+v", id)
	}
}

// A key set with a secret is refused: whoever reads the file could sign. Keys that no accepted
// algorithm uses are left out.
func TestKeySets(t *testing.T) {
	ec := newSigner(t, "1", jose.ES256)
	text := string(jwks(t, ec))
	one := strings.TrimSuffix(strings.TrimPrefix(text, `{"keys":[`), `]}`)
	private, err := json.Marshal(jose.JSONWebKey{Key: ec.key, KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]int{
		text: 1,
		`{"keys":[` + one + `,{"kty":"EC","crv":"P-999","x":"AA","y":"AA"},{"kty":"new","a":1}]}`: 1,
		`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`:                                                 -1,
		`{"keys":[` + one + `,` + string(private) + `]}`:                                          -1,
		`{"keys":[]}`: -1,
		`{}`:          -1,
		`[]`:          -1,
		`{"keys":[` + strings.Repeat(one+`,`, maxKeys) + one + `]}`:                  -1,
		strings.Replace(text, `"sig"`, `"enc"`, 1):                                   -1,
		strings.Replace(text, `"ES256"`, `"ES512"`, 1):                               -1,
		`{"keys":[{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("_", 170) + `"}]}`: -1, // 1020 bits
	} {
		keys, err := parseKeys([]byte(in))
		if (err != nil) != (want < 0) || err == nil && len(keys) != want {
			t.Errorf("%.200s: %d keys, %v; want %d", in, len(keys), err, want)
		}
	}
}

// The names of a certificate: URIs alone if there are any, else DNS names, else the common name.
// Promise 84.
func TestClientCertificates(t *testing.T) {
	p := newPlace(t)
	ca, evil := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(&x509.Certificate{DNSNames: []string{"node"}})
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.write("ca.crt", ca.pem())
	c := p.open(`{"anonymous":{"allow":["Read"]},"clients":[
	  {"name":"uri","certificate":{"uri":"spiffe://bank/ledger"}},{"name":"dns","certificate":{"dns":"web.example.org"}},
	  {"name":"cn","certificate":{"commonName":"Old Client"}},{"name":"cn2","certificate":{"commonName":"spiffe://bank/ledger"}}]}`,
		func(c *Config) {
			c.TLS = &TLS{Certificate: p.path("tls.crt"), Key: p.path("tls.key"), ClientCA: p.path("ca.crt")}
		})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := c.Identify(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(id.Name))
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Listener = tls.NewListener(srv.Listener, c.TLSConfig())
	srv.Start()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := func(pairs ...tls.Certificate) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "node", Certificates: pairs}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	get := func(client *http.Client) string {
		resp, err := client.Get(strings.Replace(srv.URL, "http://", "https://", 1))
		if err != nil {
			return "error " + err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	ledger := uri(t, "spiffe://bank/ledger")
	for want, of := range map[string]*x509.Certificate{
		"uri": {URIs: []*url.URL{ledger}, DNSNames: []string{"web.example.org"}, Subject: pkix.Name{CommonName: "Old Client"}},
		"dns": {DNSNames: []string{"Web.example.org", "other"}, Subject: pkix.Name{CommonName: "Old Client"}},
		"cn":  {Subject: pkix.Name{CommonName: "Old Client"}},
		"cn2": {Subject: pkix.Name{CommonName: "spiffe://bank/ledger"}},
	} {
		if got := get(client(ca.pair(of))); got != want {
			t.Errorf("certificate of %s: %q", want, got)
		}
	}
	for _, of := range []*x509.Certificate{
		{URIs: []*url.URL{uri(t, "spiffe://bank/other")}, DNSNames: []string{"web.example.org"}, Subject: pkix.Name{CommonName: "Old Client"}},
		{DNSNames: []string{"*.example.org"}},
		{},
	} {
		if got := get(client(ca.pair(of))); !strings.Contains(got, "no client of this node has one of its names") {
			t.Errorf("a certificate of nobody: %q", got)
		}
	}
	if got := get(client()); got != AnonymousName {
		t.Errorf("no certificate: %q", got)
	}
	for name, pair := range map[string]tls.Certificate{
		"another authority": evil.pair(&x509.Certificate{Subject: pkix.Name{CommonName: "Old Client"}}),
		"expired":           ca.pair(&x509.Certificate{Subject: pkix.Name{CommonName: "Old Client"}, NotAfter: time.Now().Add(-time.Minute)}),
	} {
		// TLS names the authorities that are wanted: this client shows another one's all the same.
		insist := client()
		insist.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate =
			func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		if got := get(insist); !strings.HasPrefix(got, "error ") {
			t.Errorf("a certificate of %s: %q", name, got)
		}
	}

	// The authority is replaced: a connection that is still open is of nobody any more.
	open := client(ca.pair(&x509.Certificate{Subject: pkix.Name{CommonName: "Old Client"}}))
	if got := get(open); got != "cn" {
		t.Fatal(got)
	}
	p.write("ca.crt", evil.pem())
	c.reload()
	if got := get(open); !strings.Contains(got, "not trusted any more") {
		t.Errorf("an open connection after its authority is gone: %q", got)
	}
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
