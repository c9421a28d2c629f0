package status

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
)

// asked is a network with access, which all nodes have read.
func asked(changes ...func(*Access)) func(*Observation) {
	return func(o *Observation) {
		o.Access = Access{Asked: true, OnNodes: true, File: "f1"}
		for _, change := range changes {
			change(&o.Access)
		}
		for i := range o.Network.Seen.Members {
			if a := o.Network.Seen.Members[i].Answer; a != nil {
				a.Access = &nodeclient.Access{SHA256: "f1"}
			}
		}
	}
}

func admits(change func(*nodeclient.Access)) func(*membership.Member) {
	return func(m *membership.Member) { change(m.Answer.Access) }
}

// certified gives a node a certificate that lived for a time, and lives on for another.
func certified(lived, lives time.Duration) func(*membership.Member) {
	return admits(func(a *nodeclient.Access) {
		a.Certificate = &nodeclient.Certificate{NotBefore: now.Add(-lived).UnixMilli(), NotAfter: now.Add(lives).UnixMilli()}
	})
}

const day = 24 * time.Hour

var accessCases = []struct {
	name string
	seen Observation
	want string
}{
	{"no access", observed(4, 3), "True AccessOpen: spec.access is not set: everybody"},
	{"networks alone", observed(4, 3, asked(func(a *Access) { *a = Access{Asked: true} })),
		"True AccessAsSpecified: a NetworkPolicy admits clients from the networks of spec.access"},
	{"all nodes have it", observed(4, 3, asked()), "True AccessAsSpecified: all 4 nodes admit clients as spec.access has it"},
	{"TLS alone", observed(4, 3, asked(func(a *Access) { a.File = "" }), of(admits(func(a *nodeclient.Access) { a.SHA256 = "" }), 0, 1, 2, 3)),
		"True AccessAsSpecified: all 4 nodes"},
	{"a file is missing", observed(4, 3, asked(func(a *Access) { a.Problem = &Problem{Reason: AccessFilesMissing, Message: "Secret demo-tls"} })),
		"False AccessFilesMissing: Secret demo-tls"},
	{"two nodes were not restarted", observed(4, 3, asked(), of(func(m *membership.Member) { m.Answer.Access = nil }, 1, 2)),
		"False AccessStarting: 2 of 4 nodes do not admit clients as spec.access has it yet: demo-v1 was not restarted with it; demo-v2 was not"},
	{"one has not read the file", observed(4, 3, asked(), of(admits(func(a *nodeclient.Access) { a.SHA256 = "f0" }), 3)),
		"False AccessStarting: 1 of 4 nodes do not admit clients as spec.access has it yet: demo-v3 has not read the new access file"},
	{"one does not answer", observed(4, 3, asked(), of(silent, 3)), "False AccessStarting: 1 of 4 nodes"},
	{"one refuses the file", observed(4, 3, asked(), of(admits(func(a *nodeclient.Access) { a.SHA256, a.Problem = "f0", "clients[0]: no" }), 3)),
		"False AccessRefused: 1 nodes go on with what they had before: demo-v3 refuses the new access file: clients[0]: no"},
	{"one refuses the certificate", observed(4, 3, asked(), of(certified(day, 30*day), 3), of(admits(func(a *nodeclient.Access) { a.Certificate.Problem = "no key" }), 3)),
		"False AccessRefused: 1 nodes go on with what they had before: demo-v3 refuses the new certificate: no key"},
	{"a certificate of 90 days with 8 left", observed(4, 3, asked(), of(certified(82*day, 8*day), 0)), "True AccessAsSpecified"},
	{"a certificate of 90 days with 6 left", observed(4, 3, asked(), of(certified(84*day, 6*day), 0)),
		"False CertificateExpiring: demo-v0 has a certificate that ends at " + now.Add(6*day).UTC().Format(time.RFC3339)},
	{"a certificate of a day with 8 hours left", observed(4, 3, asked(), of(certified(16*time.Hour, 8*time.Hour), 0)), "True AccessAsSpecified"},
	{"a certificate that ended", observed(4, 3, asked(), of(certified(day, -time.Minute), 0), of(admits(func(a *nodeclient.Access) { a.Certificate.Problem = "it ended" }), 0)),
		"False CertificateExpiring: demo-v0 has a certificate that ended at"},
	{"a token that is missing", observed(4, 3, asked(), of(admits(func(a *nodeclient.Access) { a.Problems = []string{"client auditor: no token"} }), 2)),
		"False ClientsRefused: demo-v2 refuses clients: client auditor: no token"},
	{"no keys of the cluster", observed(4, 3, asked(func(a *Access) { a.Cluster = &ClusterKeys{Err: "forbidden (403)"} })),
		"False ClusterKeysMissing: the nodes refuse every token of a ServiceAccount, because the API server does not show the keys of its tokens: forbidden"},
	{"keys of the cluster", observed(4, 3, asked(func(a *Access) { a.Cluster = &ClusterKeys{Known: true, At: now} })), "True AccessAsSpecified"},
	{"an API server that was away for a moment", observed(4, 3, asked(func(a *Access) {
		a.Cluster = &ClusterKeys{Known: true, At: now.Add(-20 * time.Minute), Err: "timeout"}
	})), "True AccessAsSpecified"},
	{"old keys of the cluster", observed(4, 3, asked(func(a *Access) {
		a.Cluster = &ClusterKeys{Known: true, At: now.Add(-31 * time.Minute), Err: "timeout"}
	})), "False ClusterKeysOld: the API server has not shown the keys of its tokens for 30m0s: timeout"},
	{"hibernated", observed(4, 3, asked(), hibernates, of(gone, 0, 1, 2, 3)), "True Hibernated"},
}

func TestAccessReadySaysHowClientsAreAdmitted(t *testing.T) {
	for _, tt := range accessCases {
		t.Run(tt.name, func(t *testing.T) {
			c := findCondition(Conditions(tt.seen), v1alpha1.ConditionAccessReady)
			if got := string(c.Status) + " " + c.Reason + ": " + c.Message; !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			// A network is not ready before its clients are let in as they should be. A certificate
			// that will end hurts nobody yet.
			ready := findCondition(Conditions(tt.seen), v1alpha1.ConditionReady)
			if wants := c.Status == metav1.ConditionTrue || c.Reason == CertificateExpiring; tt.name != "one does not answer" && (ready.Status == metav1.ConditionTrue) != wants {
				t.Errorf("Ready is %s: %s", ready.Status, ready.Message)
			}
		})
	}
}
