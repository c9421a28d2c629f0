package integration

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/test/integration/harness"
)

// built returns the objects of a kustomization.
func built(t *testing.T, folder string) (out []*unstructured.Unstructured) {
	t.Helper()
	text, err := harness.Kubectl(t, "kustomize", harness.Path(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), u); err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		out = append(out, u)
	}
	return out
}

func TestEveryKustomizationBuilds(t *testing.T) {
	var folders []string
	root := harness.Path(t)
	err := filepath.WalkDir(filepath.Join(root, "config"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "kustomization.yaml" {
			folder, err := filepath.Rel(root, filepath.Dir(path))
			folders = append(folders, folder)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"crd", "rbac", "manager", "default", "prometheus", "network-policy", "samples"} {
		if !slices.Contains(folders, "config/"+want) {
			t.Errorf("config/%s has no kustomization.yaml", want)
		}
	}
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			for _, u := range built(t, folder) {
				if u.GetKind() == "" || u.GetName() == "" {
					t.Errorf("an object without a kind or name: %v", u.Object)
				}
			}
		})
	}
}

func TestTheOperatorIsInstalledFromConfig(t *testing.T) {
	harness.Install(t)
	k := harness.Client(t)
	d := &appsv1.Deployment{}
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: harness.OperatorNamespace, Name: "diseq-operator"}, d); err != nil {
		t.Fatal(err)
	}

	// The namespace enforces restricted Pod Security, which is about pods.
	n := &corev1.Namespace{}
	if err := k.Get(t.Context(), client.ObjectKey{Name: harness.OperatorNamespace}, n); err != nil {
		t.Fatal(err)
	}
	if level := n.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Errorf("the namespace enforces %q", level)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: n.Name, Name: "operator", Labels: d.Spec.Template.Labels},
		Spec:       d.Spec.Template.Spec,
	}
	if err := k.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Error(err)
	}
	c := pod.Spec.Containers[0]
	if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("the operator can write to its root file system")
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("a probe or resources are missing: %+v", c)
	}
	if c.Image != "diseq-operator:dev" {
		t.Errorf("image %s", c.Image)
	}

	// An unknown flag is an error even with --help.
	command := exec.CommandContext(t.Context(), "go", append(append([]string{"run", "./cmd/operator"}, c.Args...), "--help")...)
	command.Dir = harness.Path(t)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("the operator does not take %q: %v\n%s", c.Args, err, out)
	}
}

func TestTheOperatorsMetricsAreFoundByItsServiceAndMonitor(t *testing.T) {
	var service corev1.Service
	var pod labels.Set
	for _, u := range built(t, "config/default") {
		switch u.GetKind() {
		case "Service":
			convert(t, u, &service)
		case "Deployment":
			var d appsv1.Deployment
			convert(t, u, &d)
			pod = d.Spec.Template.Labels
		}
	}
	selects := func(by string, selector map[string]string, found labels.Set) {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(found) {
			t.Errorf("%s selects %v, the labels are %v", by, selector, found)
		}
	}
	selects("the Service", service.Spec.Selector, pod)
	for _, u := range built(t, "config/prometheus") {
		if u.GetKind() == "PrometheusRule" {
			continue
		}
		selector, _, err := unstructured.NestedStringMap(u.Object, "spec", "selector", "matchLabels")
		if err != nil {
			t.Fatal(err)
		}
		selects("the ServiceMonitor", selector, service.Labels)
	}
	harness.Install(t)
	for _, u := range built(t, "config/network-policy") {
		selector, _, err := unstructured.NestedStringMap(u.Object, "spec", "podSelector", "matchLabels")
		if err != nil {
			t.Fatal(err)
		}
		selects("NetworkPolicy "+u.GetName(), selector, pod)
		if err := harness.Client(t).Create(t.Context(), u, client.DryRunAll, strictly); err != nil {
			t.Error(err)
		}
	}
}

