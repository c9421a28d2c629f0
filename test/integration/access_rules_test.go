package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/test/integration/harness"
)

// accessRules are specs, each with the error of the API server; empty if it takes the spec.
var accessRules = []struct{ rule, spec, want string }{
	{"access to nothing in particular", "access: {}", ""},
	{"networks of every kind", "access: {networks: [{namespaceSelector: {matchLabels: {team: pay}}}, {podSelector: {}}, {namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: Exists}]}}, {ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}", ""},
	{"no networks", "access: {networks: []}", "spec.access.networks ... at least 1 items"},
	{"a network that is none", "access: {networks: [{}]}", "spec.access.networks[0] ... must have either ipBlock, or one or both of namespaceSelector and podSelector"},
	{"addresses of pods", "access: {networks: [{ipBlock: {cidr: 192.0.2.0/24}, podSelector: {}}]}", "must have either ipBlock"},
	{"an address for a range", "access: {networks: [{ipBlock: {cidr: 192.0.2.7}}]}", "spec.access.networks[0].ipBlock.cidr ... must be a range of addresses such as 192.0.2.0/24"},
	{"an exception elsewhere", "access: {networks: [{ipBlock: {cidr: 192.0.2.0/24, except: [198.51.100.0/25]}}]}", "spec.access.networks[0].ipBlock.except ... each range must be within cidr"},
	{"an exception of everything", "access: {networks: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/24]}}]}", "each range must be within cidr, and smaller than that"},
	{"a selector without an operator", "access: {networks: [{podSelector: {matchExpressions: [{key: app}]}}]}", "operator: Required value"},

	{"TLS", "access: {tls: {secretName: demo-tls}}", ""},
	{"TLS with everything", "access: {tls: {secretName: demo-tls, minVersion: '1.2', clientCA: {secretName: demo-tls, key: ca.crt}}}", ""},
	{"TLS without a certificate", "access: {tls: {}}", "spec.access.tls.secretName: Required value"},
	{"an old version", "access: {tls: {secretName: demo-tls, minVersion: '1.1'}}", `supported values: "1.2", "1.3"`},
	{"authorities from nowhere", "access: {tls: {secretName: demo-tls, clientCA: {}}}", "spec.access.tls.clientCA ... must have exactly one of configMap and secretName"},
	{"authorities from two places", "access: {tls: {secretName: demo-tls, clientCA: {configMap: a, secretName: b}}}", "must have exactly one of configMap and secretName"},
	{"a key that is a path", "access: {tls: {secretName: demo-tls, clientCA: {configMap: a, key: ../ca.crt}}}", "spec.access.tls.clientCA.key ... must be a key of a ConfigMap or a Secret"},

	{"nothing for anybody", "access: {anonymous: {allow: []}}", ""},
	{"anonymous readers", "access: {anonymous: {allow: [Read, Observe], limits: {messagesPerSecond: 10, bytesPerSecond: 64Ki, bytesPerDay: 1Gi, connections: 4, streams: 0}, total: {streams: 32}}}", ""},
	{"anonymous without their rights", "access: {anonymous: {}}", "spec.access.anonymous.allow: Required value"},
	{"a right that is none", "access: {anonymous: {allow: [Write]}}", `supported values: "Submit", "Read", "Observe"`},
	{"a right twice", "access: {anonymous: {allow: [Read, Read]}}", "Duplicate value"},
	{"no messages at all", "access: {anonymous: {allow: [Submit], limits: {messagesPerSecond: 0}}}", "messagesPerSecond ... greater than or equal to 1"},
	{"bytes whose unit is forgotten", "access: {anonymous: {allow: [Submit], limits: {bytesPerSecond: '2'}}}", "bytesPerSecond ... must be a whole number of bytes from 1Ki to 16Gi, such as 2Mi"},
	{"more bytes than there are", "access: {anonymous: {allow: [Submit], limits: {bytesPerDay: 65Ti}}}", "bytesPerDay ... must be a whole number of bytes from 1Ki to 64Ti, such as 5Gi"},
	{"a reserve", "access: {reserve: {share: 0, disk: 0}}", ""},
	{"all of it in reserve", "access: {reserve: {share: 91}}", "spec.access.reserve.share ... less than or equal to 90"},
	{"audit", "access: {audit: {stderr: true}}", ""},

	{"a load balancer for anonymous clients without limits", "{service: {type: LoadBalancer}, access: {anonymous: {allow: [Submit]}}}", "spec.access.anonymous ... with service.type LoadBalancer, anonymous clients need limits before they may submit"},
	{"a load balancer for anybody", "{service: {type: LoadBalancer}, access: {tls: {secretName: demo-tls}}}", "spec.access.anonymous ... anonymous clients need limits"},
	{"a load balancer for readers", "{service: {type: LoadBalancer}, access: {anonymous: {allow: [Read]}}}", ""},
	{"a load balancer with limits", "{service: {type: LoadBalancer}, access: {anonymous: {allow: [Submit], limits: {bytesPerDay: 1Gi}}}}", ""},
	{"a load balancer without access", "service: {type: LoadBalancer}", ""},

	{"clients of every kind", withClients(`
  - {name: payments, serviceAccount: {namespace: pay, name: api}, allow: [Submit], limits: {bytesPerSecond: 2Mi, streams: 0}}
  - {name: ledger, certificate: {uri: "spiffe://example.com/ledger"}, allow: [Submit, Read]}
  - {name: desk, certificate: {dns: desk.example.com}, allow: [Read]}
  - {name: old-desk, certificate: {commonName: Desk No. 7}, allow: [Read]}
  - {name: partner, jwt: {issuer: corp, subject: partner-1}, allow: [Submit]}
  - {name: auditor, token: {secretName: demo-auditor}, allow: [Read]}
  - {name: nobody, token: {secretName: demo-nobody, key: t}, allow: []}`), ""},
	{"clients without a word about the others", "access: {tls: {secretName: t}, clients: [{name: a, token: {secretName: s}, allow: [Read]}]}", "spec.access.anonymous: Required value: where clients are listed, say what a client without a credential may do"},
	{"a client that proves nothing", withClients("[{name: a, allow: [Read]}]"), "spec.access.clients[0] ... must have exactly one of certificate, serviceAccount, jwt and token"},
	{"a client that proves two things", withClients("[{name: a, token: {secretName: s}, jwt: {issuer: corp, subject: s}, allow: [Read]}]"), "must have exactly one of certificate, serviceAccount, jwt and token"},
	{"a client without rights", withClients("[{name: a, token: {secretName: s}}]"), "spec.access.clients[0].allow: Required value"},
	{"two clients of a name", withClients("[{name: a, token: {secretName: s}, allow: []}, {name: a, token: {secretName: t}, allow: []}]"), "spec.access.clients[1]: Duplicate value"},
	{"a client whose name is a path", withClients("[{name: ../a, token: {secretName: s}, allow: []}]"), "spec.access.clients[0].name ... must be a DNS label"},
	{"a client named anonymous", withClients("[{name: anonymous, token: {secretName: s}, allow: []}]"), "anonymous are the clients without a credential"},
	{"a certificate with two names", withClients("[{name: a, certificate: {dns: a, commonName: b}, allow: []}]"), "spec.access.clients[0].certificate ... must have exactly one of uri, dns and commonName"},
	{"a URI that is none", withClients("[{name: a, certificate: {uri: ledger}, allow: []}]"), "must be a URI such as spiffe://example.com/ledger"},
	{"a DNS name in capitals", withClients("[{name: a, certificate: {dns: Desk}, allow: []}]"), "must be a DNS name in lower case"},
	{"a JWT of an issuer that is not there", withClients("[{name: a, jwt: {issuer: other, subject: s}, allow: []}]"), "spec.access.clients ... jwt.issuer must be the name of one of spec.access.issuers"},
	{"as many clients as there may be", withClients(manyClients(256)), ""},
	{"more clients than there may be", withClients(manyClients(257)), "spec.access.clients: Too many: 257: must have at most 256 items"},
	{"a certificate without an authority", "access: {tls: {secretName: t}, anonymous: {allow: []}, clients: [{name: a, certificate: {dns: a}, allow: []}]}", "spec.access.tls ... a client with a certificate needs tls.clientCA"},
	{"a token without TLS", "access: {anonymous: {allow: []}, clients: [{name: a, token: {secretName: s}, allow: []}]}", "spec.access.tls ... a client with a token, a JWT or a ServiceAccount needs tls"},
	{"a ServiceAccount without TLS", "access: {anonymous: {allow: []}, issuers: [{name: cluster, kubernetes: {}}], clients: [{name: a, serviceAccount: {namespace: pay, name: a}, allow: []}]}", "needs tls: without it everybody on the way could read and repeat the token"},
	{"a ServiceAccount without its cluster", "access: {tls: {secretName: t}, anonymous: {allow: []}, clients: [{name: a, serviceAccount: {namespace: pay, name: a}, allow: []}]}", "spec.access.issuers ... a client with a ServiceAccount needs the cluster as an issuer"},

	{"an issuer that is none", "access: {issuers: [{name: a}]}", "spec.access.issuers[0] ... must have either kubernetes, or issuer and jwks"},
	{"an issuer that is two", "access: {issuers: [{name: a, kubernetes: {}, issuer: 'https://a', jwks: {configMap: a}}]}", "must have either kubernetes, or issuer and jwks"},
	{"an issuer without keys", "access: {issuers: [{name: a, issuer: 'https://a'}]}", "issuer and jwks go together"},
	{"the cluster twice", "access: {issuers: [{name: a, kubernetes: {}}, {name: b, kubernetes: {}}]}", "spec.access.issuers ... the cluster may be an issuer only once"},
	{"a claim of the cluster", "access: {issuers: [{name: a, kubernetes: {}, claim: email}]}", "the tokens of ServiceAccounts name their account in the claim sub"},
	{"audiences", "access: {issuers: [{name: a, kubernetes: {}, audiences: [demo, demo.pay]}]}", ""},
}

