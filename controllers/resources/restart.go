package resources

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// A person asks for a restart with RestartAnnotation, on the network for all pods, or on a
// StatefulSet or a pod for one validator, or with `kubectl rollout restart` on a StatefulSet.
//
// A pod carries the requests that it was made after: those of the network and of the StatefulSet by
// way of the template, those of kubectl because kubectl writes them into the template itself. A
// request that a pod does not carry is open. A request on the pod goes with the pod. So each
// request is carried out once, whatever operator sees it. A request that is taken back restarts
// nothing.
//
// The requests are not part of the template's hash: when one is taken back, the pods would be
// outdated.

// restartedAt is the annotation that `kubectl rollout restart` writes into a template.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// request is an annotation of a person as the annotations of templates and pods carry it. It is
// never empty: an annotation without a value cannot be told from a missing one.
func request(value string) string {
	const readable = 63
	if value == "" || len(value) > readable {
		return textHash(value)
	}
	return value
}

// RestartOfNetwork is the request on a network as its pods carry it; ok is false without one.
func RestartOfNetwork(network *v1alpha1.DiseqNetwork) (carried string, ok bool) {
	value, ok := network.Annotations[RestartAnnotation]
	if !ok {
		return "", false
	}
	return request(value), true
}

// WithRequest adds to a StatefulSet's template the request on the live StatefulSet; live may be
// nil.
func WithRequest(set *appsv1ac.StatefulSetApplyConfiguration, live *appsv1.StatefulSet) *appsv1ac.StatefulSetApplyConfiguration {
	if live == nil {
		return set
	}
	value, ok := live.Annotations[RestartAnnotation]
	if !ok {
		return set
	}
	set.Spec.Template.WithAnnotations(map[string]string{ValidatorRestartAnnotation: request(value)})
	return stamped(set)
}

// RestartAsked says whether a restart of a pod is asked for that has not happened yet. wanted and
// live are its StatefulSet; either may be nil.
func RestartAsked(pod metav1.Object, wanted *appsv1ac.StatefulSetApplyConfiguration, live *appsv1.StatefulSet) bool {
	carries := pod.GetAnnotations()
	if wanted != nil {
		for _, key := range []string{NetworkRestartAnnotation, ValidatorRestartAnnotation} {
			if asked, ok := wanted.Spec.Template.Annotations[key]; ok && carries[key] != asked {
				return true
			}
		}
	}
	var template map[string]string
	if live != nil {
		template = live.Spec.Template.Annotations
	}
	for _, key := range []string{restartedAt, RestartAnnotation} {
		if asked, ok := template[key]; ok && carries[key] != asked {
			return true
		}
	}
	// If somebody wrote the request into the template, every pod has it: restarting one would not
	// end.
	_, onPod := carries[RestartAnnotation]
	_, inTemplate := template[RestartAnnotation]
	return onPod && !inTemplate
}

// TakenBack are the requests that a pod carries and that nobody makes any more. As long as it
// carries one, the same request would not be seen again.
func TakenBack(pod metav1.Object, wanted *appsv1ac.StatefulSetApplyConfiguration) []string {
	var keys []string
	for _, key := range []string{NetworkRestartAnnotation, ValidatorRestartAnnotation} {
		_, carries := pod.GetAnnotations()[key]
		if _, asked := wanted.Spec.Template.Annotations[key]; carries && !asked {
			keys = append(keys, key)
		}
	}
	return keys
}
