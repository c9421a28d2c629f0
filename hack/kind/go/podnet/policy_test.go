package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(namespace, name, node, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "gossip", ContainerPort: 7700, Protocol: corev1.ProtocolUDP}},
		}}},
		Status: corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
}

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func port(p intstr.IntOrString) netv1.NetworkPolicyPort { return netv1.NetworkPolicyPort{Port: &p} }

func TestWhatAPolicyLetsThrough(t *testing.T) {
	udp, last := corev1.ProtocolUDP, int32(90)
	ports := func(p ...netv1.NetworkPolicyPort) []netv1.NetworkPolicyPort { return p }
	ingressOf := func(rules ...netv1.NetworkPolicyIngressRule) netv1.NetworkPolicySpec {
		return netv1.NetworkPolicySpec{PodSelector: *app("a"), PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress}, Ingress: rules}
	}
	egressOf := func(rules ...netv1.NetworkPolicyEgressRule) netv1.NetworkPolicySpec {
		return netv1.NetworkPolicySpec{PodSelector: *app("a"), PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeEgress}, Egress: rules}
	}
	from := func(peers ...netv1.NetworkPolicyPeer) netv1.NetworkPolicyIngressRule {
		return netv1.NetworkPolicyIngressRule{From: peers}
	}
	for _, test := range []struct {
		name    string
		spec    netv1.NetworkPolicySpec
		in, out []string // nil: not judged at all; what it may send to itself is left out
	}{
		{name: "another pod is selected", spec: netv1.NetworkPolicySpec{
			PodSelector: *app("b"), PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress}}},
		{name: "nothing comes in", spec: ingressOf(), in: []string{}},
		{name: "nothing goes out", spec: egressOf(), out: []string{}},
		{name: "anything comes in", spec: ingressOf(netv1.NetworkPolicyIngressRule{}), in: []string{"accept"}},
		{name: "pods of the namespace", spec: ingressOf(from(netv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}})),
			in: []string{"ip saddr 10.0.0.1 accept", "ip saddr 10.0.1.2 accept"}},
		{name: "pods of a namespace by its labels", spec: ingressOf(from(netv1.NetworkPolicyPeer{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "other"}}})),
			in: []string{"ip saddr 10.0.1.9 accept"}},
		{name: "both selectors must match", spec: ingressOf(from(netv1.NetworkPolicyPeer{
			NamespaceSelector: &metav1.LabelSelector{}, PodSelector: app("b")})),
			in: []string{"ip saddr 10.0.1.2 accept"}},
		{name: "a selector that matches no pod lets nothing in", spec: ingressOf(from(netv1.NetworkPolicyPeer{PodSelector: app("z")})),
			in: []string{}},
		{name: "a block without a part of it", spec: ingressOf(from(netv1.NetworkPolicyPeer{
			IPBlock: &netv1.IPBlock{CIDR: "10.9.0.0/16", Except: []string{"10.9.1.0/24", "10.9.2.0/24"}}})),
			in: []string{"ip saddr 10.9.0.0/16 ip saddr != { 10.9.1.0/24, 10.9.2.0/24 } accept"}},
		{name: "a number, a range, a protocol", spec: ingressOf(netv1.NetworkPolicyIngressRule{Ports: ports(
			port(intstr.FromInt32(80)),
			netv1.NetworkPolicyPort{Port: &intstr.IntOrString{IntVal: 80}, EndPort: &last},
			netv1.NetworkPolicyPort{Protocol: &udp},
		)}), in: []string{"tcp dport 80 accept", "tcp dport 80-90 accept", "ip protocol udp accept"}},
		{name: "a named port is that of who is asked, here the pod itself",
			spec: ingressOf(netv1.NetworkPolicyIngressRule{Ports: ports(port(intstr.FromString("http")), port(intstr.FromString("none")))}),
			in:   []string{"tcp dport 8080 accept"}},
		{name: "a named port is that of who is asked, here its peer", spec: egressOf(netv1.NetworkPolicyEgressRule{
			To:    []netv1.NetworkPolicyPeer{{PodSelector: app("b")}},
			Ports: ports(netv1.NetworkPolicyPort{Protocol: &udp, Port: &intstr.IntOrString{Type: intstr.String, StrVal: "gossip"}}),
		}), out: []string{"ip daddr 10.0.1.2 udp dport 7700 accept"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := pod("ns", "a", "one", "10.0.0.1")
			ended, onHost := pod("ns", "ended", "one", "10.0.0.7"), pod("ns", "host", "one", "172.16.0.1")
			ended.Status.Phase, onHost.Spec.HostNetwork = corev1.PodSucceeded, true
			seen := observed{
				pods:       []*corev1.Pod{pod("other", "c", "two", "10.0.1.9"), pod("ns", "b", "two", "10.0.1.2"), a, ended, onHost},
				namespaces: map[string]labels.Set{"ns": {"team": "own"}, "other": {"team": "other"}},
				policies: []*netv1.NetworkPolicy{
					{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: test.spec},
					{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "of-another-namespace"}, Spec: netv1.NetworkPolicySpec{
						PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress, netv1.PolicyTypeEgress}}},
				},
			}
			check := func(d direction, want []string) {
				rules, selected := seen.rulesFor(a, d)
				if selected != (want != nil) {
					t.Fatalf("%s: selected is %v", d.name, selected)
				}
				if !selected {
					return
				}
				if want = append([]string{d.far + " 10.0.0.1 accept"}, want...); !slices.Equal(rules, want) {
					t.Errorf("%s: got %q, want %q", d.name, rules, want)
				}
			}
			check(ingress, test.in)
			check(egress, test.out)
		})
	}
}

