package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Where config/default puts the operator, and who it is there.
const (
	OperatorNamespace      = "diseq-system"
	OperatorServiceAccount = "diseq-operator"
)

var installation struct {
	sync.Mutex
	done bool
}

// Install applies config/default, once: nothing runs the Deployment here, but the rights of its
// ServiceAccount are there, and so is the admission policy that holds it. The other policies are
// bound to no namespace, because tests share the API server: see Bind.
func Install(t testing.TB) {
	t.Helper()
	installation.Lock()
	defer installation.Unlock()
	if installation.done {
		return
	}
	all, err := Kubectl(t, "kustomize", Path(t, "config/default"))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for document := range strings.SplitSeq(all, "\n---\n") {
		if !strings.Contains(document, "\nkind: ValidatingAdmissionPolicyBinding\n") {
			kept = append(kept, document)
		}
	}
	file := filepath.Join(filepath.Dir(kubeconfig), "install.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(kept, "\n---\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", file); err != nil {
		t.Fatal(err)
	}
	for _, right := range []authorizationv1.ResourceAttributes{
		{Namespace: "default", Group: "diseq.io", Resource: "diseqnetworks", Verb: "list"},
		{Namespace: OperatorNamespace, Group: "coordination.k8s.io", Resource: "leases", Verb: "get"},
		{Group: "authentication.k8s.io", Resource: "tokenreviews", Verb: "create"},
	} {
		AwaitRight(t, operator(), right)
	}
	bind(t, "operator", metav1.LabelSelectorRequirement{Key: Unheld, Operator: metav1.LabelSelectorOpDoesNotExist})
	installation.done = true
}

// AwaitRight waits until the user of a configuration has a right: the API server learns of roles
// and bindings by watching them.
func AwaitRight(t testing.TB, c *rest.Config, right authorizationv1.ResourceAttributes) {
	t.Helper()
	k, deadline := ClientFor(t, c), time.Now().Add(2*time.Minute)
	for ; ; time.Sleep(50 * time.Millisecond) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &right}}
		if err := k.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s may not %s %s: %s", c.Impersonate.UserName, right.Verb, right.Resource, review.Status.Reason)
		}
	}
}

// AsOperator returns the configuration of a client with the rights of the operator's
// ServiceAccount, and no other.
func AsOperator(t testing.TB) *rest.Config {
	t.Helper()
	Install(t)
	return operator()
}

func operator() *rest.Config {
	c := Config()
	c.Impersonate = rest.ImpersonationConfig{
		UserName: fmt.Sprintf("system:serviceaccount:%s:%s", OperatorNamespace, OperatorServiceAccount),
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + OperatorNamespace, "system:authenticated"},
	}
	return c
}

// Bind puts an admission policy of config/admission in force in namespaces, for the time of a test.
// The API server takes a moment until it holds.
func Bind(t testing.TB, policy string, namespaces ...string) {
	t.Helper()
	Install(t)
	in := metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: namespaces}
	binding := bind(t, policy, in)
	k := Client(t)
	t.Cleanup(func() { _ = k.Delete(context.Background(), binding) })
}

// Unheld is a label of namespaces in which no policy holds the operator's account.
const Unheld = "test.diseq.io/unheld"

func bind(t testing.TB, policy string, in metav1.LabelSelectorRequirement) *admissionv1.ValidatingAdmissionPolicyBinding {
	t.Helper()
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "diseq-operator-" + policy + "-"},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "diseq-operator-" + policy, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{in}},
			},
		},
	}
	if err := Client(t).Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	return binding
}
