package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
)

// How much of each log goes into the test's output; all of it goes into the directory.
const (
	nodeLines     = 15
	operatorLines = 40
	eventLines    = 40
)

// dump logs the state of a namespace and of the operator in short, and writes all of it to
// E2E_ARTIFACTS.
func (c *Cluster) dump(ctx context.Context, tb testing.TB, namespace string) {
	dir := filepath.Join(cmp.Or(os.Getenv("E2E_ARTIFACTS"), root("bin", "e2e")), namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Errorf("diagnostics: %v", err)
		return
	}
	write := func(name, text string, lines int) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Errorf("diagnostics: %v", err)
		}
		all := strings.Split(strings.TrimRight(text, "\n"), "\n")
		tb.Logf("--- %s, %s (the last %d of %d lines)\n%s", namespace, name, min(lines, len(all)), len(all),
			strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	var networks v1alpha1.DiseqNetworkList
	if err := c.List(ctx, &networks, ctrl.InNamespace(namespace)); err != nil {
		tb.Errorf("diagnostics: %v", err)
	}
	for i := range networks.Items {
		d := &networks.Items[i]
		d.ManagedFields = nil
		text, err := yaml.Marshal(d)
		if err != nil {
			tb.Errorf("diagnostics: %v", err)
		}
		write("diseqnetwork-"+d.Name+".yaml", string(text), 160)
	}
	write("events", c.events(ctx, namespace), eventLines)
	write("pods", c.podTable(ctx, namespace), 60)
	for pod, log := range c.logs(ctx, namespace) {
		write(pod+".log", log, nodeLines)
	}
	for pod, log := range c.logs(ctx, OperatorNamespace) {
		write("operator-"+pod+".log", log, operatorLines)
	}
	tb.Logf("--- all of that is in %s", dir)
}

func (c *Cluster) events(ctx context.Context, namespace string) string {
	var events eventsv1.EventList
	if err := c.List(ctx, &events, ctrl.InNamespace(namespace)); err != nil {
		return err.Error()
	}
	at := func(e *eventsv1.Event) time.Time {
		last := e.EventTime.Time
		if e.Series != nil {
			last = e.Series.LastObservedTime.Time
		}
		if last.IsZero() {
			last = e.DeprecatedLastTimestamp.Time
		}
		return last
	}
	slices.SortFunc(events.Items, func(a, b eventsv1.Event) int { return at(&a).Compare(at(&b)) })
	var out strings.Builder
	for i := range events.Items {
		e := &events.Items[i]
		fmt.Fprintf(&out, "%s %s %s %s/%s: %s\n", at(e).Format(time.TimeOnly), e.Type, e.Reason, e.Regarding.Kind, e.Regarding.Name, e.Note)
	}
	return out.String()
}

func (c *Cluster) podTable(ctx context.Context, namespace string) string {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, ctrl.InNamespace(namespace)); err != nil {
		return err.Error()
	}
	var out strings.Builder
	for i := range pods.Items {
		p := &pods.Items[i]
		deleted := p.DeletionTimestamp != nil
		fmt.Fprintf(&out, "%s on %s: %s, ready %t, deleted %t\n", p.Name, p.Spec.NodeName, p.Status.Phase, ready0(p), deleted)
		for _, cs := range p.Status.ContainerStatuses {
			fmt.Fprintf(&out, "  %s %s, %d restarts, state %s, before %s\n",
				cs.Name, cs.Image, cs.RestartCount, state(cs.State), state(cs.LastTerminationState))
		}
		for _, condition := range p.Status.Conditions {
			if condition.Status != corev1.ConditionTrue {
				fmt.Fprintf(&out, "  %s=%s %s %s\n", condition.Type, condition.Status, condition.Reason, condition.Message)
			}
		}
	}
	return out.String()
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running since " + s.Running.StartedAt.Format(time.TimeOnly)
	case s.Waiting != nil:
		return s.Waiting.Reason + " " + s.Waiting.Message
	case s.Terminated != nil:
		t := s.Terminated
		return fmt.Sprintf("ended with %d %s at %s", t.ExitCode, t.Reason, t.FinishedAt.Format(time.TimeOnly))
	}
	return "none"
}

// logs returns the logs of all pods of a namespace, with those of the previous run of a container.
func (c *Cluster) logs(ctx context.Context, namespace string) map[string]string {
	out := map[string]string{}
	var pods corev1.PodList
	if err := c.List(ctx, &pods, ctrl.InNamespace(namespace)); err != nil {
		return map[string]string{"none": err.Error()}
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, cs := range pod.Status.ContainerStatuses {
			if cs.RestartCount > 0 {
				out[pod.Name] += c.log(ctx, pod, true) + "--- started again\n"
			}
		}
		out[pod.Name] += c.log(ctx, pod, false)
	}
	return out
}

// log returns what a pod's first container printed in this run, or in the one before.
func (c *Cluster) log(ctx context.Context, pod *corev1.Pod, before bool) string {
	set, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return err.Error()
	}
	options := &corev1.PodLogOptions{Container: pod.Spec.Containers[0].Name, Previous: before}
	text, err := set.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(ctx)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
