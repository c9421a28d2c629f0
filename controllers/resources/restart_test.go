package resources

import (
	"maps"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// asking is the StatefulSet of a network, and the one that the API server has after it was applied:
// with what a person wrote into it.
func asking(t *testing.T, network *v1alpha1.DiseqNetwork, onSet, inTemplate map[string]string) (
	*appsv1ac.StatefulSetApplyConfiguration, *appsv1.StatefulSet,
) {
	t.Helper()
	live := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Annotations: onSet}}
	wanted, err := StatefulSet(network, testOperator, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	wanted = WithRequest(wanted, live)
	live.Spec.Template.Annotations = maps.Clone(wanted.Spec.Template.Annotations)
	maps.Copy(live.Spec.Template.Annotations, inTemplate)
	return wanted, live
}

// A request restarts each pod once. Neither the pod that comes back, nor the end of the request,
// nor another life of the operator restarts it again.
//
// Promise 76.
func TestARequestForARestartIsCarriedOutOnceForEachPod(t *testing.T) {
	none, long := map[string]string{}, strings.Repeat("x", 1000)
	for _, c := range []struct {
		name                         string
		onNetwork, onSet, inTemplate map[string]string
		onPod                        map[string]string
		wantAsked                    bool
	}{
		{name: "nobody asks"},
		{name: "on the network", onNetwork: map[string]string{RestartAnnotation: "1"}, wantAsked: true},
		{name: "on the network, without a value", onNetwork: map[string]string{RestartAnnotation: ""}, wantAsked: true},
		{name: "on the network, with a long value", onNetwork: map[string]string{RestartAnnotation: long}, wantAsked: true},
		{name: "on the StatefulSet", onSet: map[string]string{RestartAnnotation: "yes"}, wantAsked: true},
		{name: "on the StatefulSet, without a value", onSet: map[string]string{RestartAnnotation: ""}, wantAsked: true},
		{name: "by kubectl rollout restart", inTemplate: map[string]string{restartedAt: "2026-11-30T07:00:00Z"}, wantAsked: true},
		{name: "on the pod", onPod: map[string]string{RestartAnnotation: ""}, wantAsked: true},
		{name: "in the template", inTemplate: map[string]string{RestartAnnotation: "1"}, wantAsked: true},
		{name: "all at once", onNetwork: map[string]string{RestartAnnotation: "1"}, onSet: map[string]string{RestartAnnotation: "2"},
			inTemplate: map[string]string{restartedAt: "3"}, onPod: map[string]string{RestartAnnotation: "4"}, wantAsked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			network := newNetwork("demo")
			plain, untouched := asking(t, network, none, none)
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(untouched.Spec.Template.Annotations)}}
			if RestartAsked(pod, plain, untouched) || RestartAsked(pod, nil, nil) {
				t.Fatal("a pod without a request is to be restarted")
			}
			network.Annotations = c.onNetwork
			wanted, live := asking(t, network, c.onSet, c.inTemplate)
			if had, has := TemplateOf(plain), TemplateOf(wanted); had != has {
				t.Errorf("the request changes the template's hash from %s to %s", had, has)
			}
			maps.Copy(pod.Annotations, c.onPod)
			if got := RestartAsked(pod, wanted, live); got != c.wantAsked {
				t.Errorf("asked: %v, want %v", got, c.wantAsked)
			}
			// The StatefulSet makes the next pod.
			pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(live.Spec.Template.Annotations)}}
			if RestartAsked(pod, wanted, live) {
				t.Errorf("the pod that came back is to be restarted again: %v", pod.Annotations)
			}
			if len(c.inTemplate) == 0 || c.inTemplate[restartedAt] != "" {
				// The request is taken back.
				if RestartAsked(pod, plain, untouched) {
					t.Errorf("a request that is taken back restarts the pod: %v", pod.Annotations)
				}
			}
			if back := TakenBack(pod, wanted); len(back) > 0 {
				t.Errorf("%v are taken from the pod while they are asked for", back)
			}
			for _, key := range TakenBack(pod, plain) {
				delete(pod.Annotations, key)
			}
			// The same request, made again.
			if len(c.onNetwork)+len(c.onSet) > 0 && !RestartAsked(pod, wanted, live) {
				t.Error("the same request does not count when it is made again")
			}
		})
	}
}
