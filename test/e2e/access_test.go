package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
)

// A network lets in the ServiceAccount that its spec names, as docs/kubernetes.md has it, and
// nobody else. Its rights change without a restart. Its certificate is renewed while it serves.
//
// Promise 87.
func TestANetworkIsClosedToAllButOneServiceAccount(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "closed"), "closed", 1)
	for _, account := range []string{"api", "other"} {
		must(t, cluster.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: account}}))
	}
	ca := newAuthority(t)
	name := fmt.Sprintf("%s.%s.svc", n.Name, n.Namespace)
	must(t, cluster.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: "company-ca"}, Data: map[string]string{"ca.crt": string(ca.pem)},
	}))
	payments := v1alpha1.AccessClient{
		Name: "payments", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: n.Namespace, Name: "api"},
		Allow: []v1alpha1.ClientRight{v1alpha1.SubmitRight, v1alpha1.ReadRight},
	}
	spec := n.Spec(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Access = &v1alpha1.Access{
			TLS: &v1alpha1.AccessTLS{SecretName: "closed-tls"}, Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}},
			Issuers: []v1alpha1.TokenIssuer{{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}, Audiences: []string{audience}}},
			Clients: []v1alpha1.AccessClient{payments},
		}
	})
	n.Apply(spec)
	n.awaitReason(v1alpha1.ConditionAccessReady, "AccessFilesMissing")
	must(t, cluster.Create(t.Context(), ca.secret(t, n.Namespace, "closed-tls", name)))
	n.AwaitAvailable()
	n.Await(soon, v1alpha1.ConditionAccessReady, metav1.ConditionTrue)
	pod := n.MustPod(0)

	printed, ok := n.submitAs("api", audience)
	if !ok {
		t.Fatalf("the ServiceAccount of the spec is not let in: %s", printed)
	}
	receipt, err := chain.ReadReceipt(strings.NewReader(printed))
	must(t, err)
	must(t, receipt.Verify(n.MustGenesis(), 0))
	for _, as := range []struct{ account, audience string }{{"other", audience}, {"api", "other.chain"}, {"api", ""}} {
		if printed, ok := n.submitAs(as.account, as.audience); ok || !strings.Contains(printed, "401") {
			t.Errorf("%s with a token for %q: %s", as.account, as.audience, printed)
		}
	}

	n.checkRenewal(ca, name)

	// Without the right to submit, and without a restart.
	spec.Access.Clients[0].Allow = []v1alpha1.ClientRight{v1alpha1.ReadRight}
	n.Apply(spec)
	n.Await(soon, v1alpha1.ConditionAccessReady, metav1.ConditionTrue)
	if printed, ok := n.submitAs("api", audience); ok || !strings.Contains(printed, "403") {
		t.Errorf("after its right was taken away: %s", printed)
	}
	if after := n.MustPod(0); after.UID != pod.UID || after.Status.ContainerStatuses[0].RestartCount > 0 {
		t.Error("the pod was restarted")
	}
}

const audience = "closed.chain"

// submitAs submits a message from a pod that runs as a ServiceAccount, with a token for an audience
// or with none, and returns the output.
func (n *Network) submitAs(account, audience string) (printed string, ok bool) {
	n.tb.Helper()
	name := fmt.Sprintf("%s-%d", account, time.Now().UnixMilli())
	args := []string{"submit", "--wait", "--url", fmt.Sprintf("https://%s.%s.svc:%d", n.Name, n.Namespace, publicPort), "--ca-file", "/credentials/ca.crt"}
	sources := []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
		LocalObjectReference: corev1.LocalObjectReference{Name: "company-ca"},
	}}}
	if audience != "" {
		args = append(args, "--token-file", "/credentials/token")
		sources = append(sources, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, Path: "token"}})
	}
	// The message is a file that every pod has.
	pod := n.clientPod(n.Namespace, name, append(args, "/etc/hostname")...)
	pod.Spec.ServiceAccountName = account
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "credentials", VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: sources},
	}})
	container := &pod.Spec.Containers[0]
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: "credentials", MountPath: "/credentials"})
	return n.runPod(n.tb, pod)
}