func convert(t *testing.T, u *unstructured.Unstructured, into any) {
	t.Helper()
	text, err := yaml.Marshal(u.Object)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

func TestSamplesAreAccepted(t *testing.T) {
	files, err := filepath.Glob(harness.Path(t, "config/samples/v1alpha1_*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("samples %v, %v", files, err)
	}
	namespace := harness.Namespace(t)
	for _, file := range files {
		if _, err := harness.Kubectl(t, "apply", "--server-side", "--dry-run=server", "--namespace", namespace, "-f", file); err != nil {
			t.Error(err)
		}
	}
	if n := len(built(t, "config/samples")); n != len(files) {
		t.Errorf("the kustomization has %d samples, the folder %d", n, len(files))
	}
}

// Promise 67.
func TestTheOperatorMayDoWhatItNeedsAndNoMore(t *testing.T) {
	k := harness.ClientFor(t, harness.AsOperator(t))
	const core = ""
	for _, c := range []struct {
		group, resource, allowed, denied string
	}{
		{"diseq.io", "diseqnetworks", "get list watch", "create update patch delete deletecollection"},
		{"diseq.io", "diseqnetworks/status", "patch", ""},
		{"diseq.io", "diseqnetworks/finalizers", "update", ""},
		{core, "secrets", "get create patch", "list watch update delete deletecollection"},
		{core, "configmaps", "get list watch create patch", "update delete deletecollection"},
		{core, "persistentvolumeclaims", "get list watch create patch delete", "update deletecollection"},
		{core, "services", "get list watch create patch", "delete deletecollection"},
		{core, "serviceaccounts", "get list watch create patch delete", "update deletecollection impersonate"},
		{core, "serviceaccounts/token", "", "create"},
		{core, "pods", "get list watch patch delete", "create update deletecollection"},
		{core, "pods/exec", "", "create get"},
		{core, "pods/proxy", "", "create get"},
		{core, "nodes", "", "get list watch"},
		{core, "namespaces", "", "get list watch"},
		{core, "events", "list", "get watch create patch delete"},
		{"apps", "statefulsets", "get list watch create patch delete", "update deletecollection"},
		{"apps", "deployments", "", "get list create patch"},
		{"policy", "poddisruptionbudgets", "get list watch create patch", "deletecollection"},
		{"networking.k8s.io", "networkpolicies", "get list watch create patch", "deletecollection"},
		{"monitoring.coreos.com", "podmonitors", "get create patch delete", "list watch deletecollection"},
		{"events.k8s.io", "events", "create patch", "get list delete"},
		{"coordination.k8s.io", "leases", "", "get create update"},
		{"rbac.authorization.k8s.io", "clusterroles", "", "get create bind escalate"},
		{"authentication.k8s.io", "tokenreviews", "create", ""},
		{"authorization.k8s.io", "subjectaccessreviews", "create", ""},
		{"*", "*", "", "*"},
	} {
		allowed := func(namespace, verb string) bool {
			resource, sub, _ := strings.Cut(c.resource, "/")
			review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Group: c.group, Resource: resource, Subresource: sub, Verb: verb,
				},
			}}
			if err := k.Create(t.Context(), review); err != nil {
				t.Fatal(err)
			}
			return review.Status.Allowed
		}
		for verb := range strings.FieldsSeq(c.allowed) {
			if !allowed("default", verb) {
				t.Errorf("the operator may not %s %s", verb, c.resource)
			}
		}
		for verb := range strings.FieldsSeq(c.denied) {
			if allowed("default", verb) {
				t.Errorf("the operator may %s %s", verb, c.resource)
			}
		}
		for _, verb := range []string{"get", "create", "update"} {
			if c.resource == "leases" && !allowed(harness.OperatorNamespace, verb) {
				t.Errorf("the operator may not %s a lease in its own namespace", verb)
			}
		}
	}
}

// The roles for people become part of the cluster's own, so that whoever may edit a namespace may
// make a network there.
func TestRolesForPeopleJoinThoseOfTheCluster(t *testing.T) {
	harness.Install(t)
	for role, want := range map[string]string{"admin": "*", "editor": "create", "viewer": "list"} {
		out, err := harness.Kubectl(t, "get", "clusterrole", "diseq-operator-diseqnetwork-"+role, "-o", "yaml")
		if err != nil {
			t.Fatal(err)
		}
		aggregate := map[string]string{"admin": "admin", "editor": "edit", "viewer": "view"}[role]
		if !strings.Contains(out, "rbac.authorization.k8s.io/aggregate-to-"+aggregate+`: "true"`) || !strings.Contains(out, want) {
			t.Errorf("%s:\n%s", role, out)
		}
	}
}
