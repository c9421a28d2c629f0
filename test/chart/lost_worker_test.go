package chart

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// TestAnOperatorOnALostWorkerIsReplacedQuickly holds the defaults, of the chart and of config, to
// two operators on different workers. A drain evicts one at a time, and Kubernetes replaces one on
// a lost worker within half a minute after it has noticed.
func TestAnOperatorOnALostWorkerIsReplacedQuickly(t *testing.T) {
	t.Parallel()
	objects := render(t, `{}`)
	for where, c := range map[string]struct {
		deployment *appsv1.Deployment
		budget     *policyv1.PodDisruptionBudget
	}{
		"chart": {only[*appsv1.Deployment](t, objects), only[*policyv1.PodDisruptionBudget](t, objects)},
		"config": {
			new(read[appsv1.Deployment](t, "config/manager/manager.yaml")),
			new(read[policyv1.PodDisruptionBudget](t, "config/manager/pod_disruption_budget.yaml")),
		},
	} {
		spec := c.deployment.Spec.Template.Spec
		if *c.deployment.Spec.Replicas != 2 {
			t.Errorf("%s: %d replicas", where, *c.deployment.Spec.Replicas)
		}
		for key, after := range evictedAfter(spec.Tolerations) {
			if after < 15*time.Second || after > 30*time.Second {
				t.Errorf("%s: with the taint %s the pod goes after %v", where, key, after)
			}
		}
		spread := spec.TopologySpreadConstraints
		if len(spread) != 1 || spread[0].TopologyKey != corev1.LabelHostname || spread[0].WhenUnsatisfiable != corev1.ScheduleAnyway ||
			fmt.Sprint(spread[0].LabelSelector.MatchLabels) != fmt.Sprint(c.deployment.Spec.Selector.MatchLabels) {
			t.Errorf("%s: spread by %+v", where, spread)
		}
		if b := c.budget.Spec; b.MinAvailable != nil || b.MaxUnavailable.IntValue() != 1 ||
			fmt.Sprint(b.Selector.MatchLabels) != fmt.Sprint(c.deployment.Spec.Selector.MatchLabels) {
			t.Errorf("%s: the budget is %+v", where, b)
		}
		if policy := spec.Containers[0].TerminationMessagePolicy; policy != corev1.TerminationMessageFallbackToLogsOnError {
			t.Errorf("%s: the termination message policy is %q", where, policy)
		}
	}
	if resources := fmt.Sprint(read[map[string]any](t, "config/manager/kustomization.yaml")["resources"]); !strings.Contains(resources, "pod_disruption_budget.yaml") {
		t.Errorf("the kustomization lacks the budget: %v", resources)
	}
}

// forever stands for a toleration without an end.
const forever = time.Duration(1<<63 - 1)

// evictedAfter says how long a pod stays on a worker with each taint of a lost one. Kubernetes
// takes the shortest toleration that matches.
func evictedAfter(tolerations []corev1.Toleration) map[string]time.Duration {
	after := map[string]time.Duration{}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		taint := &corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}
		after[key] = 0
		matched := false
		for i := range tolerations {
			if !tolerates(tolerations[i], taint) {
				continue
			}
			stays := forever
			if seconds := tolerations[i].TolerationSeconds; seconds != nil {
				stays = time.Duration(*seconds) * time.Second
			}
			if !matched || stays < after[key] {
				matched, after[key] = true, stays
			}
		}
	}
	return after
}

func tolerates(t corev1.Toleration, taint *corev1.Taint) bool {
	return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
		(t.Operator == corev1.TolerationOpExists || t.Value == taint.Value)
}

// TestTolerationsOfTheValuesComeFirst holds the chart to leaving its own short tolerations out
// where the user has one for the taint.
func TestTolerationsOfTheValuesComeFirst(t *testing.T) {
	t.Parallel()
	const notReady, unreachable = corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable
	for values, want := range map[string]map[string]time.Duration{
		`{tolerationSeconds: 0}`:   {notReady: 0, unreachable: 0},
		`{tolerationSeconds: 300}`: {notReady: 300 * time.Second, unreachable: 300 * time.Second},
		`{tolerations: [{key: other, operator: Exists}]}`: {
			notReady: 20 * time.Second, unreachable: 20 * time.Second},
		`{tolerations: [{key: ` + notReady + `, operator: Exists, effect: NoSchedule}]}`: {
			notReady: 20 * time.Second, unreachable: 20 * time.Second},
		`{tolerations: [{key: ` + unreachable + `, operator: Exists, effect: NoExecute, tolerationSeconds: 60}]}`: {
			notReady: 20 * time.Second, unreachable: time.Minute},
		`{tolerations: [{operator: Exists}]}`: {notReady: forever, unreachable: forever},
	} {
		got := evictedAfter(only[*appsv1.Deployment](t, render(t, values)).Spec.Template.Spec.Tolerations)
		if !maps.Equal(got, want) {
			t.Errorf("%s: pods go after %v, want %v", values, got, want)
		}
	}
}
