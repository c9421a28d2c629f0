package resources

import (
	"cmp"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// The label, and its value, of namespaces whose pods may read the metrics. Projects of kubebuilder
// use the same.
const (
	metricsNamespaceLabel = "metrics"
	metricsNamespaceValue = "enabled"
)

// NetworkPolicies forbid all traffic to and from the pods of a network, with these exceptions: DNS;
// peers to peers; clients, from the networks of the spec or from anywhere, to the public port; the
// operator to the operations port, and with monitoring also namespaces labelled metrics=enabled;
// with tracing, the collector; with unrestricted egress, all that the pods connect to. There are
// always the same five, so that none is left over when the spec changes.
func NetworkPolicies(network *v1alpha1.DiseqNetwork, operator Operator) []*networkingv1ac.NetworkPolicyApplyConfiguration {
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	pods := networkingv1ac.NetworkPolicyPeer().WithPodSelector(labelSelector(NetworkSelector(network.Name)))
	return []*networkingv1ac.NetworkPolicyApplyConfiguration{
		policy(network, "default-deny", everythingElse(network).WithPolicyTypes(both...)),
		// 5353 is where some clusters' DNS pods listen behind port 53.
		policy(network, "dns", networkingv1ac.NetworkPolicySpec().WithPolicyTypes(networkingv1.PolicyTypeEgress).
			WithEgress(networkingv1ac.NetworkPolicyEgressRule().WithTo(peers(namesFrom(network))...).WithPorts(
				policyPort(corev1.ProtocolUDP, 53), policyPort(corev1.ProtocolTCP, 53),
				policyPort(corev1.ProtocolUDP, 5353), policyPort(corev1.ProtocolTCP, 5353)))),
		policy(network, "peers", networkingv1ac.NetworkPolicySpec().WithPolicyTypes(both...).
			WithIngress(networkingv1ac.NetworkPolicyIngressRule().WithFrom(pods).WithPorts(policyPort(corev1.ProtocolTCP, PeerPort))).
			WithEgress(networkingv1ac.NetworkPolicyEgressRule().WithTo(pods).WithPorts(policyPort(corev1.ProtocolTCP, PeerPort)))),
		policy(network, "clients", networkingv1ac.NetworkPolicySpec().WithPolicyTypes(networkingv1.PolicyTypeIngress).
			WithIngress(clients(network).WithPorts(policyPort(corev1.ProtocolTCP, PublicPort)))),
		policy(network, "operations", operations(network, operator)),
	}
}

// clients is where clients may connect from. A rule without peers admits everybody.
func clients(network *v1alpha1.DiseqNetwork) *networkingv1ac.NetworkPolicyIngressRuleApplyConfiguration {
	rule := networkingv1ac.NetworkPolicyIngressRule()
	if network.Spec.Access == nil {
		return rule
	}
	return rule.WithFrom(peers(network.Spec.Access.Networks)...)
}

// namesFrom is where the pods ask for names. With a rule for anywhere, a program in a pod could
// send what it reads to any server that listens on port 53.
func namesFrom(network *v1alpha1.DiseqNetwork) []v1alpha1.NetworkPeer {
	if given := network.Spec.NetworkPolicy.DNS; len(given) > 0 {
		return given
	}
	return []v1alpha1.NetworkPeer{
		{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{metav1.NamespaceSystem, "openshift-dns"}},
		}}},
		{IPBlock: &v1alpha1.IPBlock{CIDR: "169.254.0.0/16"}}, // a cache on the worker has no pod address
	}
}

// peers converts peers of the spec.
func peers(list []v1alpha1.NetworkPeer) (out []*networkingv1ac.NetworkPolicyPeerApplyConfiguration) {
	for _, from := range list {
		to := networkingv1ac.NetworkPolicyPeer()
		to.NamespaceSelector, to.PodSelector = selectorOf(from.NamespaceSelector), selectorOf(from.PodSelector)
		if b := from.IPBlock; b != nil {
			to.WithIPBlock(networkingv1ac.IPBlock().WithCIDR(b.CIDR).WithExcept(b.Except...))
		}
		out = append(out, to)
	}
	return out
}

// selectorOf converts a selector. An empty one selects everything, and nil is none.
func selectorOf(from *metav1.LabelSelector) *metav1ac.LabelSelectorApplyConfiguration {
	if from == nil {
		return nil
	}
	to := labelSelector(from.MatchLabels)
	for _, e := range from.MatchExpressions {
		to.WithMatchExpressions(metav1ac.LabelSelectorRequirement().WithKey(e.Key).WithOperator(e.Operator).WithValues(e.Values...))
	}
	return to
}

