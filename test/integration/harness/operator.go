package harness

import (
	"fmt"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
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
// ServiceAccount are there.
func Install(t testing.TB) {
	t.Helper()
	installation.Lock()
	defer installation.Unlock()
	if installation.done {
		return
	}
	if _, err := Kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", Path(t, "config/default")); err != nil {
		t.Fatal(err)
	}
	for _, right := range []authorizationv1.ResourceAttributes{
		{Namespace: "default", Group: "diseq.io", Resource: "diseqnetworks", Verb: "list"},
		{Namespace: OperatorNamespace, Group: "coordination.k8s.io", Resource: "leases", Verb: "get"},
		{Group: "authentication.k8s.io", Resource: "tokenreviews", Verb: "create"},
	} {
		AwaitRight(t, operator(), right)
	}
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
