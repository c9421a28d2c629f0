package resources

import (
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// ServiceAccount is the account of a validator's pod in the cluster, without rights and without a
// token. Its annotations may give the pod an identity elsewhere.
func ServiceAccount(network *v1alpha1.DiseqNetwork, serial int) *corev1ac.ServiceAccountApplyConfiguration {
	name := ValidatorName(network.Name, serial)
	return owned(network, validatorLabels(network.Name, name),
		corev1ac.ServiceAccount(name, network.Namespace).WithAnnotations(network.Spec.PodTemplate.ServiceAccountAnnotations).
			WithAutomountServiceAccountToken(false))
}
