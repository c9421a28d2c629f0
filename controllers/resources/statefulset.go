package resources

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Operator describes the operator itself, as far as objects name it.
type Operator struct {
	// NodeImage is the image of the nodes of networks without spec.image.
	NodeImage string
	// Namespace and PodLabels select the operator's own pods, which network policies admit.
	// Namespace is empty if the operator runs outside the cluster.
	Namespace string
	PodLabels map[string]string
	// Allowed is what specs may ask for; nil if they may ask for everything.
	Allowed *Allowed
}

// StatefulSet runs the pod of one validator. Each validator has its own, so that any validator can
// leave, and each pod mounts only its own key. Kubernetes still makes sure that no two pods have
// one identity. Only the operator replaces a pod whose template has changed (OnDelete).
//
// createVoteStore states that the volume claim is the validator's first one.
func StatefulSet(
	network *v1alpha1.DiseqNetwork, operator Operator, serial int, createVoteStore bool,
) (*appsv1ac.StatefulSetApplyConfiguration, error) {
	name := ValidatorName(network.Name, serial)
	if err := CheckReferences(network, []string{network.Name}); err != nil {
		return nil, err
	}
	template, err := podTemplate(network, operator, name, createVoteStore)
	if err != nil {
		return nil, err
	}
	template.WithAnnotations(map[string]string{TemplateAnnotation: TemplateHash(template)})
	if request, asked := RestartOfNetwork(network); asked { // not in the hash
		template.WithAnnotations(map[string]string{NetworkRestartAnnotation: request})
	}
	replicas := int32(1)
	if network.Spec.Hibernated {
		replicas = 0
	}
	return owned(network, validatorLabels(network.Name, name),
		appsv1ac.StatefulSet(name, network.Namespace).WithSpec(appsv1ac.StatefulSetSpec().
			WithReplicas(replicas).WithServiceName(PeersName(network.Name)).WithRevisionHistoryLimit(2).
			WithUpdateStrategy(appsv1ac.StatefulSetUpdateStrategy().WithType(appsv1.OnDeleteStatefulSetStrategyType)).
			WithSelector(labelSelector(ValidatorSelector(network.Name, name))).
			WithTemplate(template))), nil
}

// podTemplate is the template without its hash. The operator's annotations override the user's.
func podTemplate(
	network *v1alpha1.DiseqNetwork, operator Operator, validator string, createVoteStore bool,
) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	config, err := NodeConfig(network)
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{}
	maps.Copy(annotations, network.Spec.PodTemplate.Annotations)
	annotations[ConfigAnnotation] = textHash(config)
	if account := network.Spec.PodTemplate.ServiceAccountAnnotations; len(account) > 0 {
		annotations[AccountAnnotation] = digest(account)
	}
	spec, err := podSpec(network, validator)
	if err != nil {
		return nil, err
	}
	node, err := container(network, operator, validator, createVoteStore)
	if err != nil {
		return nil, err
	}
	// The node comes first: kubectl shows the log of the first container, and Services look for
	// their ports there first.
	if err := addSidecars(spec.WithContainers(node), network.Spec.PodTemplate); err != nil {
		return nil, err
	}
	return corev1ac.PodTemplateSpec().
		WithLabels(podLabels(network, validator)).WithAnnotations(annotations).WithSpec(spec), nil
}
