package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/test/integration/harness"
)

// The API server signs tokens of two ServiceAccounts, the operator with its own account gives the
// nodes what they need, and the node lets in the one that the spec names.
//
// Promise 87.
func TestTheTokenOfOneServiceAccountLetsItIn(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"api", "other"} {
		if err := c.client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	runManager(t, c, harness.AsOperator(t))
	c.apply("demo", withValidators(1), func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Access = &v1alpha1.Access{
			Networks:  []v1alpha1.NetworkPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "pay"}}}},
			TLS:       &v1alpha1.AccessTLS{SecretName: "demo-tls"},
			Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}},
			Issuers:   []v1alpha1.TokenIssuer{{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}, Audiences: []string{"demo.chain"}}},
			Clients: []v1alpha1.AccessClient{{
				Name: "payments", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: c.namespace, Name: "api"},
				Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight},
			}},
		}
	})
	n := c.wait("demo", "waits for its certificate", func(n *v1alpha1.DiseqNetwork) bool {
		return condition(n, v1alpha1.ConditionAccessReady).Reason == "AccessFilesMissing"
	})
	if s := condition(n, v1alpha1.ConditionStalled); s.Status != metav1.ConditionTrue || !strings.Contains(s.Message, "Secret demo-tls") {
		t.Errorf("Stalled is %+v", s)
	}
	err := c.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "demo-tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("a"), "tls.key": []byte("b")},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := &corev1.ConfigMap{}
	c.wait("demo", "is available", func(n *v1alpha1.DiseqNetwork) bool {
		return meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionAvailable)
	})
	c.get("demo-access", files)
	dir := t.TempDir()
	for name, text := range files.Data {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	node, err := access.Open(access.Config{Files: access.Files{Access: filepath.Join(dir, "access.json")}, ChainID: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if s := node.Status(); len(s.Problems) > 0 {
		t.Errorf("the node cannot use its files: %v", s.Problems)
	}
	for _, tt := range []struct{ account, audience, want string }{
		{"api", "demo.chain", "payments"},
		{"api", "other.chain", ""},
		{"api", "", ""}, // a token for the API server itself
		{"other", "demo.chain", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://demo/v1/messages", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("Authorization", "Bearer "+token(t, c, tt.account, tt.audience))
		id, err := node.Identify(r)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s with the audience %q is let in as %s", tt.account, tt.audience, id.Name)
		case tt.want != "" && (err != nil || id.Name != tt.want):
			t.Errorf("%s with the audience %q: %v", tt.account, tt.audience, err)
		case err == nil && (id.May(access.Submit) != nil || id.May(access.Read) == nil):
			t.Errorf("%s may submit: %v, read: %v", id.Name, id.May(access.Submit), id.May(access.Read))
		}
	}
	policy := &networkingv1.NetworkPolicy{}
	c.get("demo-clients", policy)
	if from := policy.Spec.Ingress[0].From; len(from) != 1 || from[0].NamespaceSelector.MatchLabels["team"] != "pay" {
		t.Errorf("clients may come from %+v", from)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Access.Networks = nil })
	c.wait("demo", "is open to all networks", func(*v1alpha1.DiseqNetwork) bool {
		c.get("demo-clients", policy)
		return len(policy.Spec.Ingress) == 1 && len(policy.Spec.Ingress[0].From) == 0
	})
}

// accessOf is what a node says of the files for access that are in its pod.
func (c *cluster) accessOf(ctx context.Context, network string, pod *corev1.Pod) *nodeclient.Access {
	c.t.Helper()
	has := func(name string) bool {
		return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	}
	out := &nodeclient.Access{}
	switch {
	case has("diseq-access"):
		files := &corev1.ConfigMap{}
		if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: network + "-access"}, files); err != nil {
			return out // the node does not start
		}
		sum := sha256.Sum256([]byte(files.Data["access.json"]))
		out.SHA256 = hex.EncodeToString(sum[:])
	case !has("diseq-tls"):
		return nil
	}
	return out
}

