package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A file that cannot be used changes nothing, and the status tells why. One that is gone lets
// nobody in.
// Promise 86.
func TestABadFileChangesNothing(t *testing.T) {
	p := newPlace(t)
	key, other := newSigner(t, "1", jose.ES256), newSigner(t, "2", jose.ES256)
	p.write("token", []byte(opaque))
	p.write("jwks.json", jwks(t, key))
	file := `{"issuers":[{"name":"cluster","issuer":"https://cluster","jwksFile":"jwks.json"}],"clients":[
	  {"name":"auditor","token":{"file":"token"},"allow":["Read"]},
	  {"name":"payments","jwt":{"issuer":"cluster","subject":"system:serviceaccount:pay:api"},"allow":["Submit"]}]}`
	c := p.open(file)
	token := key.token(t, good(nil))
	works := func(when string) {
		t.Helper()
		c.reload()
		if id := identified(t, c, bearer(opaque)); id.Name != "auditor" {
			t.Errorf("%s: %q", when, id.Name)
		}
		if id := identified(t, c, bearer(token)); id.Name != "payments" {
			t.Errorf("%s: %q", when, id.Name)
		}
	}
	problem := func(want string) {
		t.Helper()
		s := c.Status()
		if all := strings.Join(append(s.Problems, s.Problem), "; "); want == "" && s.count() != 0 || !strings.Contains(all, want) {
			t.Errorf("problems %q, want %q", all, want)
		}
	}
	works("at first")
	problem("")
	sum := c.Status().SHA256
	p.write("access.json", []byte(`{"clients":[{"name":"x"}]}`))
	works("with a wrong access file")
	problem("exactly one of certificate, token and jwt")
	if c.Status().SHA256 != sum {
		t.Error("the status shows the sum of a file that is not in force")
	}
	logged := p.log.String()
	works("with the same wrong file")
	if p.log.String() != logged {
		t.Error("the same problem is logged again")
	}
	if err := os.Remove(p.path("access.json")); err != nil {
		t.Fatal(err)
	}
	works("without an access file")
	problem("no such file")
	p.write("access.json", []byte(file))
	works("with a good file")
	problem("")
	p.write("token", []byte("short"))
	works("with a token that is too short")
	problem("want at least 32")
	p.write("jwks.json", []byte(`{"keys":[`))
	works("with a key set that is cut off")
	problem("not a JSON Web Key Set")

	// New contents replace the old ones.
	p.write("token", []byte("another-"+opaque))
	p.write("jwks.json", jwks(t, other))
	c.reload()
	problem("")
	refusal(t, c, bearer(opaque))
	refusal(t, c, bearer(token))
	if id := identified(t, c, bearer("another-"+opaque)); id.Name != "auditor" {
		t.Errorf("with a new token: %q", id.Name)
	}
	if id := identified(t, c, bearer(other.token(t, good(nil)))); id.Name != "payments" {
		t.Errorf("with a new key: %q", id.Name)
	}
	for _, name := range []string{"token", "jwks.json"} {
		if err := os.Remove(p.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	c.reload()
	problem("nobody is let in by it")
	refusal(t, c, bearer("another-"+opaque))
	refusal(t, c, bearer(other.token(t, good(nil))))
}

// At start there is no content that was good before: the access file and the certificate must be.
// A token that two clients share, and one that is missing, let nobody in.
func TestFilesAtStart(t *testing.T) {
	p := newPlace(t)
	p.write("access.json", []byte(`{"clients":{}}`))
	if _, err := Open(Config{Files: Files{Access: p.path("access.json")}}); err == nil || !strings.Contains(err.Error(), "access.json") {
		t.Errorf("a wrong access file: %v", err)
	}
	ca := newAuthority(t)
	cert, _ := ca.issue(ca.cert)
	_, key := ca.issue(ca.cert)
	p.write("tls.crt", cert)
	p.write("tls.key", key)
	p.write("access.json", []byte(`{}`))
	files := Files{TLS: &TLS{Certificate: p.path("tls.crt"), Key: p.path("tls.key")}, Access: p.path("access.json")}
	if _, err := Open(Config{Files: files}); err == nil || !strings.Contains(err.Error(), "tls.key") {
		t.Errorf("a key of another certificate: %v", err)
	}
	if c, err := Open(Config{}); c != nil || err != nil {
		t.Errorf("no files: %v, %v", c, err)
	}
	for _, f := range []Files{
		{TLS: &TLS{Key: "k"}}, {TLS: &TLS{Certificate: "c"}}, {TLS: &TLS{Certificate: "c", Key: "k", MinVersion: "1.1"}},
		{TLS: &TLS{Certificate: "c", Key: "k", ClientCA: "ca"}},
	} {
		if f.Validate() == nil {
			t.Errorf("accepts %+v", f.TLS)
		}
	}
	p.write("a", []byte(opaque))
	p.write("b", []byte(opaque+"\n"))
	c := p.open(`{"anonymous":{"allow":["Read"]},"clients":[{"name":"a","token":{"file":"a"}},{"name":"b","token":{"file":"b"}},{"name":"c","token":{"file":"c"}}]}`)
	if got := c.Status().Problems; len(got) != 3 {
		t.Errorf("problems %q, want three", got)
	}
	refusal(t, c, bearer(opaque))
}

// A stream's context ends when its token expires, and not while a new file leaves its right.
// Promise 84.
func TestAStreamEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		key := newSigner(t, "1", jose.EdDSA)
		p.write("jwks.json", jwks(t, key))
		file := `{"issuers":[{"name":"cluster","issuer":"https://cluster","jwksFile":"jwks.json"}],
		  "clients":[{"name":"payments","jwt":{"issuer":"cluster","subject":"system:serviceaccount:pay:api"},"allow":["Read"%s]}]}`
		c := p.open(fmt.Sprintf(file, ""))
		defer c.Close() // within the bubble
		start := func(life time.Duration) (context.Context, context.CancelFunc) {
			r := bearer(key.token(t, good(claims{"exp": time.Now().Add(life).Unix()})))
			return identified(t, c, r).While(r, Read)
		}
		begun := time.Now()
		ctx, cancel := start(time.Hour)
		defer cancel()
		p.write("access.json", []byte(fmt.Sprintf(file, `,"Observe"`)))
		c.reload()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatal("ends with a change that leaves its right")
		}
		<-ctx.Done()
		if life := time.Since(begun); life < time.Hour || life > time.Hour+skew+time.Second {
			t.Errorf("a stream with a token of an hour lived for %v", life)
		}
		if cause := context.Cause(ctx); !strings.Contains(fmt.Sprint(cause), "expired") {
			t.Errorf("it ended with %v", cause)
		}
		ctx, cancel = start(time.Hour)
		defer cancel()
		p.write("access.json", []byte(`{}`))
		c.reload()
		<-ctx.Done() // the test would hang
		_, cancel = identified(t, c, request("")).While(request(""))
		cancel()
		synctest.Wait() // a context that is cancelled leaves no goroutine, or the bubble would say so
	})
}

