package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
)

// A Cluster is the cluster under test, with its administrator's rights.
type Cluster struct {
	ctrl.WithWatch
	Config *rest.Config
	// Image and NextImage are images of the node; updates go from one to the other.
	Image, NextImage string

	scheme *runtime.Scheme
	host   *url.URL
	http   *http.Client
}

// Connect connects to the cluster that KUBECONFIG names.
func Connect() (*Cluster, error) {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		return nil, errors.New("KUBECONFIG names no cluster: `make e2e` makes one of kind and runs these tests on it")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG %s: %w", path, err)
	}
	config.QPS = -1 // tests watch closely; the API server has its own fairness
	c := &Cluster{
		Config: config, Image: cmp.Or(os.Getenv("E2E_IMAGE"), "diseq:dev"), NextImage: cmp.Or(os.Getenv("E2E_NEXT_IMAGE"), "diseq:dev2"),
		scheme: runtime.NewScheme(),
	}
	if err := errors.Join(clientgoscheme.AddToScheme(c.scheme), v1alpha1.AddToScheme(c.scheme)); err != nil {
		return nil, err
	}
	if c.WithWatch, err = ctrl.NewWithWatch(config, ctrl.Options{Scheme: c.scheme}); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", config.Host, err)
	}
	if c.host, _, err = rest.DefaultServerUrlFor(config); err != nil {
		return nil, err
	}
	c.http, err = rest.HTTPClientFor(config)
	return c, err
}

// As is the cluster with the rights of another user. A ServiceAccount gets its groups.
func (c *Cluster) As(tb testing.TB, user string) ctrl.Client {
	tb.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate.UserName = user
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		namespace, _, _ := strings.Cut(account, ":")
		config.Impersonate.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}
	}
	out, err := ctrl.New(config, ctrl.Options{Scheme: c.scheme})
	must(tb, err)
	return out
}

// proxy is an HTTP client of a resource of the API that has the subresource proxy.
func (c *Cluster) proxy(namespace, resource string) *client.Client {
	base := c.host.JoinPath("api/v1/namespaces", namespace, resource, "proxy")
	out, err := client.New(base.String())
	if err != nil {
		panic(err) // made of names that the API server accepted
	}
	out.HTTP, out.RetryFor = c.http, 0
	return out
}

// Namespace makes a namespace that enforces restricted Pod Security. It ends with the test; when
// that failed, its state is dumped.
func (c *Cluster) Namespace(tb testing.TB, name string) string {
	tb.Helper()
	const level = "pod-security.kubernetes.io/"
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-" + name + "-",
		Labels:       map[string]string{level + "enforce": "restricted", level + "enforce-version": "latest", level + "warn": "restricted"},
	}}
	must(tb, c.Create(tb.Context(), namespace))
	tb.Cleanup(func() {
		// the test's context has ended
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if tb.Failed() {
			c.dump(ctx, tb, namespace.Name)
			if os.Getenv("E2E_KEEP") == "1" {
				tb.Logf("namespace %s is kept: E2E_KEEP=1", namespace.Name)
				return
			}
		}
		if err := ctrl.IgnoreNotFound(c.Delete(ctx, namespace)); err != nil {
			tb.Errorf("namespace %s is not deleted: %v", namespace.Name, err)
		}
	})
	return namespace.Name
}

// root is the root of the repository, as a path from the directory of this package.
func root(path ...string) string {
	return filepath.Join(append([]string{"..", ".."}, path...)...)
}

// table gets a resource as kubectl get does: a table, in JSON.
func (c *Cluster) table(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.host.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	out, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.500s", path, response.Status, out)
	}
	return out, err
}
