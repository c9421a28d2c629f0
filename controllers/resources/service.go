package resources

import (
	"cmp"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// PeersService is the headless Service that gives each pod a name. Pods that are not ready have a
// name too: nodes need each other to become ready.
func PeersService(network *v1alpha1.DiseqNetwork) *corev1ac.ServiceApplyConfiguration {
	return owned(network, networkLabels(network.Name),
		corev1ac.Service(PeersName(network.Name), network.Namespace).WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).WithClusterIP(corev1.ClusterIPNone).WithPublishNotReadyAddresses(true).
			WithSelector(ValidatorsSelector(network.Name)).
			WithPorts(servicePort(PeerPortName, PeerPort))))
}

// ClientsService is the Service for clients: it leads to any node that is ready. A field that the
// spec leaves out is not applied: the API server, or somebody else, may set it.
func ClientsService(network *v1alpha1.DiseqNetwork) *corev1ac.ServiceApplyConfiguration {
	from := network.Spec.Service
	port := servicePort(PublicPortName, PublicPort).WithAppProtocol("http")
	if tlsOf(network) != nil {
		port.WithAppProtocol("https")
	}
	port.NodePort = from.NodePort
	spec := corev1ac.ServiceSpec().
		WithType(cmp.Or(from.Type, corev1.ServiceTypeClusterIP)).
		WithSelector(ValidatorsSelector(network.Name)).
		WithPorts(port).
		WithLoadBalancerSourceRanges(from.LoadBalancerSourceRanges...).
		WithIPFamilies(from.IPFamilies...)
	spec.LoadBalancerClass, spec.AllocateLoadBalancerNodePorts = from.LoadBalancerClass, from.AllocateLoadBalancerNodePorts
	spec.ExternalTrafficPolicy, spec.SessionAffinity = from.ExternalTrafficPolicy, from.SessionAffinity
	spec.IPFamilyPolicy = from.IPFamilyPolicy
	labels := map[string]string{}
	maps.Copy(labels, from.Labels)
	maps.Copy(labels, networkLabels(network.Name))
	return owned(network, labels,
		corev1ac.Service(ClientsName(network.Name), network.Namespace).WithAnnotations(from.Annotations).WithSpec(spec))
}

func servicePort(name string, port int32) *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().WithName(name).WithProtocol(corev1.ProtocolTCP).WithPort(port).WithTargetPort(intstr.FromString(name))
}