// Lines about strangers are bounded, those about named clients are not. A file that was moved away
// is made again.
func TestAuditLinesOfStrangersAreBounded(t *testing.T) {
	p := newPlace(t)
	p.write("token", []byte(opaque))
	registry := prometheus.NewRegistry()
	c := p.open(`{"audit":{"file":"audit.log","stderr":true},"clients":[{"name":"a","token":{"file":"token"}}]}`, func(c *Config) { c.Registerer = registry })
	for range auditBurst + 500 {
		c.Audit(Record{Client: AnonymousName, Route: "stranger"})
	}
	for range 10 {
		c.Audit(Record{Client: "a", Route: "named"})
	}
	for deadline := time.Now().Add(time.Minute); strings.Count(p.stderr.String(), `"named"`) < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("lines are not written")
		}
	}
	if err := os.Rename(p.path("audit.log"), p.path("audit.log.1")); err != nil {
		t.Fatal(err)
	}
	c.Audit(Record{Client: "a", Route: "moved"})
	c.Close()
	before, err := os.ReadFile(p.path("audit.log.1"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(p.path("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strangers := strings.Count(string(before), `"stranger"`); strangers < auditBurst || strangers > auditBurst+auditRate {
		t.Errorf("%d lines about strangers", strangers)
	}
	if strings.Count(string(before), `"named"`) != 10 || strings.Count(string(after), `"moved"`) != 1 || !strings.Contains(string(before), `"omitted":`) {
		t.Errorf("before the move %d lines about the client, after it:\n%s", strings.Count(string(before), `"named"`), after)
	}
	if string(before)+string(after) != p.stderr.String() {
		t.Error("the standard error has other lines than the files")
	}
	for line := range strings.Lines(string(after)) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Client != "a" {
			t.Errorf("line %s: %v", line, err)
		}
	}
	if n, err := testutil.GatherAndCount(registry, "diseq_access_problems"); err != nil || n != 1 {
		t.Errorf("metrics: %d, %v", n, err)
	}
}

// FuzzIdentify: whatever a header says, the request is anonymous, of the client whose token it is,
// or refused with a message for people.
func FuzzIdentify(f *testing.F) {
	p := newPlace(f)
	key := newSigner(f, "1", jose.ES256)
	p.write("token", []byte(opaque))
	p.write("jwks.json", jwks(f, key))
	c := p.open(`{"issuers":[{"name":"cluster","issuer":"https://cluster","jwksFile":"jwks.json"}],"clients":[
	  {"name":"auditor","token":{"file":"token"}},{"name":"payments","jwt":{"issuer":"cluster","subject":"system:serviceaccount:pay:api"}}]}`)
	real := key.token(f, good(nil))
	for _, seed := range []string{"", "Bearer " + opaque, "Bearer " + real, "Basic x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authorization string) {
		r := request("")
		r.Header = http.Header{"Authorization": {authorization}}
		id, err := c.Identify(r)
		token := strings.TrimSpace(authorization[min(len(authorization), len("Bearer ")):])
		mine := token == opaque || sameToken(token, real)
		if (err == nil) != mine && err == nil {
			t.Fatalf("%q is let in as %s", authorization, id.Name)
		}
		if _, ok := err.(*Refusal); err != nil && (!ok || err.Error() == "") {
			t.Fatalf("refused with %v", err)
		}
	})
}

