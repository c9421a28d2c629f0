package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// Host runs a command on a worker, outside all pods. On kind a worker is a container of the engine;
// on other clusters the test is skipped, with the reason.
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

// Process returns the id of the process of a name in a pod, as its worker sees it. A process is in
// the pod if a volume of the pod is mounted for it.
func (c *Cluster) Process(tb testing.TB, pod *corev1.Pod, name string) string {
	tb.Helper()
	script := fmt.Sprintf(`for p in /proc/[0-9]*; do
		[ "$(cat $p/comm 2>/dev/null)" = %.15s ] && grep -q /pods/%s/ $p/mountinfo && echo ${p#/proc/}
	done; true`, name, pod.UID)
	var out string
	Eventually(tb, soon, fmt.Sprintf("the process %s of %s is found", name, pod.Name), func(context.Context) error {
		if out = c.Host(tb, pod.Spec.NodeName, "sh", "-c", script); len(strings.Fields(out)) != 1 {
			return fmt.Errorf("there are %q on %s", out, pod.Spec.NodeName)
		}
		return nil
	})
	return out
}

// AimAtOperator returns a function that ends the operator that works with SIGKILL, so that it
// cannot finish anything, or hand over its lease. The slow part, finding the processes, is done
// before the function is returned: a network may be born in less time. It finds those of all
// operators, because another one may hold the lease by then. The pod is deleted as well, so that
// the next one does not wait for the back-off of a container that failed.
//
// If the test cannot reach processes, the function deletes the pod without grace, which is the
// nearest to it.
func (c *Cluster) AimAtOperator(tb testing.TB) (kill func()) {
	tb.Helper()
	var pods []corev1.Pod
	Eventually(tb, soon, "the operators run", func(ctx context.Context) (err error) {
		if pods, err = c.OperatorPods(ctx); err != nil {
			return err
		}
		var d appsv1.Deployment
		if err := c.Get(ctx, ctrl.ObjectKey{Namespace: OperatorNamespace, Name: OperatorName}, &d); err != nil {
			return err
		}
		for i := range pods {
			if !ready0(&pods[i]) {
				return fmt.Errorf("%s is not ready", pods[i].Name)
			}
		}
		if len(pods) != int(*d.Spec.Replicas) {
			return fmt.Errorf("%d pods of %d", len(pods), *d.Spec.Replicas)
		}
		return nil
	})
	triggers := map[string]func(){}
	for i := range pods {
		triggers[pods[i].Name] = c.aimAt(tb, &pods[i])
	}
	return func() {
		var leader string
		Eventually(tb, soon, "one of the operators holds the lease", func(ctx context.Context) (err error) {
			if leader, err = c.leader(ctx); err == nil && triggers[leader] == nil {
				err = fmt.Errorf("%q holds it", leader)
			}
			return err
		})
		triggers[leader]()
	}
}

// leader is the name of the operator's pod that holds the lease.
func (c *Cluster) leader(ctx context.Context) (string, error) {
	var lease coordinationv1.Lease
	if err := c.Get(ctx, ctrl.ObjectKey{Namespace: OperatorNamespace, Name: OperatorName}, &lease); err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil {
		return "", errors.New("nobody holds the lease")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_") // and a number of its own
	return name, nil
}

// aimAt returns a function that ends the operator of a pod.
func (c *Cluster) aimAt(tb testing.TB, pod *corev1.Pod) func() {
	tb.Helper()
	remove := func() {
		if err := c.Delete(tb.Context(), pod, ctrl.GracePeriodSeconds(0)); err != nil && !apierrors.IsNotFound(err) {
			tb.Error(err)
		}
	}
	if !c.onKind(tb, pod.Spec.NodeName) {
		return func() {
			remove()
			tb.Logf("        %s: deleted without grace, which lets it see SIGTERM", pod.Name)
		}
	}
	pid := c.Process(tb, pod, OperatorName)
	// It waits for a line: the end of its input alone, when the test ends, does nothing.
	cmd := exec.CommandContext(tb.Context(), "docker", "exec", "-i", pod.Spec.NodeName, "sh", "-c", "echo aimed; read line && kill -9 "+pid)
	trigger, err := cmd.StdinPipe()
	must(tb, err)
	aimed, err := cmd.StdoutPipe()
	must(tb, err)
	must(tb, cmd.Start())
	if _, err := bufio.NewReader(aimed).ReadString('\n'); err != nil {
		tb.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return func() {
		_, err := io.WriteString(trigger, "\n")
		if err = errors.Join(err, cmd.Wait()); err != nil {
			tb.Errorf("%s: %v", strings.Join(cmd.Args, " "), err)
		}
		remove()
		tb.Logf("        %s: killed with SIGKILL", pod.Name)
	}
}
