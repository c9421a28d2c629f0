package resources

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// PodDisruptionBudget keeps evictions from taking the quorum. It leaves as many validators as must
// sign now (live) or after a change of the set (target), whichever is more. That is a number, not a
// percentage, because it must not follow the number of pods that happen to exist. A pod that is not
// ready may always be evicted: that takes no vote away.
func PodDisruptionBudget(network *v1alpha1.DiseqNetwork, live, target int) *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	return owned(network, networkLabels(network.Name),
		policyv1ac.PodDisruptionBudget(BudgetName(network.Name), network.Namespace).WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMinAvailable(intstr.FromInt32(int32(max(live, target)))).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(ValidatorsSelector(network.Name)))))
}
