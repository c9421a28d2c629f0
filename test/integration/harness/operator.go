package harness

import (
	"fmt"
	"sync"
	"testing"

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

// Install applies config/default, once: nothing runs the Deployment here, but the rights of its ServiceAccount are there.
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
	installation.done = true
}

// AsOperator returns the configuration of a client with the rights of the operator's ServiceAccount, and no other.
func AsOperator(t testing.TB) *rest.Config {
	t.Helper()
	Install(t)
	c := Config()
	c.Impersonate = rest.ImpersonationConfig{
		UserName: fmt.Sprintf("system:serviceaccount:%s:%s", OperatorNamespace, OperatorServiceAccount),
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + OperatorNamespace, "system:authenticated"},
	}
	return c
}
