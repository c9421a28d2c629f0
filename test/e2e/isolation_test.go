package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
)

func TestTwoNetworksInANamespaceDoNotSeeEachOther(t *testing.T) {
	namespace := cluster.Namespace(t, "two")
	cluster.limitMemory(t, namespace)
	left, right := cluster.Network(t, namespace, "left", 2), cluster.Network(t, namespace, "right", 1)
	both := []*Network{left, right}
	left.Apply(left.Spec())
	right.Apply(right.Spec(cluster.crowded)) // containers of the user change nothing of this
	for _, n := range both {
		n.AwaitAvailable()
		n.AwaitConverged()
	}
	if left.MustGenesis().ChainID == right.MustGenesis().ChainID {
		t.Errorf("both have the chain %s", left.MustGenesis().ChainID)
	}
	for i, n := range both {
		o, other := n.Watch(), both[1-i]
		receipt := n.Finalize("for " + n.Name)
		Eventually(t, soon, other.Name+" answers", func(ctx context.Context) error {
			_, err := other.Service().Message(ctx, receipt.Message.ID)
			switch {
			case err == nil:
				t.Errorf("%s knows a message that %s got", other.Name, n.Name)
			case !client.NotFound(err):
				return err
			}
			return nil
		})
		if err := receipt.Verify(other.MustGenesis(), 0); err == nil {
			t.Errorf("a receipt of %s verifies with the genesis document of %s", n.Name, other.Name)
		}
		n.checkEndpoints(t)
		for k := range n.Validators {
			s, err := n.Node(k).Status(t.Context())
			must(t, err)
			if s.Validators != n.Validators || len(s.Peers) != n.Validators-1 {
				t.Errorf("%s has %d validators and %d peers: %v", n.PodName(k), s.Validators, len(s.Peers), s.Peers)
			}
		}
		o.Check(t)
		n.checkMemoryLimit(t)
	}
	right.checkCrowded(t)
}

func TestAnObjectOfSomebodyElseIsToldOfAndLeftAlone(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "names"), "taken", 1)
	theirs := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Namespace: n.Namespace},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "theirs"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	must(t, cluster.Create(t.Context(), theirs))
	n.Apply(n.Spec())
	n.awaitReason(v1alpha1.ConditionProgressing, "NameConflict")
	var now corev1.Service
	must(t, cluster.Get(t.Context(), n.key(n.Name), &now))
	if now.UID != theirs.UID || now.ResourceVersion != theirs.ResourceVersion {
		t.Errorf("their Service was changed: %v", now.ObjectMeta)
	}
	must(t, cluster.Delete(t.Context(), theirs))
	n.AwaitAvailable()
	n.Finalize("once the name is free")
}

// checkEndpoints fails the test unless the Service has the addresses of the network's own pods, all
// of them soon and no other ever.
func (n *Network) checkEndpoints(t *testing.T) {
	t.Helper()
	var want []string
	for k := range n.Validators {
		want = append(want, n.MustPod(k).Status.PodIP)
	}
	slices.Sort(want)
	Eventually(t, soon, "Service "+n.Name+" leads to all pods", func(ctx context.Context) error {
		var slicesOf discoveryv1.EndpointSliceList
		err := n.List(ctx, &slicesOf, ctrl.InNamespace(n.Namespace), ctrl.MatchingLabels{discoveryv1.LabelServiceName: n.Name})
		if err != nil {
			return err
		}
		var got []string
		for _, s := range slicesOf.Items {
			for _, e := range s.Endpoints {
				got = append(got, e.Addresses...)
			}
		}
		slices.Sort(got)
		if slices.ContainsFunc(got, func(address string) bool { return !slices.Contains(want, address) }) {
			t.Fatalf("Service %s leads to %v, the pods are %v", n.Name, got, want)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it leads to %v, the pods are %v", got, want)
		}
		return nil
	})
}

func TestOnlyClientsPortsAreReachedWhereNetworkPoliciesAreEnforced(t *testing.T) {
	namespace := cluster.Namespace(t, "policy")
	if !enforcesPolicies(t, namespace) {
		t.Skip("NetworkPolicy is not enforced by this cluster's network: not tested")
	}
	n := cluster.Network(t, namespace, "walled", 2)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	n.Submit("from a pod that is nobody's") // clients are let in
	address := n.MustPod(0).Status.PodIP
	for _, port := range []int{peerPort, operationsPort} {
		if reached, printed := n.reaches(t, address, port); reached {
			t.Errorf("a pod of no network reaches port %d: %s", port, printed)
		}
	}
	// Clients are let in from where the spec says, and from nowhere else.
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Access = &v1alpha1.Access{Networks: []v1alpha1.NetworkPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"may": "come"}}}}}
	}))
	Eventually(t, soon, "a pod that is not listed is kept out", func(context.Context) error {
		if reached, printed := n.reaches(t, address, publicPort); reached {
			return fmt.Errorf("it reaches the port: %s", printed)
		}
		return nil
	})
}

// enforcesPolicies tries with two plain pods whether a policy that lets nothing in has an effect.
func enforcesPolicies(t *testing.T, namespace string) bool {
	t.Helper()
	probe := cluster.Network(t, namespace, "probe", 1)
	server := cluster.clientPod(namespace, "server", "devnet", "--validators", "1", "--threshold", "1", "--dir", "/tmp/net", "--http", "0.0.0.0:8080")
	server.Labels = map[string]string{"e2e": "server"}
	must(t, cluster.Create(t.Context(), server))
	Eventually(t, soon, "a plain pod reaches another", func(ctx context.Context) error {
		if err := cluster.Get(ctx, ctrl.ObjectKeyFromObject(server), server); err != nil {
			return err
		}
		if server.Status.PodIP == "" {
			return fmt.Errorf("it is %s", server.Status.Phase)
		}
		if _, err := cluster.proxy(namespace, "pods/server:8080").Status(ctx); err != nil {
			return err
		}
		return nil
	})
	if reached, printed := probe.reaches(t, server.Status.PodIP, publicPort); !reached {
		t.Fatalf("a plain pod does not reach another without any policy: %s", printed)
	}
	must(t, cluster.Create(t.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: namespace},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: server.Labels}, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		},
	}))
	// Where policies are enforced that takes effect after a moment.
	for range 3 {
		if reached, _ := probe.reaches(t, server.Status.PodIP, publicPort); !reached {
			return true
		}
	}
	return false
}

// reaches reports whether a pod without labels gets any answer from a port.
func (n *Network) reaches(t *testing.T, address string, port int) (reached bool, printed string) {
	t.Helper()
	pod := n.clientPod(n.Namespace, fmt.Sprintf("probe-%d-%d", port, time.Now().UnixMilli()), "get", "status", "--timeout", "3s",
		"--url", fmt.Sprintf("http://%s:%d", address, port))
	printed, ok := n.runPod(t, pod)
	cut := strings.Contains(printed, "timeout") || strings.Contains(printed, "deadline exceeded") || strings.Contains(printed, "refused") || strings.Contains(printed, "unreachable")
	return ok || !cut, printed
}

// awaitReason waits until a condition has a reason.
func (n *Network) awaitReason(condition, reason string) {
	n.tb.Helper()
	Eventually(n.tb, soon, fmt.Sprintf("%s: %s has reason %s", n.Name, condition, reason), func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(d.Status.Conditions, condition)
		if c == nil || c.Reason != reason || c.Status != metav1.ConditionFalse {
			return errors.New(conditions(d))
		}
		n.tb.Logf("        %s", c.Message)
		return nil
	})
}
