package resources

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// PodDisruptionBudget keeps evictions from taking the quorum. leave is how many validators must
// stay ready. That is a number, not a percentage, because it must not follow the number of pods
// that happen to exist.
//
// A pod that is not ready may be evicted at any time, because that takes no vote away; but not if
// strict: while a change of the set stands, newcomers are needed before they are ready.
func PodDisruptionBudget(network *v1alpha1.DiseqNetwork, leave int, strict bool) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	unready := policyv1.AlwaysAllow
	if strict {
		unready = policyv1.IfHealthyBudget
	}
	return owned(network, networkLabels(network.Name),
		policyv1ac.PodDisruptionBudget(BudgetName(network.Name), network.Namespace).WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMinAvailable(intstr.FromInt32(int32(leave))).
			WithUnhealthyPodEvictionPolicy(unready).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(ValidatorsSelector(network.Name)))))
}
