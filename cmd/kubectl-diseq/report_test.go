package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/internal/clientcmd"
)

// unpack returns the files of a report by their names below its folder.
func unpack(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	packed, err := gzip.NewReader(f)
	must(t, err)
	out := map[string]string{}
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		folder, name, _ := strings.Cut(h.Name, "/")
		if folder != "diseq-report-demo-20261130-120000" || h.Mode != 0o600 {
			t.Errorf("the archive has %s with mode %o", h.Name, h.Mode)
		}
		out[name] = string(text)
	}
}

const (
	keyMaterial = "c2lnbmluZyBrZXkgb2YgZGVtby12MCwgMzIgYnl0ZXM"
	pemKey      = "-----BEGIN PRIVATE KEY-----\n" + keyMaterial + "\n-----END PRIVATE KEY-----\n"
	jsonToken   = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhcGkiLCJhdWQiOiJkZW1vIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
	password    = "correct horse battery staple"
)

// The report has what helps and no secret, wherever one is: in Secrets, in variables and arguments
// of containers, in annotations, in logs, in answers.
func TestTheReportHasNoSecrets(t *testing.T) {
	spied := pod(0, "worker-1", map[string]string{lastApplied: password})
	spied.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", Value: password}, {Name: "FROM", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{Key: "of-the-secret"},
	}}}
	spied.Spec.Containers[0].Args = []string{"node", "--config=/etc/diseq/config/node.yaml"}
	spied.Spec.Containers = append(spied.Spec.Containers, corev1.Container{Name: "proxy", Args: []string{"--password", password}})
	spied.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: resources.Container, RestartCount: 2}}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "chain", Name: "demo-v0", Labels: resources.NetworkSelector("demo"), Annotations: map[string]string{
			resources.VoteStoreAnnotation: "made", lastApplied: password,
		}},
		Data: map[string][]byte{"signing.key": []byte(pemKey), "vrf.key": []byte(keyMaterial)},
	}
	event := func(name, about string) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "chain", Name: name}, Reason: "Unhealthy", Message: "about " + about,
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: about}}
	}
	operator := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "diseq-system", Name: "operator-x", Labels: map[string]string{"app.kubernetes.io/name": operatorName}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "operator"}}},
	}
	spec := network(func(n *v1alpha1.DiseqNetwork) {
		n.Annotations = map[string]string{lastApplied: password}
		n.Spec.PodTemplate.Env = []v1alpha1.EnvVar{{Name: "PASSWORD", Value: password}}
	})
	w := newWorld(t, interceptor.Funcs{}, spec, spied, secret, genesisMap(t), operator, event("a", "demo-v0-0"), event("b", "other-v0-0"))
	w.text["demo-v0-0"] = "started\nAuthorization: Bearer " + jsonToken + "\n" + pemKey + "ready\n"
	w.text["operator-x"] = "reconciled " + jsonToken
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "answer to %s %s", r.URL.Path, pemKey)
	}))
	t.Cleanup(s.Close)
	w.nodes["demo-v0-0:9090"] = s.Listener.Addr().String()

	file := filepath.Join(t.TempDir(), "report.tar.gz")
	if out := w.succeeds("report", "demo", "-o", file); !strings.Contains(out, "0 things could not be read") {
		t.Errorf("report says %s", out)
	}
	files := unpack(t, file)
	secrets := []string{keyMaterial, jsonToken, password, "BEGIN PRIVATE", base64.StdEncoding.EncodeToString([]byte(keyMaterial)),
		base64.StdEncoding.EncodeToString([]byte(pemKey))}
	for name, text := range files {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s has a secret:\n%s", name, text)
			}
		}
	}
	for name, want := range map[string]string{
		"status.txt":                            "VALIDATORS  4 in the set",
		"network.yaml":                          "chainID: demo-1a2b3c4d",
		"events.txt":                            "Unhealthy pod/demo-v0-0 x1: about demo-v0-0",
		"errors.txt":                            "everything could be read",
		"objects/secrets-without-contents.yaml": "name: demo-v0",
		"objects/pods.yaml":                     "key: of-the-secret",
		"objects/configmaps.yaml":               "demo-genesis",
		"logs/demo-v0-0.log":                    "started\nAuthorization: " + leftOut + "\n" + leftOut + "\nready\n",
		"logs/demo-v0-0-before.log":             "started",
		"operator-logs/operator-x.log":          "reconciled " + leftOut,
		"nodes/demo-v0-0/status.json":           "answer to /v1/status " + leftOut,
		"nodes/demo-v0-0/metrics.txt":           "answer to /metrics",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s is %q, want %q in it", name, files[name], want)
		}
	}
	if pods := files["objects/pods.yaml"]; !strings.Contains(pods, "--config=/etc/diseq/config/node.yaml") || strings.Contains(files["events.txt"], "other") {
		t.Errorf("the arguments of the node are not there, or an event of another network is:\n%s\n%s", pods, files["events.txt"])
	}
	w.fails(clientcmd.ExitFailure, []string{"file exists"}, "report", "-o", file)
}

// The Secrets of a cluster are read without their contents.
func TestNoCommandReadsASecret(t *testing.T) {
	source, err := filepath.Glob("*.go")
	must(t, err)
	for _, file := range source {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		must(t, err)
		if strings.Contains(string(text), "corev1.Secret") {
			t.Errorf("%s uses the type of a Secret", file)
		}
	}
}

// Fields that only programs read are left out of objects.
func TestObjectsAreReadable(t *testing.T) {
	n := network(func(n *v1alpha1.DiseqNetwork) { n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}} })
	text, err := plain(n)
	if err != nil || strings.Contains(string(text), "managedFields") || !strings.Contains(string(text), "validators: 4") {
		t.Errorf("%v: %s", err, text)
	}
}

// A report names all that the user may not read, and has the rest.
func TestAReportWithFewRights(t *testing.T) {
	w := newWorld(t, refuse("secrets", "nodes", "events"), network(), pod(0, "worker-1", nil))
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	w.succeeds("report", "-o", file)
	files := unpack(t, file)
	for _, want := range []string{"names of secrets: ", "workers: ", "events: ", "logs/demo-v0-0.log: ", "nodes/demo-v0-0/status.json: "} {
		if !strings.Contains(files["errors.txt"], want) {
			t.Errorf("errors.txt is %q, want %q in it", files["errors.txt"], want)
		}
	}
	if files["network.yaml"] == "" || files["objects/pods.yaml"] == "" {
		t.Errorf("the report has %d files", len(files))
	}
}
