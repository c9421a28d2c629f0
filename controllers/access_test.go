package controllers

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// entrance is an operator with one network, whose access tests change.
type entrance struct {
	t        *testing.T
	client   client.WithWatch
	operator *Reconciler
	now      time.Time
	// keys and issuerErr are what the API server says of its tokens; asked counts the requests.
	keys      string
	issuerErr error
	asked     int
	// contents counts reads of the contents of Secrets that are not the operator's own.
	contents int
}

func newEntrance(t *testing.T, access *v1alpha1.Access) *entrance {
	t.Helper()
	e := &entrance{t: t, now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), keys: `{"keys":[{"kid":"a"}]}`}
	e.client = fake.NewClientBuilder().WithScheme(Scheme()).WithStatusSubresource(&v1alpha1.DiseqNetwork{}).
		WithObjects(&v1alpha1.DiseqNetwork{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo", UID: "0a1b2c3d-network", Generation: 1},
			Spec:       v1alpha1.DiseqNetworkSpec{Validators: 1, Image: "diseq:v1", Access: access},
		}).
		WithInterceptorFuncs(interceptor.Funcs{
			Apply: applyLikeAnAPIServer,
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if _, whole := o.(*corev1.Secret); whole && !strings.HasPrefix(key.Name, "demo-v") {
					e.contents++
				}
				return c.Get(ctx, key, o, opts...)
			},
		}).Build()
	var err error
	e.operator, err = New(Options{Resync: time.Minute, Now: func() time.Time { return e.now }, Issuer: e.issuer},
		e.client, e.client, nil, events.NewFakeRecorder(1000))
	if err != nil {
		t.Fatal(err)
	}
	e.operator.monitors.absent = e.now.Add(1000 * time.Hour) // PodMonitors are unknown here
	return e
}

func (e *entrance) issuer(context.Context) (*resources.ClusterIssuer, error) {
	e.asked++
	if e.issuerErr != nil {
		return nil, e.issuerErr
	}
	return &resources.ClusterIssuer{Issuer: "https://issuer", JWKS: []byte(e.keys)}, nil
}

// look reconciles a few times, and returns the wait until the next time.
func (e *entrance) look() time.Duration {
	e.t.Helper()
	var result ctrl.Result
	for range 3 {
		var err error
		result, err = e.operator.Reconcile(e.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}})
		if err != nil {
			e.t.Fatal(err)
		}
	}
	return result.RequeueAfter
}

func (e *entrance) network() *v1alpha1.DiseqNetwork {
	e.t.Helper()
	n := &v1alpha1.DiseqNetwork{}
	e.get("demo", n)
	return n
}

func (e *entrance) get(name string, o client.Object) {
	e.t.Helper()
	if err := e.client.Get(e.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, o); err != nil {
		e.t.Fatal(err)
	}
}

func (e *entrance) make(o client.Object) {
	e.t.Helper()
	if err := e.client.Create(e.t.Context(), o); err != nil {
		e.t.Fatal(err)
	}
}

// edit changes the access of the spec.
func (e *entrance) edit(change func(*v1alpha1.Access)) {
	e.t.Helper()
	n := e.network()
	change(n.Spec.Access)
	n.Generation++
	if err := e.client.Update(e.t.Context(), n); err != nil {
		e.t.Fatal(err)
	}
}

// files are the contents of the access file's ConfigMap.
func (e *entrance) files() map[string]string {
	e.t.Helper()
	configMap := &corev1.ConfigMap{}
	e.get("demo-access", configMap)
	return configMap.Data
}

// volumes are the names of the volumes of the validator's pods, and sources those of their Secrets;
// none before there is a StatefulSet.
func (e *entrance) volumes() (names []string) {
	e.t.Helper()
	for _, v := range e.all() {
		names = append(names, v.Name)
	}
	return names
}

func (e *entrance) sources() (names []string) {
	e.t.Helper()
	for _, v := range e.all() {
		if v.Secret != nil {
			names = append(names, v.Secret.SecretName)
		}
	}
	return names
}

func (e *entrance) all() (volumes []corev1.Volume) {
	e.t.Helper()
	var sets appsv1.StatefulSetList
	if err := e.client.List(e.t.Context(), &sets); err != nil {
		e.t.Fatal(err)
	}
	for i := range sets.Items {
		volumes = append(volumes, sets.Items[i].Spec.Template.Spec.Volumes...)
	}
	return volumes
}

