package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document/documenttest"
	"github.com/diseq/diseq/node/chain"
)

// samples are true documents of a chain, and forged ones.
func sample(t *testing.T, kind string) []byte {
	return documenttest.Read(t, "../../node/chain/testdata/refused.json", kind).Accepted[0].Bytes()
}

// node answers as a node does, with the documents of the samples.
func node(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	receipt := sample(t, "receipt")
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		size := int(body[0])
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"results":[{"id":"%v","status":"pending"}]}`, chain.Message{Data: body[1 : 1+size]}.ID())
	})
	mux.HandleFunc("GET /v1/messages/{id}/receipt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(receipt) })
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("from") != "1" {
			http.Error(w, "from", http.StatusBadRequest)
			return
		}
		for i := 1; i <= 3; i++ {
			fmt.Fprintf(w, "{\"header\":{\"height\":%d}}\n", i)
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return mux
}

func (w *world) serve(pod string, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	w.nodes[pod+":8080"] = s.Listener.Addr().String()
	return s
}

func genesisMap(t *testing.T) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "demo-genesis", Namespace: "chain", Labels: map[string]string{"diseq.io/network": "demo"}},
		Data:       map[string]string{"genesis.json": string(sample(t, "genesis"))},
	}
}

// A message goes through the API server to a ready validator, and another one is asked when that
// one cannot be reached. Blocks and receipts come back the same way.
func TestMessagesGoToAReadyValidator(t *testing.T) {
	lost, stopping := pod(0, "worker-1", nil), pod(2, "worker-1", nil)
	stopping.Status.Conditions[0].Status = corev1.ConditionFalse
	w := newWorld(t, interceptor.Funcs{}, network(), lost, pod(1, "worker-1", nil), stopping)
	w.serve("demo-v1-0", node(t))
	w.serve("demo-v2-0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a pod that is not ready is asked") }))
	id := chain.Message{Data: []byte("hello")}.ID().String()
	if o := w.run("hello", "submit", "-"); o.code != 0 || o.stdout != id+"\n" {
		t.Errorf("submit: %+v", o)
	}
	if out := w.succeeds("tail", "--from", "1", "--count", "2"); out != "{\"header\":{\"height\":1}}\n{\"header\":{\"height\":2}}\n" {
		t.Errorf("tail says %q", out)
	}
	var receipt chain.Receipt
	if err := json.Unmarshal([]byte(w.succeeds("receipt", id)), &receipt); err != nil || receipt.ChainID != "refused" {
		t.Errorf("a receipt of chain %q: %v", receipt.ChainID, err)
	}
	w.fails(clientcmd.ExitUsage, []string{"receipt"}, "receipt", "xyz")
	w.nodes = nil
	w.fails(clientcmd.ExitFailure, []string{"port-forward to pod demo-v", "connection refused"}, "receipt", id)
	for _, p := range []*corev1.Pod{lost, pod(1, "", nil)} {
		must(t, w.Delete(t.Context(), p))
	}
	w.fails(clientcmd.ExitFailure, []string{"no validator of demo is ready", "kubectl diseq status demo"}, "receipt", id)
}

// A receipt is verified with the genesis document of the cluster, or with a file and without the
// cluster. A forged one is refused.
func TestReceiptsAreVerified(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, network(), genesisMap(t))
	receipt := string(sample(t, "receipt"))
	o := w.run(receipt, "verify", "-")
	if o.code != 0 || !strings.HasPrefix(o.stdout, "verified: message ") || !strings.Contains(o.stderr, "ConfigMap demo-genesis, chain refused") {
		t.Errorf("%+v", o)
	}
	forged := strings.Replace(receipt, `"height":`, `"height":9`, 1)
	if o := w.run(forged, "verify", "-"); o.code != clientcmd.ExitFailure || strings.Contains(o.stdout, "verified: ") {
		t.Errorf("a forged receipt: %+v", o)
	}
	// The status names the genesis document that the nodes have.
	n := network()
	must(t, w.refresh(t.Context(), n))
	sum := sha256.Sum256(nil)
	n.Status.GenesisHash = hex.EncodeToString(sum[:])
	must(t, w.Status().Update(t.Context(), n))
	if o := w.run(receipt, "verify", "-"); o.code != clientcmd.ExitFailure || !strings.Contains(o.stderr, "is not the one that the status") {
		t.Errorf("another genesis document in the ConfigMap: %+v", o)
	}
	file := filepath.Join(t.TempDir(), "genesis.json")
	must(t, os.WriteFile(file, sample(t, "genesis"), 0o600))
	w.app.connect = func() (*cluster, error) { t.Error("the cluster is asked"); return w.cluster, nil }
	if o := w.run(receipt, "verify", "-", "--genesis", file); o.code != 0 || o.stderr != "" {
		t.Errorf("offline: %+v", o)
	}
	w.fails(clientcmd.ExitUsage, []string{"leave it out"}, "verify", "-", "--genesis", file, "--network", "demo")
}

// closed is a network that lets in one ServiceAccount and one certificate, over TLS.
func closed(n *v1alpha1.DiseqNetwork) {
	all := []v1alpha1.ClientRight{v1alpha1.SubmitRight, v1alpha1.ReadRight}
	n.Spec.Access = &v1alpha1.Access{
		TLS: &v1alpha1.AccessTLS{SecretName: "demo-tls"}, Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}},
		Issuers: []v1alpha1.TokenIssuer{{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}, Audiences: []string{"demo.chain"}}},
		Clients: []v1alpha1.AccessClient{
			{Name: "payments", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: "pay", Name: "api"}, Allow: all},
			{Name: "auditor", Token: &v1alpha1.ClientToken{}, Allow: []v1alpha1.ClientRight{v1alpha1.ReadRight}},
		},
	}
}

// A closed network is used with a token of a ServiceAccount or of a file, over TLS. Without one the
// command says so before it connects, and what to do.
func TestAClosedNetworkAsksWhoTheUserIs(t *testing.T) {
	var asked atomic.Int32
	var audiences []string
	requests := interceptor.Funcs{SubResourceCreate: func(
		ctx context.Context, c ctrl.Client, name string, o, sub ctrl.Object, options ...ctrl.SubResourceCreateOption,
	) error {
		audiences = append(audiences, sub.(*authenticationv1.TokenRequest).Spec.Audiences...)
		return c.SubResource(name).Create(ctx, o, sub, options...)
	}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "api"}}
	w := newWorld(t, requests, network(closed), pod(0, "worker-1", nil), account)
	inner, want := node(t), "Bearer fake-token"
	s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != want {
			rw.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(rw, `{"error":{"code":"unauthenticated","message":"say who you are"}}`)
			return
		}
		inner.ServeHTTP(rw, r)
	}))
	t.Cleanup(s.Close)
	w.nodes["demo-v0-0:8080"] = s.Listener.Addr().String()
	dir := t.TempDir()
	ca, token, id := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token"), strings.Repeat("00", 32)
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(token, []byte("fake-token\n"), 0o600))

	w.fails(clientcmd.ExitFailure, []string{
		"does not give the right Read to clients without a credential", "prove who you are: --service-account pay/api, or --token-file with a token of auditor",
	}, "receipt", id)
	if asked.Load() != 0 {
		t.Error("a node was asked")
	}
	named := []string{"--node-server-name", "example.com", "--ca-file", ca}
	w.succeeds(append([]string{"receipt", id, "--token-file", token}, named...)...)
	w.succeeds(append([]string{"receipt", id, "--service-account", "pay/api"}, named...)...)
	if !slices.Equal(audiences, []string{"demo.chain"}) {
		t.Errorf("tokens were made for the audiences %q, not for one time the network's own", audiences)
	}

	want = "Bearer another"
	w.fails(clientcmd.ExitFailure, []string{"say who you are", "compare it with spec.access.clients"},
		append([]string{"receipt", id, "--token-file", token}, named...)...)
	w.fails(clientcmd.ExitFailure, []string{"--ca-file names the certificates"},
		"receipt", id, "--token-file", token, "--node-server-name", "example.com")
	w.fails(clientcmd.ExitFailure, []string{"demo.chain.svc", "--node-server-name is a name"}, "receipt", id, "--token-file", token, "--ca-file", ca)
	w.fails(clientcmd.ExitUsage, []string{"choose one"}, "receipt", id, "--token-file", token, "--service-account", "api")

	n := network()
	must(t, w.refresh(t.Context(), n))
	n.Spec.Access.Issuers = nil
	must(t, w.Update(t.Context(), n))
	w.fails(clientcmd.ExitUsage, []string{"takes no tokens of this cluster", "--audience"}, "receipt", id, "--service-account", "pay/api")
}
