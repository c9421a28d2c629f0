// Package harness gives integration tests a real API server: kube-apiserver and etcd, started once
// per test binary on loopback, with the CRD of config/crd/bases installed. No controller of
// Kubernetes runs and no node: nothing makes a pod of a StatefulSet, nothing collects garbage, a
// deleted namespace stays Terminating. Tests play those parts where they need them.
//
// The programs are found in the folder KUBEBUILDER_ASSETS; `make integration` sets it. Without it
// tests fail.
package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/diseq/diseq/api/v1alpha1"
)

const assetsVariable = "KUBEBUILDER_ASSETS"

// The API server that Main has started. Tests of one binary share it and keep apart by namespaces.
var (
	config     *rest.Config
	kubeconfig string
)

// Main starts the API server, runs the tests and stops it: func TestMain(m *testing.M) {
// os.Exit(harness.Main(m)) }.
func Main(m *testing.M) (code int) {
	stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
			code = max(code, 1)
		}
	}()
	return m.Run()
}

func start() (stop func() error, err error) {
	assets := os.Getenv(assetsVariable)
	if assets == "" {
		return nil, fmt.Errorf("%s is not set: it names the folder of kube-apiserver, etcd and kubectl. Run: make integration", assetsVariable)
	}
	for _, program := range []string{"kube-apiserver", "etcd", "kubectl"} {
		if _, err := exec.LookPath(filepath.Join(assets, program)); err != nil {
			return nil, fmt.Errorf("%s has no %s: %w. Run: make integration", assetsVariable, program, err)
		}
	}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	e := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDInstallOptions:     envtest.CRDInstallOptions{Paths: []string{filepath.Join(root, "config/crd/bases")}, ErrorIfPathMissing: true},
	}
	// The Services of all tests together are more than the usual 254 addresses.
	e.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	directory, err := os.MkdirTemp("", "diseq-integration-")
	if err != nil {
		return nil, err
	}
	stop = func() error { return errors.Join(e.Stop(), os.RemoveAll(directory)) }
	if config, err = e.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the API server: %w", err), stop())
	}
	kubeconfig = filepath.Join(directory, "kubeconfig")
	if err := os.WriteFile(kubeconfig, e.KubeConfig, 0o600); err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// Root returns the root folder of the module that the tests run in.
func Root() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(folder, "go.mod"))
		if err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if !errors.Is(err, fs.ErrNotExist) || parent == folder {
			return "", fmt.Errorf("looking for go.mod above the working directory: %w", err)
		}
		folder = parent
	}
}

// Path returns the absolute path of a file of the repository.
func Path(t testing.TB, elements ...string) string {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{root}, elements...)...)
}

// Config returns a copy of the administrator's configuration.
func Config() *rest.Config { return rest.CopyConfig(config) }

// Kubeconfig returns a file that leads a program to the API server, as its administrator.
func Kubeconfig() string { return kubeconfig }

// Scheme returns a scheme with the kinds of Kubernetes and ours.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// Client returns an administrator's client that reads from the API server, never from a cache.
func Client(t testing.TB) client.Client {
	t.Helper()
	return ClientFor(t, Config())
}

// ClientFor returns a client that reads from the API server as the user of c.
func ClientFor(t testing.TB, c *rest.Config) client.Client {
	t.Helper()
	k, err := client.New(c, client.Options{Scheme: Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Namespace makes a namespace of the test's own, in which the restricted Pod Security Standard is
// enforced.
func Namespace(t testing.TB) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "test-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := Client(t).Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.Name
}

// Kubectl runs kubectl as the administrator. The error holds what it wrote to standard error.
func Kubectl(t testing.TB, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(os.Getenv(assetsVariable), "kubectl"), arguments...)
	// An empty home: neither the user's settings nor a stale discovery cache are read.
	command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "HOME="+filepath.Dir(kubeconfig), "KUBECTL_KUBERC=false")
	var out, complaint bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %q: %w: %s", arguments, err, complaint.String())
	}
	return out.String(), nil
}