func (e *entrance) ready() metav1.Condition {
	e.t.Helper()
	return *meta.FindStatusCondition(e.network().Status.Conditions, v1alpha1.ConditionAccessReady)
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

// A pod whose certificate is missing would not start, and a node that finds a configuration without
// its files would stop. So the pods stay as they are until the files are there.
//
// Promise 87.
func TestPodsWaitForTheFilesThatTheSpecNames(t *testing.T) {
	e := newEntrance(t, &v1alpha1.Access{TLS: &v1alpha1.AccessTLS{
		SecretName: "demo-tls", ClientCA: &v1alpha1.ClientCA{ConfigMap: "demo-ca", Key: "ca.crt"},
	}})
	if wait := e.look(); wait > 2*filesAgain {
		t.Errorf("the operator looks again after %v", wait)
	}
	if got := e.volumes(); len(got) > 0 {
		t.Fatalf("there are pods with %v", got)
	}
	for _, want := range []string{"Secret demo-tls, which spec.access.tls.secretName names, is not there",
		"ConfigMap demo-ca, which spec.access.tls.clientCA.configMap names, is not there"} {
		if c := e.ready(); c.Status != metav1.ConditionFalse || c.Reason != status.AccessFilesMissing || !strings.Contains(c.Message, want) {
			t.Errorf("AccessReady is %+v", c)
		}
	}
	e.make(&corev1.Secret{ObjectMeta: named("demo-tls"), Data: map[string][]byte{"tls.key": []byte("secret")}})
	e.make(&corev1.ConfigMap{ObjectMeta: named("demo-ca"), Data: map[string]string{"other.crt": "x"}})
	e.look()
	if c := e.ready(); !strings.HasPrefix(c.Message, "ConfigMap demo-ca, which spec.access.tls.clientCA.configMap names, has no key ca.crt") {
		t.Errorf("AccessReady is %+v", c)
	}
	e.edit(func(a *v1alpha1.Access) { a.TLS.ClientCA.Key = "other.crt" })
	e.look()
	if got := e.volumes(); !slices.Contains(got, "diseq-tls") || !slices.Contains(got, "diseq-client-ca") {
		t.Fatalf("the pods have %v: %+v", got, e.ready())
	}
	if e.contents > 0 {
		t.Errorf("the operator read the contents of %d Secrets of others", e.contents)
	}

	// A network that runs keeps its configuration and its pods.
	configuration := &corev1.ConfigMap{}
	e.get("demo-config", configuration)
	e.edit(func(a *v1alpha1.Access) { a.TLS.SecretName, a.TLS.MinVersion = "misspelt", "1.2" })
	e.look()
	after := &corev1.ConfigMap{}
	if e.get("demo-config", after); after.Data["node.yaml"] != configuration.Data["node.yaml"] {
		t.Error("the nodes are to read a configuration whose files are not there")
	}
	if got := e.sources(); !slices.Contains(got, "demo-tls") || slices.Contains(got, "misspelt") {
		t.Errorf("the pods are to have the Secrets %v", got)
	}
	if c := e.ready(); c.Reason != status.AccessFilesMissing {
		t.Errorf("AccessReady is %+v", c)
	}
}

// The nodes get the keys of the cluster's tokens, and new ones within minutes. While the API server
// does not show them, the nodes keep those that they have, also from one operator to the next.
//
// Promise 87.
func TestTheNodesFollowTheKeysOfTheCluster(t *testing.T) {
	access := &v1alpha1.Access{
		TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}, Anonymous: &v1alpha1.AnonymousClients{},
		Issuers: []v1alpha1.TokenIssuer{{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}}},
		Clients: []v1alpha1.AccessClient{{Name: "payments", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: "pay", Name: "api"}, Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight}}},
	}
	e := newEntrance(t, access)
	e.make(&corev1.Secret{ObjectMeta: named("demo-tls")})
	e.issuerErr = errors.New("forbidden")
	e.look()
	const subject = `"subject": "system:serviceaccount:pay:api"`
	if got := e.files(); got["cluster.jwks.json"] != "" || strings.Contains(got["access.json"], subject) {
		t.Errorf("without keys the nodes get %q", got)
	}
	if c := e.ready(); c.Reason != status.ClusterKeysMissing || !strings.Contains(c.Message, "forbidden") {
		t.Errorf("AccessReady is %+v", c)
	}
	if e.asked != 1 {
		t.Errorf("the API server was asked %d times within a moment", e.asked)
	}
	e.issuerErr = nil
	e.now = e.now.Add(keysAgain)
	e.look()
	if got := e.files(); got["cluster.jwks.json"] != e.keys || !strings.Contains(got["access.json"], subject) ||
		!strings.Contains(got["access.json"], `"issuer": "https://issuer"`) {
		t.Errorf("the nodes get %q", got)
	}
	e.keys = `{"keys":[{"kid":"a"},{"kid":"b"}]}`
	e.look()
	if e.asked != 2 {
		t.Errorf("the API server was asked %d times", e.asked)
	}
	e.now = e.now.Add(keysAge)
	e.look()
	if got := e.files(); got["cluster.jwks.json"] != e.keys {
		t.Errorf("after new keys the nodes get %q", got)
	}
	for _, bad := range []string{"", "{}", `{"keys":[]}`, "<html>", `{"keys":[{"x":"` + strings.Repeat("x", maxKeys) + `"}]}`} {
		was := e.keys
		e.keys, e.now = bad, e.now.Add(keysAge)
		e.look()
		if got := e.files(); got["cluster.jwks.json"] != was {
			t.Errorf("after the answer %.50q the nodes get %.50q", bad, got)
		}
		e.keys = was
	}
	// Another operator, which cannot ask.
	e.issuerErr = errors.New("timeout")
	e.operator.issuer = clusterIssuer{ask: e.issuer}
	e.look()
	if got := e.files(); got["cluster.jwks.json"] != e.keys || !strings.Contains(got["access.json"], subject) {
		t.Errorf("another operator gives the nodes %q", got)
	}
}