// withClients is a spec that is right but for its clients.
func withClients(clients string) string {
	return `access:
  tls: {secretName: demo-tls, clientCA: {configMap: demo-client-ca}}
  anonymous: {allow: []}
  issuers:
  - {name: cluster, kubernetes: {}}
  - {name: corp, issuer: "https://idp.example.com", audiences: [demo], jwks: {configMap: corp-jwks}, claim: email}
  clients: ` + clients
}

// manyClients are clients whose rules cost the API server as much as any.
func manyClients(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("{name: client-%d, jwt: {issuer: corp, subject: client-%d}, allow: [Submit, Read, Observe]}", i, i))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// Promise 55.
func TestEveryRuleOfAccessIsHeldWithAMessageThatHelps(t *testing.T) {
	for _, c := range accessRules {
		t.Run(c.rule, func(t *testing.T) {
			u := written(t, shared(t), "demo", c.spec)
			expect(t, harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly), c.want)
		})
	}
}

// The API server takes the spec of docs/kubernetes.md, "Close a network".
func TestTheDocumentedAccessIsTaken(t *testing.T) {
	text, err := os.ReadFile(harness.Path(t, "docs", "kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Close a network\n")
	_, after, also := strings.Cut(section, "\n    spec:\n      access:\n")
	block, _, ends := strings.Cut(after, "\n\n")
	if !found || !also || !ends {
		t.Fatal("docs/kubernetes.md has no spec in the section \"Close a network\"")
	}
	u := written(t, shared(t), "demo", "access:\n"+block)
	if err := harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly); err != nil {
		t.Error(err)
	}
	if a := typed(t, u).Spec.Access; a == nil || len(a.Clients) != 1 || a.Clients[0].Name != "payments" || a.TLS == nil {
		t.Errorf("access is %+v", a)
	}
}
