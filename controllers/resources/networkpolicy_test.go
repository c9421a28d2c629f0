package resources

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// end is one end of a connection. Outside of the cluster there are no labels.
type end struct {
	namespace       string
	namespaceLabels labels.Set
	pod             labels.Set
	// address of an end outside of the cluster.
	address string
}

// policiesOf returns the policies as the API server would read them.
func policiesOf(t *testing.T, network *v1alpha1.DiseqNetwork, operator Operator) []networkingv1.NetworkPolicy {
	t.Helper()
	var out []networkingv1.NetworkPolicy
	for _, configuration := range NetworkPolicies(network, operator) {
		var p networkingv1.NetworkPolicy
		raw, err := json.Marshal(configuration)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func selects(t *testing.T, s *metav1.LabelSelector, set labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(set)
}

func matches(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, home string, other end, port int32) bool {
	t.Helper()
	if len(ports) > 0 && !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == port }) {
		return false
	}
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			return inRange(other.address, p.IPBlock.CIDR) && !slices.ContainsFunc(p.IPBlock.Except, func(e string) bool { return inRange(other.address, e) })
		}
		namespace := other.namespace == home
		if p.NamespaceSelector != nil {
			namespace = other.namespace != "" && selects(t, p.NamespaceSelector, other.namespaceLabels)
		}
		return namespace && (p.PodSelector == nil || selects(t, p.PodSelector, other.pod))
	})
}

func inRange(address, cidr string) bool {
	at, err := netip.ParseAddr(address)
	return err == nil && netip.MustParsePrefix(cidr).Contains(at)
}

