package access

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const full = `{
  "anonymous": {"allow": ["Read"], "limits": {"messagesPerSecond": 10, "streams": 0}, "total": {"bytesPerDay": "1Gi"}},
  "issuers": [{"name": "cluster", "issuer": "https://kubernetes.default.svc", "audiences": ["demo"], "jwksFile": "jwks.json", "claim": "sub"}],
  "clients": [
    {"name": "payments", "jwt": {"issuer": "cluster", "subject": "system:serviceaccount:pay:api"}, "allow": ["Submit"],
     "limits": {"bytesPerSecond": "2Mi", "bytesPerDay": "5Gi", "connections": 8}},
    {"name": "ledger", "certificate": {"uri": "spiffe://bank/ledger"}, "allow": ["Submit", "Read"]},
    {"name": "web", "certificate": {"dns": "web.example.org"}},
    {"name": "old", "certificate": {"commonName": "Old Client"}},
    {"name": "auditor", "token": {"file": "tokens/auditor/token"}, "allow": ["Read", "Observe"]}
  ],
  "reserve": {"share": 50, "disk": "4Gi"},
  "audit": {"stderr": true, "file": "audit.log"}
}`

// The file that a program writes with these types reads back as the same file.
func TestAFileIsReadAsItWasWritten(t *testing.T) {
	f, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if *f.Clients[0].Limits.BytesPerDay != 5<<30 || *f.Anonymous.Limits.Streams != 0 || *f.Reserve.Share != 50 {
		t.Errorf("limits %+v, reserve %+v", f.Clients[0].Limits, f.Reserve)
	}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(raw)
	if err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	if diff := cmp.Diff(f, again); diff != "" {
		t.Error(diff)
	}
	if empty, err := Parse([]byte(`{}`)); err != nil || len(empty.Anonymous.Allow) != 0 {
		t.Errorf("an empty file allows %v, %v: want nothing", empty.Anonymous.Allow, err)
	}
}

func TestAWrongFieldIsNamed(t *testing.T) {
	client := func(s string) string { return `{"clients":[{"name":"a",` + s + `}]}` }
	many := strings.TrimSuffix(strings.Repeat(`{"name":"x"},`, maxClients+1), ",")
	for in, want := range map[string]string{
		`{"anonymus":{}}`:                                                                                 "anonymus",
		`{"anonymous":{"allow":["submit"]}}`:                                                              `anonymous.allow[0] "submit": want Submit, Read or Observe`,
		`{"anonymous":{"allow":["Read","Read"]}}`:                                                         "anonymous.allow[1]",
		`{"anonymous":{"limits":{"messagesPerSecond":0}}}`:                                                "anonymous.limits.messagesPerSecond",
		`{"anonymous":{"total":{"bytesPerDay":0}}}`:                                                       "anonymous.total.bytesPerDay",
		`{"anonymous":{"limits":{"messagesPerSecond":-1}}}`:                                               "messagesPerSecond",
		`{"reserve":{"share":91}}`:                                                                        "reserve.share",
		`{"issuers":[{"name":"A","issuer":"i","jwksFile":"f"}]}`:                                          "issuers[0].name",
		`{"issuers":[{"name":"a","jwksFile":"f"}]}`:                                                       "issuers[0].issuer",
		`{"issuers":[{"name":"a","issuer":"i"}]}`:                                                         "issuers[0].jwksFile",
		`{"issuers":[{"name":"a","issuer":"i","jwksFile":"f","audiences":[""]}]}`:                         "audiences[0]",
		`{"issuers":[{"name":"a","issuer":"i","jwksFile":"f"},{"name":"b","issuer":"i","jwksFile":"f"}]}`: "issuers[1].issuer",
		`{"clients":[` + many + `]}`:                                                                      "257",
		client(`"allow":[]`):                                                                              "exactly one of certificate, token and jwt",
		client(`"token":{"file":"f"},"certificate":{"dns":"a"}`):                                          "exactly one of certificate, token and jwt",
		client(`"token":{}`):                                                                              "clients[0].token.file",
		client(`"certificate":{}`):                                                                        "exactly one of uri, dns and commonName",
		client(`"certificate":{"dns":"a","commonName":"a"}`):                                              "exactly one of uri, dns and commonName",
		client(`"certificate":{"uri":"bank"}`):                                                            "certificate.uri",
		client(`"certificate":{"dns":"A"}`):                                                               "certificate.dns",
		client(`"jwt":{"issuer":"x","subject":"s"}`):                                                      "jwt.issuer",
		client(`"token":{"file":"f"},"limits":{"bytesPerSecond":0}`):                                      "clients[0].limits.bytesPerSecond",
		client(`"token":{"file":"f"},"allow":["Write"]`):                                                  "clients[0].allow[0]",
		`{"clients":[{"name":"anonymous","token":{"file":"f"}}]}`:                                         "clients[0].name",
		`{"clients":[{"name":"` + strings.Repeat("a", 64) + `"}]}`:                                        "clients[0].name",
		`{"clients":[{"name":"a","token":{"file":"f"}},{"name":"a","token":{"file":"g"}}]}`:               "clients[1].name",
		`{"clients":[{"name":"a","token":{"file":"f"}},{"name":"b","token":{"file":"f"}}]}`:               "the same way as a",
	} {
		if f, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.150s: %+v, %v; want an error with %q", in, f, err, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		`anonymous: {allow: [Submit], limits: {messagesPerSecond: 1, streams: 0}}`,
		`{"issuers":[{"name":"i","issuer":"x","jwksFile":"f"}],"clients":[{"name":"a","jwt":{"issuer":"i","subject":"s"}}]}`,
		`{"clients":[{"name":"a","certificate":{"uri":"spiffe://b/l"},"allow":["Read"],"limits":{"bytesPerDay":"5Gi"}}]}`,
		`{"clients":[{"name":"a","token":{"file":"t"}}],"reserve":{"share":5,"disk":1},"audit":{"stderr":true}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := Parse(raw)
		if err != nil {
			return
		}
		written, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%v in %s", err, written)
		}
		if fmt.Sprint(len(again.Clients), again.Anonymous.Allow) != fmt.Sprint(len(file.Clients), file.Anonymous.Allow) {
			t.Fatalf("%s reads as something else", written)
		}
	})
}