// Nobody may delete ConfigMaps, so that the file of a network without access admits everybody.
func TestAccessThatIsTakenAwayAdmitsEverybody(t *testing.T) {
	e := newEntrance(t, &v1alpha1.Access{Anonymous: &v1alpha1.AnonymousClients{}})
	e.look()
	if got := e.files()["access.json"]; strings.Contains(got, "Submit") {
		t.Errorf("the file is %s", got)
	}
	e.edit(func(a *v1alpha1.Access) { *a = v1alpha1.Access{} })
	e.look()
	if got := e.files()["access.json"]; !strings.Contains(got, "Submit") {
		t.Errorf("the file is %s", got)
	}
	if slices.Contains(e.volumes(), "diseq-access") {
		t.Error("the pods still have the file")
	}
}

// A file that no node would take reaches none.
//
// Promise 87.
func TestAccessThatNoNodeTakesChangesNothing(t *testing.T) {
	token := func(name string) v1alpha1.AccessClient {
		return v1alpha1.AccessClient{Name: name, JWT: &v1alpha1.ClientJWT{Issuer: "corp", Subject: "s"}}
	}
	e := newEntrance(t, &v1alpha1.Access{
		TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}, Anonymous: &v1alpha1.AnonymousClients{},
		Issuers: []v1alpha1.TokenIssuer{{Name: "corp", Issuer: "https://idp", JWKS: &v1alpha1.ConfigMapFile{ConfigMap: "corp", Key: "k"}}},
		Clients: []v1alpha1.AccessClient{token("one")},
	})
	e.make(&corev1.Secret{ObjectMeta: named("demo-tls")})
	e.look()
	before := e.files()["access.json"]
	e.edit(func(a *v1alpha1.Access) { a.Clients = append(a.Clients, token("two")) })
	e.look()
	if after := e.files()["access.json"]; after != before {
		t.Errorf("the nodes get %s", after)
	}
	if c := e.ready(); c.Reason != status.InvalidSpec || !strings.Contains(c.Message, "spec.access: clients[1]: two proves to be itself in the same way as one") {
		t.Errorf("AccessReady is %+v", c)
	}
}

func TestTheAPIServerIsAskedForItsIssuer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_, _ = w.Write([]byte(`{"issuer":"https://issuer","jwks_uri":"https://elsewhere/keys"}`))
		case "/openid/v1/jwks":
			_, _ = w.Write([]byte(`{"keys":[{}]}`))
		}
	}))
	defer server.Close()
	ask, err := askIssuer(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ask(t.Context())
	if err != nil || got.Issuer != "https://issuer" || string(got.JWKS) != `{"keys":[{}]}` {
		t.Errorf("got %+v, %v", got, err)
	}
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if _, err = ask(t.Context()); err == nil || !strings.Contains(err.Error(), "get /.well-known/openid-configuration") {
		t.Errorf("a refusal is %v", err)
	}
}
