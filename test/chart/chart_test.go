// Package chart holds the Helm chart of the operator to what it promises, as Helm renders it: every
// object is one that the API server would take, rights are those of config/rbac, pods are
// restricted, wrong values are refused with a message that helps. That the chart installs, upgrades
// and uninstalls on a cluster is for test/e2e.
//
// HELM is the path of a Helm, 3 or 4; `make chart` builds the pinned one and says where it is.
package chart

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	chart     = root + "/charts/diseq-operator"
	release   = "diseq-operator"
	namespace = "diseq-system"
	// kubeVersion is the version that Helm assumes: a Helm that is built from source has no
	// default.
	kubeVersion = "1.34.0"
)

func TestMain(m *testing.M) {
	if os.Getenv("HELM") == "" {
		fmt.Fprintln(os.Stderr, "HELM is not set: run make chart, or set HELM to the path of a Helm 3 or 4")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// helm runs Helm away from the user's own settings.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	command := exec.Command(os.Getenv("HELM"), args...)
	home := t.TempDir()
	command.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+os.DevNull)
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	return out.String(), errs.String(), err
}

// template renders a chart.
func template(t *testing.T, chart string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return helm(t, append([]string{"template", release, chart, "--namespace", namespace, "--kube-version", kubeVersion}, args...)...)
}

// valuesFile writes values, in YAML, where Helm finds them.
func valuesFile(t *testing.T, values string) string {
	t.Helper()
	// Not in t.TempDir, whose path has the test's name in it: Helm reads a comma as the end of the
	// path.
	dir, err := os.MkdirTemp("", "chart-")
	if err != nil {
		t.Fatal(err)
	}
	// a leftover in the temporary directory does not matter
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serviceMonitor is what the chart says of the kind of the Prometheus operator.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port            string `json:"port"`
			Scheme          string `json:"scheme"`
			Path            string `json:"path"`
			Interval        string `json:"interval"`
			HonorLabels     bool   `json:"honorLabels"`
			BearerTokenFile string `json:"bearerTokenFile"`
			TLSConfig       struct {
				InsecureSkipVerify bool   `json:"insecureSkipVerify"`
				ServerName         string `json:"serverName"`
				CA                 struct {
					Secret corev1.SecretKeySelector `json:"secret"`
				} `json:"ca"`
			} `json:"tlsConfig"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// prometheusRule is the like for alerts.
type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              map[string]any `json:"spec"`
}

// kinds are those that the chart makes.
var kinds = map[string]func() metav1.Object{
	"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy":        func() metav1.Object { return &admissionv1.ValidatingAdmissionPolicy{} },
	"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding": func() metav1.Object { return &admissionv1.ValidatingAdmissionPolicyBinding{} },
	"apiextensions.k8s.io/v1/CustomResourceDefinition":                 func() metav1.Object { return &apiextensionsv1.CustomResourceDefinition{} },
	"apps/v1/Deployment":                              func() metav1.Object { return &appsv1.Deployment{} },
	"monitoring.coreos.com/v1/PrometheusRule":         func() metav1.Object { return &prometheusRule{} },
	"monitoring.coreos.com/v1/ServiceMonitor":         func() metav1.Object { return &serviceMonitor{} },
	"networking.k8s.io/v1/NetworkPolicy":              func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	"policy/v1/PodDisruptionBudget":                   func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	"rbac.authorization.k8s.io/v1/ClusterRole":        func() metav1.Object { return &rbacv1.ClusterRole{} },
	"rbac.authorization.k8s.io/v1/ClusterRoleBinding": func() metav1.Object { return &rbacv1.ClusterRoleBinding{} },
	"rbac.authorization.k8s.io/v1/Role":               func() metav1.Object { return &rbacv1.Role{} },
	"rbac.authorization.k8s.io/v1/RoleBinding":        func() metav1.Object { return &rbacv1.RoleBinding{} },
	"v1/ConfigMap":      func() metav1.Object { return &corev1.ConfigMap{} },
	"v1/Service":        func() metav1.Object { return &corev1.Service{} },
	"v1/ServiceAccount": func() metav1.Object { return &corev1.ServiceAccount{} },
}

// render returns the objects of the chart with values, in YAML. Each is decoded strictly: a field
// that its kind does not have, or has twice, fails the test.
func render(t *testing.T, values string) []metav1.Object {
	t.Helper()
	stdout, stderr, err := template(t, chart, "--values", valuesFile(t, values))
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	var objects []metav1.Object
	for document := range strings.SplitSeq("\n"+stdout, "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if meta.Kind == "" {
			continue // comments, or a template that renders to nothing
		}
		kind, ok := kinds[meta.APIVersion+"/"+meta.Kind]
		if !ok {
			t.Fatalf("the chart makes a %s %s, of which this test knows nothing", meta.APIVersion, meta.Kind)
		}
		object := kind()
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			t.Fatalf("%s: %v\n%s", meta.Kind, err, document)
		}
		objects = append(objects, object)
	}
	if len(objects) == 0 {
		t.Fatal("the chart rendered to nothing")
	}
	return objects
}

// all returns the objects of one kind.
func all[T metav1.Object](objects []metav1.Object) []T {
	var found []T
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// only returns the one object of a kind.
func only[T metav1.Object](t *testing.T, objects []metav1.Object) T {
	t.Helper()
	found := all[T](objects)
	if len(found) != 1 {
		t.Fatalf("%d objects of %v, want 1", len(found), reflect.TypeFor[T]())
	}
	return found[0]
}

// read decodes a file of the repository strictly.
func read[T any](t *testing.T, path string) T {
	t.Helper()
	var object T
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(b, &object); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return object
}