// The rules for a node's own pods, and for no others; nft must take them as they are, where it is
// installed and may be asked.
func TestRulesOfANode(t *testing.T) {
	seen := observed{
		pods: []*corev1.Pod{pod("ns", "b", "two", "10.0.1.2"), pod("ns", "a", "one", "10.0.0.1"), pod("ns", "free", "one", "10.0.0.3")},
		policies: []*netv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: netv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"free"}}}},
			PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress, netv1.PolicyTypeEgress},
			Ingress: []netv1.NetworkPolicyIngressRule{{
				From: []netv1.NetworkPolicyPeer{{IPBlock: &netv1.IPBlock{CIDR: "10.9.0.0/16", Except: []string{"10.9.1.0/24"}}}}}},
		}}},
	}
	want := `table ip podnet
delete table ip podnet
table ip podnet {
chain leaving {
type nat hook postrouting priority srcnat;
ip saddr 10.0.0.0/24 ip daddr != 10.0.0.0/16 masquerade
}
chain pod_egress_0 { # ns/a
ip daddr 10.0.0.1 accept
drop
}
chain forward_egress {
type filter hook forward priority 0;
ct state established,related accept
ip saddr vmap { 10.0.0.1 : goto pod_egress_0 }
}
chain input_egress {
type filter hook input priority 0;
ct state established,related accept
ip saddr vmap { 10.0.0.1 : goto pod_egress_0 }
}
chain pod_ingress_0 { # ns/a
ip saddr 10.0.0.1 accept
ip saddr 10.9.0.0/16 ip saddr != { 10.9.1.0/24 } accept
drop
}
chain forward_ingress {
type filter hook forward priority 1;
ct state established,related accept
ip daddr vmap { 10.0.0.1 : goto pod_ingress_0 }
}
}
`
	rules := ruleset("one", "10.0.0.0/24", "10.0.0.0/16", seen)
	if rules != want {
		t.Fatalf("got\n%s\nwant\n%s", rules, want)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Log("nft is not installed, so it was not asked")
		return
	}
	nft := exec.Command("unshare", "--net", "nft", "--check", "--file", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		if strings.Contains(string(output), "not permitted") {
			t.Logf("nft was not asked: %s", output)
			return
		}
		t.Errorf("nft: %v: %s", err, output)
	}
}