// sameToken reports whether a token says the same as another one: base64 can be written in more
// than one way.
func sameToken(a, b string) bool {
	pa, pb := strings.Split(a, "."), strings.Split(b, ".")
	return len(pa) == 3 && pa[1] == pb[1] && pa[0] == pb[0]
}

func FuzzKeys(f *testing.F) {
	f.Add(jwks(f, newSigner(f, "1", jose.RS256), newSigner(f, "2", jose.ES256), newSigner(f, "3", jose.EdDSA)))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, err := parseKeys(raw)
		if err != nil {
			return
		}
		for _, k := range keys {
			if !k.IsPublic() || algorithmOf(&k) == "" {
				t.Fatalf("takes a key %+v", k)
			}
		}
	})
}

// BenchmarkIdentify is what a request costs: with the token of a client, and with a JWT for the
// first time and again.
func BenchmarkIdentify(b *testing.B) {
	p := newPlace(b)
	key := newSigner(b, "1", jose.ES256)
	p.write("token", []byte(opaque))
	p.write("jwks.json", jwks(b, key))
	c := p.open(`{"issuers":[{"name":"cluster","issuer":"https://cluster","jwksFile":"jwks.json"}],"clients":[
	  {"name":"auditor","token":{"file":"token"}},{"name":"payments","jwt":{"issuer":"cluster","subject":"system:serviceaccount:pay:api"}}]}`)
	for name, token := range map[string]string{"token": opaque, "jwt": key.token(b, good(nil))} {
		b.Run(name, func(b *testing.B) {
			r := bearer(token)
			for b.Loop() {
				if _, err := c.Identify(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("jwt, first time", func(b *testing.B) {
		r := bearer(key.token(b, good(nil)))
		for b.Loop() {
			c.policy.Load().verified.tokens = nil
			if _, err := c.Identify(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
