package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// Host runs a command on a worker, outside all pods. On kind a worker is a container of the engine; on other clusters the test is
// skipped, with the reason.
func (c *Cluster) Host(tb testing.TB, worker string, command ...string) string {
	tb.Helper()
	if !c.onKind(tb, worker) {
		tb.Skipf("SKIPPED: %s is no worker of kind, and this takes a command on the worker itself", worker)
	}
	out, err := host(tb.Context(), worker, command...)
	must(tb, err)
	return out
}

func (c *Cluster) onKind(tb testing.TB, worker string) bool {
	tb.Helper()
	var node corev1.Node
	must(tb, c.Get(tb.Context(), ctrl.ObjectKey{Name: worker}, &node))
	return strings.HasPrefix(node.Spec.ProviderID, "kind://docker/")
}

func host(ctx context.Context, worker string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"exec", worker}, command...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Process returns the id of the process of a name in a pod, as its worker sees it. A process is in the pod if a volume of the pod is
// mounted for it.
func (c *Cluster) Process(tb testing.TB, pod *corev1.Pod, name string) string {
	tb.Helper()
	script := fmt.Sprintf(`for p in /proc/[0-9]*; do
		[ "$(cat $p/comm 2>/dev/null)" = %.15s ] && grep -q /pods/%s/ $p/mountinfo && echo ${p#/proc/}
	done; true`, name, pod.UID)
	out := c.Host(tb, pod.Spec.NodeName, "sh", "-c", script)
	if len(strings.Fields(out)) != 1 {
		tb.Fatalf("pod %s has the processes %q on %s, want one named %s", pod.Name, out, pod.Spec.NodeName, name)
	}
	return out
}