// A network that runs is closed: its pods are restarted one by one, as the quorum allows. Then
// clients and their rights change, and no pod is restarted. In the end it is opened again.
func TestANetworkIsClosedWhileItRuns(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(4))
	o := newOperator(t, c)
	o.settle("demo")
	if a := condition(c.network("demo"), v1alpha1.ConditionAccessReady); a.Status != metav1.ConditionTrue || a.Reason != "AccessOpen" {
		t.Errorf("AccessReady is %+v", a)
	}
	pods := func() (uids []types.UID) {
		for serial := range 4 {
			pod := &corev1.Pod{}
			c.get(fmt.Sprintf("demo-v%d-0", serial), pod)
			uids = append(uids, pod.UID)
		}
		return uids
	}
	admits := func(what, reason string) {
		t.Helper()
		o.until("demo", what, func(n *v1alpha1.DiseqNetwork) bool {
			a := condition(n, v1alpha1.ConditionAccessReady)
			return a.Status == metav1.ConditionTrue && a.Reason == reason && n.Status.ObservedGeneration == n.Generation
		})
		o.settle("demo")
	}
	before := pods()
	if err := c.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "demo-tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("a"), "tls.key": []byte("b")},
	}); err != nil {
		t.Fatal(err)
	}
	client := v1alpha1.AccessClient{Name: "ledger", Token: &v1alpha1.ClientToken{SecretName: "demo-ledger"}, Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight}}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Access = &v1alpha1.Access{
			TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}, Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}},
			Clients: []v1alpha1.AccessClient{client},
		}
	})
	admits("closed", "AccessAsSpecified") // c.audit holds that the quorum was there all the time
	closed := pods()
	for i := range closed {
		if closed[i] == before[i] {
			t.Errorf("demo-v%d-0 was not restarted", i)
		}
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Access.Clients[0].Allow = []v1alpha1.ClientRight{v1alpha1.ReadRight}
		n.Spec.Access.Clients[0].Limits = &v1alpha1.ClientLimits{Streams: new(int32(1))}
	})
	admits("with other rights", "AccessAsSpecified")
	if !slices.Equal(pods(), closed) {
		t.Error("a change of rights restarted pods")
	}
	pod, files := &corev1.Pod{}, &corev1.ConfigMap{}
	c.get("demo-v0-0", pod)
	c.get("demo-access", files)
	if note := files.Annotations["diseq.io/access"]; note == "" || pod.Annotations["diseq.io/access"] != note {
		t.Errorf("the kubelet is shown the file %q, it is %q", pod.Annotations["diseq.io/access"], note)
	}
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Access = nil })
	admits("open again", "AccessOpen")
	if slices.ContainsFunc(pods(), func(uid types.UID) bool { return slices.Contains(closed, uid) }) {
		t.Error("a pod that admits nobody was not restarted")
	}
}

// token is a token of a ServiceAccount, from the API server.
func token(t *testing.T, c *cluster, account, audience string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600))}}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	err := c.client.SubResource("token").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: account}}, request)
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// A network of the largest access there can be is no larger than the API server and the cache take.
func TestTheLargestAccessIsMade(t *testing.T) {
	c := newCluster(t)
	o := newOperator(t, c)
	c.apply("demo", withValidators(1), func(n *v1alpha1.DiseqNetwork) {
		n.Spec.Access = &v1alpha1.Access{TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}, Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}}}
		for i := range 256 {
			name := fmt.Sprintf("%s-%d", strings.Repeat("n", 58), i)
			n.Spec.Access.Clients = append(n.Spec.Access.Clients, v1alpha1.AccessClient{
				Name: name, Token: &v1alpha1.ClientToken{SecretName: strings.Repeat("s", 60) + name, Key: "token"},
				Allow:  []v1alpha1.ClientRight{v1alpha1.SubmitRight, v1alpha1.ReadRight, v1alpha1.ObserveRight},
				Limits: &v1alpha1.ClientLimits{MessagesPerSecond: new(int64(1000000)), BytesPerSecond: "16Gi", BytesPerDay: "64Ti", Connections: new(int32(1024)), Streams: new(int32(256))},
			})
		}
	})
	if err := c.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "demo-tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("a"), "tls.key": []byte("b")},
	}); err != nil {
		t.Fatal(err)
	}
	o.until("demo", "available", func(n *v1alpha1.DiseqNetwork) bool {
		return meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionAvailable)
	})
	files := &corev1.ConfigMap{}
	c.get("demo-access", files)
	if file, err := access.Parse([]byte(files.Data["access.json"])); err != nil || len(file.Clients) != 256 {
		t.Errorf("the access file: %v", err)
	}
}