// checkRenewal renews the certificate, as cert-manager does, while clients connect all the time:
// each of them is served, with one certificate or the other.
func (n *Network) checkRenewal(ca *authority, name string) {
	n.tb.Helper()
	tb := n.tb
	to, err := n.forward(0)
	must(tb, err)
	seen := map[string]int{} // requests, by the serial number of the certificate
	var mu sync.Mutex
	var failed error
	ctx, stop := context.WithCancel(tb.Context())
	defer stop()
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			serial, err := ca.get(ctx, to.address, name)
			if err != nil && ctx.Err() == nil && to.broken() {
				next, opened := n.forward(0)
				if opened == nil {
					to = next
					continue
				}
				err = opened
			}
			mu.Lock()
			if err == nil {
				seen[serial]++
			} else if ctx.Err() == nil {
				failed = errors.Join(failed, err)
			}
			mu.Unlock()
		}
	})
	for i := range 2 {
		renewed := ca.secret(tb, n.Namespace, "closed-tls", name)
		patch, err := ctrl.MergeFrom(&corev1.Secret{}).Data(&corev1.Secret{Data: renewed.Data})
		must(tb, err)
		must(tb, n.Patch(tb.Context(), renewed, ctrl.RawPatch(types.MergePatchType, patch)))
		// A kubelet looks at the Secret once a minute, and when its pod changes.
		pod := n.MustPod(0)
		note := fmt.Sprintf(`{"metadata":{"annotations":{"e2e/look":"%d"}}}`, i)
		must(tb, n.Patch(tb.Context(), pod, ctrl.RawPatch(types.MergePatchType, []byte(note))))
		Eventually(tb, soon, "the node serves with the renewed certificate", func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if failed == nil && seen[ca.serial.String()] < 20 {
				return fmt.Errorf("requests by certificate: %v", seen)
			}
			return nil
		})
	}
	stop()
	load.Wait()
	if failed != nil {
		tb.Errorf("requests failed while the certificate was renewed: %v", failed)
	}
}

// A tunnel leads an address of this machine to the clients' port of a validator.
type tunnel struct {
	address string
	ended   chan struct{}
}

// forward opens a tunnel to a validator with kubectl port-forward, which ends with the test.
func (n *Network) forward(k int) (*tunnel, error) {
	command := exec.CommandContext(n.tb.Context(), "kubectl", "-n", n.Namespace, "port-forward", "pod/"+n.PodName(k), fmt.Sprintf(":%d", publicPort))
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	t := &tunnel{ended: make(chan struct{})}
	address := make(chan string, 1)
	go func() {
		defer close(t.ended)
		lines := bufio.NewScanner(out) // it writes a line for each connection
		for lines.Scan() {
			if m := regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		_ = command.Wait() // it says that it was killed, or lost its connection
	}()
	n.tb.Cleanup(func() { <-t.ended })
	select {
	case t.address = <-address:
		return t, nil
	case <-t.ended:
		return nil, errors.New("kubectl port-forward ended")
	}
}

// broken waits a while for the end of a tunnel over which a request failed. One connection that
// fails in the tunnel ends it, with every other connection, whatever the node does.
func (t *tunnel) broken() bool {
	select {
	case <-t.ended:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// authority signs certificates of servers.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
	pool        *x509.CertPool
	serial      *big.Int // of the last certificate
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	a := &authority{key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pool: x509.NewCertPool(), serial: big.NewInt(1)}
	a.certificate, err = x509.ParseCertificate(raw)
	must(tb, err)
	a.pool.AddCert(a.certificate)
	return a
}

// secret is a new certificate with a new key in a Secret as cert-manager writes it.
func (a *authority) secret(tb testing.TB, namespace, name, host string) *corev1.Secret {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	a.serial = new(big.Int).Add(a.serial, big.NewInt(1))
	template := &x509.Certificate{
		SerialNumber: a.serial, DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(tb, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(tb, err)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name,
			Annotations: map[string]string{"cert-manager.io/certificate-name": name, "cert-manager.io/common-name": "", "cert-manager.io/alt-names": host},
			Labels:      map[string]string{"controller.cert-manager.io/fao": "true"},
		},
		Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"ca.crt":  a.pem,
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		},
	}
}

// get makes one request over a connection of its own, and returns the serial number of the
// certificate that served it. A node answers 401 to a request without a credential.
func (a *authority) get(ctx context.Context, address, name string) (serial string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v1/validators", nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: a.pool, ServerName: name, MinVersion: tls.VersionTLS13}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("the answer is %s", response.Status)
	}
	return response.TLS.PeerCertificates[0].SerialNumber.String(), nil
}
