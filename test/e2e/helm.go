package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// The place of the operator, and its user.
const (
	OperatorNamespace = "diseq-system"
	OperatorName      = "diseq-operator"
	OperatorUser      = "system:serviceaccount:" + OperatorNamespace + ":" + OperatorName
)

// Helm runs helm; its error holds what it printed.
func Helm(ctx context.Context, args ...string) error {
	helm := cmp.Or(os.Getenv("E2E_HELM"), root("bin", "tools", "helm"))
	cmd := exec.CommandContext(ctx, helm, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// InstallOperator installs the operator's chart, or upgrades to it, and waits until the operator
// runs.
func InstallOperator(ctx context.Context, args ...string) error {
	chart := cmp.Or(os.Getenv("E2E_CHART"), root("charts", "diseq-operator"))
	all := []string{
		"upgrade", "--install", OperatorName, chart, "--namespace", OperatorNamespace, "--create-namespace", "--wait", "--timeout", "3m",
		"--set-string", "allowed.nodeImages=(.*/)?diseq(-operator)?([:@].*)?", // one scenario runs another program
	}
	return Helm(ctx, slices.Concat(all, strings.Fields(os.Getenv("E2E_VALUES")), args)...)
}

// OperatorPods returns the operator's pods that are not being deleted.
func (c *Cluster) OperatorPods(ctx context.Context) ([]corev1.Pod, error) {
	var pods corev1.PodList
	labels := ctrl.MatchingLabels{"app.kubernetes.io/name": OperatorName}
	if err := c.List(ctx, &pods, ctrl.InNamespace(OperatorNamespace), labels); err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			out = append(out, pod)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the operator has no pod")
	}
	return out, nil
}

// Seen watches a namespace until match returns true for an object, and returns at that moment.
func (c *Cluster) Seen(
	tb testing.TB, what, namespace string, kind ctrl.ObjectList, match func(ctrl.Object) bool,
) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), soon)
	defer cancel()
	begun := time.Now()
	w, err := c.Watch(ctx, kind, ctrl.InNamespace(namespace))
	must(tb, err)
	defer w.Stop()
	for event := range w.ResultChan() {
		if o, ok := event.Object.(ctrl.Object); ok && match(o) {
			tb.Logf("%6.1fs %s", time.Since(begun).Seconds(), what)
			return
		}
	}
	tb.Fatalf("%s: not within %v", what, soon)
}