// everythingElse is what no other policy is about: denied, unless the spec names a collector of
// traces or lets the pods connect to anything. A rule without peers would admit everything.
func everythingElse(network *v1alpha1.DiseqNetwork) *networkingv1ac.NetworkPolicySpecApplyConfiguration {
	spec := networkingv1ac.NetworkPolicySpec()
	if to, port := collector(network); len(to) > 0 {
		spec.WithEgress(networkingv1ac.NetworkPolicyEgressRule().WithTo(peers(to)...).WithPorts(policyPort(corev1.ProtocolTCP, port)))
	}
	if network.Spec.NetworkPolicy.Egress == v1alpha1.UnrestrictedEgress {
		spec.WithEgress(networkingv1ac.NetworkPolicyEgressRule())
	}
	return spec
}

// collector is where the collector of traces is: where the spec has it, or where its URL leads. A
// URL leads to the namespace of a Service, or to an address. The name of a host outside of the
// cluster leads nowhere, and a collector within the pod needs no rule.
func collector(network *v1alpha1.DiseqNetwork) (to []v1alpha1.NetworkPeer, port int32) {
	tracing := network.Spec.Tracing
	if tracing == nil {
		return nil, 0
	}
	u, err := url.Parse(tracing.Endpoint)
	if err != nil {
		return nil, 0
	}
	byScheme := map[string]string{"http": "80", "https": "443"}
	number, err := strconv.ParseUint(cmp.Or(u.Port(), byScheme[u.Scheme]), 10, 16)
	if err != nil {
		return nil, 0
	}
	port = int32(number) //nolint:gosec // 16 bits
	if len(tracing.Networks) > 0 {
		return tracing.Networks, port
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if address, err := netip.ParseAddr(host); err == nil {
		address = address.Unmap().WithZone("")
		if address.IsLoopback() {
			return nil, 0
		}
		return []v1alpha1.NetworkPeer{{IPBlock: &v1alpha1.IPBlock{CIDR: netip.PrefixFrom(address, address.BitLen()).String()}}}, port
	}
	switch names := strings.Split(host, "."); {
	case host == "localhost":
		return nil, 0
	case len(names) == 1:
		return []v1alpha1.NetworkPeer{{PodSelector: &metav1.LabelSelector{}}}, port
	case len(names) == 2 || names[2] == "svc":
		return []v1alpha1.NetworkPeer{{NamespaceSelector: &metav1.LabelSelector{
			MatchLabels: map[string]string{corev1.LabelMetadataName: names[1]},
		}}}, port
	}
	return nil, 0
}

// operations has no rule at all if nobody may connect: a rule without peers would admit everybody.
func operations(network *v1alpha1.DiseqNetwork, operator Operator) *networkingv1ac.NetworkPolicySpecApplyConfiguration {
	spec := networkingv1ac.NetworkPolicySpec().WithPolicyTypes(networkingv1.PolicyTypeIngress)
	var from []*networkingv1ac.NetworkPolicyPeerApplyConfiguration
	if operator.Namespace != "" {
		from = append(from, networkingv1ac.NetworkPolicyPeer().
			WithNamespaceSelector(labelSelector(map[string]string{corev1.LabelMetadataName: operator.Namespace})).
			WithPodSelector(labelSelector(operator.PodLabels)))
	}
	if Monitored(network) {
		from = append(from, networkingv1ac.NetworkPolicyPeer().
			WithNamespaceSelector(labelSelector(map[string]string{metricsNamespaceLabel: metricsNamespaceValue})))
	}
	if len(from) > 0 {
		spec.WithIngress(networkingv1ac.NetworkPolicyIngressRule().WithFrom(from...).WithPorts(policyPort(corev1.ProtocolTCP, OperationsPort)))
	}
	return spec
}

func policy(
	network *v1alpha1.DiseqNetwork, suffix string, spec *networkingv1ac.NetworkPolicySpecApplyConfiguration,
) *networkingv1ac.NetworkPolicyApplyConfiguration {
	return owned(network, networkLabels(network.Name),
		networkingv1ac.NetworkPolicy(network.Name+"-"+suffix, network.Namespace).
			WithSpec(spec.WithPodSelector(labelSelector(NetworkSelector(network.Name)))))
}

func policyPort(protocol corev1.Protocol, port int32) *networkingv1ac.NetworkPolicyPortApplyConfiguration {
	return networkingv1ac.NetworkPolicyPort().WithProtocol(protocol).WithPort(intstr.FromInt32(port))
}

func labelSelector(labels map[string]string) *metav1ac.LabelSelectorApplyConfiguration {
	return metav1ac.LabelSelector().WithMatchLabels(labels)
}