// allows is what a network that enforces policies does with a connection of a pod, as the API's
// documentation has it: a pod that some policy of that direction selects takes only what one of
// them names.
func allows(t *testing.T, policies []networkingv1.NetworkPolicy, direction networkingv1.PolicyType, pod, other end, port int32) bool {
	t.Helper()
	isolated := false
	for _, p := range policies {
		if p.Namespace != pod.namespace || !slices.Contains(p.Spec.PolicyTypes, direction) || !selects(t, &p.Spec.PodSelector, pod.pod) {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeIngress {
			for _, rule := range p.Spec.Ingress {
				if matches(t, rule.From, rule.Ports, p.Namespace, other, port) {
					return true
				}
			}
			continue
		}
		for _, rule := range p.Spec.Egress {
			if matches(t, rule.To, rule.Ports, p.Namespace, other, port) {
				return true
			}
		}
	}
	return !isolated
}

// A Service that selects by the network's name alone leads clients to any pod with that one label.
func TestServicesLeadToValidatorsAlone(t *testing.T) {
	network := newNetwork("demo")
	for _, service := range []*corev1ac.ServiceApplyConfiguration{ClientsService(network), PeersService(network)} {
		selector := labels.SelectorFromSet(service.Spec.Selector)
		if !selector.Matches(labels.Set(podLabels(network, "demo-v0"))) {
			t.Errorf("Service %s does not lead to a validator: %v", *service.GetName(), selector)
		}
		for _, other := range []labels.Set{
			{NetworkLabel: "demo"}, {NetworkLabel: "demo", "app": "bank"}, podLabels(newNetwork("other"), "other-v0"), networkLabels("demo"),
		} {
			if selector.Matches(other) {
				t.Errorf("Service %s leads to a pod with the labels %v", *service.GetName(), other)
			}
		}
	}
}

func TestNetworkPoliciesLetInWhoIsNamedAndNobodyElse(t *testing.T) {
	network, quiet := newNetwork("demo"), newNetwork("demo")
	quiet.Spec.Monitoring.Enabled = new(bool)
	meshed := newNetwork("demo")
	meshed.Spec.NetworkPolicy.Egress = v1alpha1.UnrestrictedEgress
	walled := newNetwork("demo")
	walled.Spec.Access = &v1alpha1.Access{Networks: []v1alpha1.NetworkPeer{
		{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "pay"}}, PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"api", "web"}}},
		}},
		{PodSelector: &metav1.LabelSelector{}},
		{IPBlock: &v1alpha1.IPBlock{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.128/25"}}},
	}}
	ownDNS := newNetwork("demo")
	ownDNS.Spec.NetworkPolicy.DNS = []v1alpha1.NetworkPeer{{IPBlock: &v1alpha1.IPBlock{CIDR: "192.0.2.53/32"}}}
	traced := func(endpoint string, networks ...v1alpha1.NetworkPeer) *v1alpha1.DiseqNetwork {
		n := newNetwork("demo")
		n.Spec.Tracing = &v1alpha1.Tracing{Endpoint: endpoint, Networks: networks}
		return n
	}
	labelled := v1alpha1.NetworkPeer{
		NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "collector"}},
	}
	in := func(namespace string, pod labels.Set, more ...string) end {
		set := labels.Set{"kubernetes.io/metadata.name": namespace}
		for i := 0; i+1 < len(more); i += 2 {
			set[more[i]] = more[i+1]
		}
		return end{namespace: namespace, namespaceLabels: set, pod: pod}
	}
	pod := in("ns", podLabels(network, "demo-v0"))
	sibling := in("ns", podLabels(network, "demo-v1"))
	impostor := in("elsewhere", podLabels(network, "demo-v1"))
	foreign := in("ns", podLabels(newNetwork("other"), "other-v0"))
	operator := in("diseq-system", testOperator.PodLabels)
	bystander := in("diseq-system", labels.Set{"app": "x"})
	pretender := in("elsewhere", testOperator.PodLabels)
	prometheus := in("monitoring", labels.Set{"app": "prometheus"}, "metrics", "enabled")
	dns := in("kube-system", labels.Set{"k8s-app": "kube-dns"})
	internet := end{}
	payer, pretendsToPay := in("pay", labels.Set{"app": "api"}, "team", "pay"), in("elsewhere", labels.Set{"app": "api"})
	besidePayer, neighbour := in("pay", labels.Set{"app": "batch"}, "team", "pay"), in("ns", labels.Set{"app": "anything"})
	collector := in("tracing", labels.Set{"app": "collector"})
	branch, vault := end{address: "192.0.2.7"}, end{address: "192.0.2.200"}
	const ingress, egress = networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress
	for _, tt := range []struct {
		name      string
		network   *v1alpha1.DiseqNetwork
		operator  Operator
		direction networkingv1.PolicyType
		other     end
		port      int32
		want      bool
	}{
		{"a client from anywhere", network, testOperator, ingress, internet, PublicPort, true},
		{"a client in the cluster", network, testOperator, ingress, bystander, PublicPort, true},
		{"a client of a network that is listed", walled, testOperator, ingress, payer, PublicPort, true},
		{"a client of its namespace that is not", walled, testOperator, ingress, besidePayer, PublicPort, false},
		{"a client with its labels elsewhere", walled, testOperator, ingress, pretendsToPay, PublicPort, false},
		{"a pod of the namespace, which is listed", walled, testOperator, ingress, neighbour, PublicPort, true},
		{"an address that is listed", walled, testOperator, ingress, branch, PublicPort, true},
		{"an address that is excepted", walled, testOperator, ingress, vault, PublicPort, false},
		{"a client that is not listed", walled, testOperator, ingress, bystander, PublicPort, false},
		{"a client from anywhere, not listed", walled, testOperator, ingress, internet, PublicPort, false},
		{"the operator, clients listed", walled, testOperator, ingress, operator, OperationsPort, true},
		{"a listed client at the operations port", walled, testOperator, ingress, payer, OperationsPort, false},
		{"a listed client at the peer port", walled, testOperator, ingress, payer, PeerPort, false},
		{"a peer", network, testOperator, ingress, sibling, PeerPort, true},
		{"a peer that is dialled", network, testOperator, egress, sibling, PeerPort, true},
		{"a node of another network", network, testOperator, ingress, foreign, PeerPort, false},
		{"a node of another namespace", network, testOperator, ingress, impostor, PeerPort, false},
		{"a peer port from anywhere", network, testOperator, ingress, internet, PeerPort, false},
		{"the operator", network, testOperator, ingress, operator, OperationsPort, true},
		{"the operator, without monitoring", quiet, testOperator, ingress, operator, OperationsPort, true},
		{"a pod beside the operator", network, testOperator, ingress, bystander, OperationsPort, false},
		{"the operator's labels elsewhere", network, testOperator, ingress, pretender, OperationsPort, false},
		{"the operator at the peer port", network, testOperator, ingress, operator, PeerPort, false},
		{"Prometheus", network, testOperator, ingress, prometheus, OperationsPort, true},
		{"Prometheus, without monitoring", quiet, testOperator, ingress, prometheus, OperationsPort, false},
		{"a peer at the operations port", network, testOperator, ingress, sibling, OperationsPort, false},
		{"anyone, operator outside, no monitoring", quiet, Operator{}, ingress, internet, OperationsPort, false},
		{"DNS", network, testOperator, egress, dns, 53, true},
		{"DNS of OpenShift", network, testOperator, egress, in("openshift-dns", labels.Set{"dns": "default"}), 5353, true},
		{"a cache on the worker", network, testOperator, egress, end{address: "169.254.20.10"}, 53, true},
		{"a server of somebody that listens on port 53", network, testOperator, egress, end{address: "192.0.2.7"}, 53, false},
		{"a pod that listens on port 53", network, testOperator, egress, bystander, 53, false},
		{"DNS of the spec", ownDNS, testOperator, egress, end{address: "192.0.2.53"}, 53, true},
		{"DNS of the cluster, where the spec has its own", ownDNS, testOperator, egress, dns, 53, false},
		{"the internet", network, testOperator, egress, internet, 443, false},
		{"the API server", network, testOperator, egress, dns, 6443, false},
		{"another network's node is dialled", network, testOperator, egress, foreign, PeerPort, false},
		{"the internet, unrestricted", meshed, testOperator, egress, internet, 443, true},
		{"a mesh's control plane, unrestricted", meshed, testOperator, egress, bystander, 15012, true},
		{"a peer that is dialled, unrestricted", meshed, testOperator, egress, sibling, PeerPort, true},
		{"a peer port from anywhere, unrestricted egress", meshed, testOperator, ingress, internet, PeerPort, false},
		{"a port of a sidecar from anywhere, unrestricted egress", meshed, testOperator, ingress, internet, 15008, false},
		{"a collector of traces", traced("http://otel.tracing.svc:4318"), testOperator, egress, collector, 4318, true},
		{"a collector by its short name", traced("http://otel.tracing:4318"), testOperator, egress, collector, 4318, true},
		{"a collector by its long name", traced("https://otel.tracing.svc.cluster.local./x"), testOperator, egress, collector, 443, true},
		{"a collector at another port", traced("http://otel.tracing.svc"), testOperator, egress, collector, 4318, false},
		{"a collector without tracing", network, testOperator, egress, collector, 4318, false},
		{"a pod elsewhere at the collector's port", traced("http://otel.tracing.svc:4318"), testOperator, egress, bystander, 4318, false},
		{"the internet at the collector's port", traced("http://otel.tracing.svc:4318"), testOperator, egress, internet, 4318, false},
		{"a collector that connects", traced("http://otel.tracing.svc:4318"), testOperator, ingress, collector, 4318, false},
		{"a collector of the namespace", traced("http://otel:4318"), testOperator, egress, neighbour, 4318, true},
		{"a collector of another namespace by a name of this one", traced("http://otel:4318"), testOperator, egress, collector, 4318, false},
		{"a collector at an address", traced("http://192.0.2.7:4318"), testOperator, egress, branch, 4318, true},
		{"an address beside the collector's", traced("http://192.0.2.7:4318"), testOperator, egress, vault, 4318, false},
		{"a collector at an address of IPv6", traced("http://[2001:db8::7]:4318"), testOperator, egress, end{address: "2001:db8::7"}, 4318, true},
		{"a collector somewhere", traced("https://collector.example.com"), testOperator, egress, branch, 443, false},
		{"a collector within the pod", traced("http://localhost:4318"), testOperator, egress, neighbour, 4318, false},
		{"a collector within the pod, by its address", traced("http://127.0.0.1:4318"), testOperator, egress, end{address: "127.0.0.2"}, 4318, false},
		{"a collector that the spec places", traced("https://collector.example.com", labelled), testOperator, egress, collector, 443, true},
		{"a pod beside it", traced("https://collector.example.com", labelled), testOperator, egress, besidePayer, 443, false},
	} {
		if got := allows(t, policiesOf(t, tt.network, tt.operator), tt.direction, pod, tt.other, tt.port); got != tt.want {
			t.Errorf("%s: allowed %v, want %v", tt.name, got, tt.want)
		}
	}
	// Others' pods are left alone.
	if !allows(t, policiesOf(t, network, testOperator), ingress, foreign, internet, 1) {
		t.Error("a pod of another network is isolated")
	}
}
