package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// direction is ingress or egress, seen from the pod that a policy selects.
type direction struct {
	policyType netv1.PolicyType
	name       string
	near, far  string // nft's words for the address of the pod, and for that of its peer
}

var (
	ingress = direction{policyType: netv1.PolicyTypeIngress, name: "ingress", near: "ip daddr", far: "ip saddr"}
	egress  = direction{policyType: netv1.PolicyTypeEgress, name: "egress", near: "ip saddr", far: "ip daddr"}
)

// ruleset returns all our rules in nft's language, in an order that depends only on the arguments:
// own is the pod CIDR of the node of that name, podNet that of all nodes together.
//
// Both nodes judge a packet between two pods as they forward it: the sender's node by the rules for
// egress, the receiver's by those for ingress. "accept" ends one base chain and does not decide the
// next, so each direction has a chain. A packet from a pod to a service on its own node is not
// forwarded but taken in. Packets from a node to its own pods are never judged, so that the
// kubelet's probes pass.
func ruleset(node, own, podNet string, seen observed) string {
	var b strings.Builder
	// nft cannot delete a table that does not exist.
	b.WriteString("table ip podnet\ndelete table ip podnet\ntable ip podnet {\n")
	fmt.Fprintf(&b, "chain leaving {\ntype nat hook postrouting priority srcnat;\nip saddr %s ip daddr != %s masquerade\n}\n", own, podNet)
	for _, d := range []direction{egress, ingress} {
		var verdicts []string
		for _, pod := range localPods(node, seen.pods) {
			rules, selected := seen.rulesFor(pod, d)
			if !selected {
				continue
			}
			chain := fmt.Sprintf("pod_%s_%d", d.name, len(verdicts))
			fmt.Fprintf(&b, "chain %s { # %s/%s\n", chain, pod.Namespace, pod.Name)
			for _, rule := range rules {
				b.WriteString(rule + "\n")
			}
			b.WriteString("drop\n}\n")
			verdicts = append(verdicts, pod.Status.PodIP+" : goto "+chain)
		}
		if len(verdicts) == 0 {
			continue
		}
		hooks := []string{"forward priority 0"}
		if d == egress {
			hooks = append(hooks, "input priority 0")
		} else {
			hooks = []string{"forward priority 1"}
		}
		for _, hook := range hooks {
			fmt.Fprintf(&b, "chain %s_%s {\ntype filter hook %s;\nct state established,related accept\n%s vmap { %s }\n}\n",
				strings.Fields(hook)[0], d.name, hook, d.near, strings.Join(verdicts, ", "))
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// localPods returns the pods with an address of their own on that node, by name.
func localPods(node string, pods []*corev1.Pod) []*corev1.Pod {
	var local []*corev1.Pod
	for _, pod := range pods {
		if pod.Spec.NodeName == node && hasAddress(pod) {
			local = append(local, pod)
		}
	}
	sortPods(local)
	return local
}

func sortPods(pods []*corev1.Pod) {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func hasAddress(pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !ended
}

// rulesFor returns the rules for the traffic that a pod may receive or send, and whether any policy
// selects the pod. A pod that none selects may receive and send everything.
func (o observed) rulesFor(pod *corev1.Pod, d direction) (rules []string, selected bool) {
	policies := slices.Clone(o.policies)
	slices.SortFunc(policies, func(a, b *netv1.NetworkPolicy) int { return cmp.Compare(a.Name, b.Name) })
	for _, policy := range policies {
		if policy.Namespace != pod.Namespace || !slices.Contains(policy.Spec.PolicyTypes, d.policyType) ||
			!matches(&policy.Spec.PodSelector, pod.Labels) {
			continue
		}
		if !selected {
			// A pod always reaches itself.
			rules, selected = append(rules, fmt.Sprintf("%s %s accept", d.far, pod.Status.PodIP)), true
		}
		if d == ingress {
			for _, rule := range policy.Spec.Ingress {
				rules = append(rules, o.accept(pod, d, rule.From, rule.Ports)...)
			}
		} else {
			for _, rule := range policy.Spec.Egress {
				rules = append(rules, o.accept(pod, d, rule.To, rule.Ports)...)
			}
		}
	}
	return rules, selected
}

// accept returns the rules for one entry of a policy: traffic with any of the peers on any of the
// ports.
func (o observed) accept(pod *corev1.Pod, d direction, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort) []string {
	var rules []string
	for _, end := range o.ends(pod.Namespace, d, peers) {
		server := pod
		if d == egress {
			server = end.pod
		}
		for _, port := range portMatches(ports, server) {
			rules = append(rules, strings.Join(strings.Fields(end.match+" "+port+" accept"), " "))
		}
	}
	return rules
}

// end is one end of a connection.
type end struct {
	match string      // empty: anywhere
	pod   *corev1.Pod // nil for an address that need not be a pod's
}

func (o observed) ends(namespace string, d direction, peers []netv1.NetworkPolicyPeer) []end {
	if len(peers) == 0 {
		return []end{{}}
	}
	var ends []end
	for _, peer := range peers {
		if block := peer.IPBlock; block != nil {
			match := fmt.Sprintf("%s %s", d.far, block.CIDR)
			if len(block.Except) > 0 {
				match += fmt.Sprintf(" %s != { %s }", d.far, strings.Join(block.Except, ", "))
			}
			if !strings.Contains(block.CIDR, ":") {
				ends = append(ends, end{match: match})
			}
			continue
		}
		var pods []*corev1.Pod
		for _, pod := range o.pods {
			inNamespace := pod.Namespace == namespace
			if peer.NamespaceSelector != nil {
				inNamespace = matches(peer.NamespaceSelector, o.namespaces[pod.Namespace])
			}
			if inNamespace && hasAddress(pod) && (peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels)) {
				pods = append(pods, pod)
			}
		}
		sortPods(pods)
		for _, pod := range pods {
			ends = append(ends, end{match: d.far + " " + pod.Status.PodIP, pod: pod})
		}
	}
	return ends
}

// portMatches returns one match for each port. A name means the port of that name in the server's
// pod, if there is one.
func portMatches(ports []netv1.NetworkPolicyPort, server *corev1.Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var found []string
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		low := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			found = append(found, "ip protocol "+low)
		case port.Port.Type == intstr.String:
			for _, number := range namedPorts(server, port.Port.StrVal, protocol) {
				found = append(found, fmt.Sprintf("%s dport %d", low, number))
			}
		case port.EndPort != nil && *port.EndPort > port.Port.IntVal:
			found = append(found, fmt.Sprintf("%s dport %d-%d", low, port.Port.IntVal, *port.EndPort))
		default:
			found = append(found, fmt.Sprintf("%s dport %d", low, port.Port.IntVal))
		}
	}
	return found
}

func namedPorts(pod *corev1.Pod, name string, protocol corev1.Protocol) []int32 {
	if pod == nil {
		return nil
	}
	var numbers []int32
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && cmp.Or(port.Protocol, corev1.ProtocolTCP) == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

// matches reports whether a selector, which the API server has checked, selects these labels.
func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}
