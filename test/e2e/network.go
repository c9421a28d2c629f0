package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// A Network is a DiseqNetwork of a test.
type Network struct {
	*Cluster
	Namespace, Name string
	Validators      int

	// members are the serial numbers of the validators in force after the set has changed.
	members []int
	// removed says that the network was deleted or moved: the next one asks for what is there.
	removed bool
	tb      testing.TB
}

// serials are the serial numbers of the validators.
func (n *Network) serials() []int {
	if n.members != nil {
		return n.members
	}
	all := make([]int, n.Validators)
	for k := range all {
		all[k] = k
	}
	return all
}

// Network returns a network of a namespace, before it is applied.
func (c *Cluster) Network(tb testing.TB, namespace, name string, validators int) *Network {
	return &Network{Cluster: c, Namespace: namespace, Name: name, Validators: validators, tb: tb}
}

// For is the network in a subtest.
func (n *Network) For(tb testing.TB) *Network {
	out := *n
	out.tb = tb
	return &out
}

// Spec is a network of small nodes, so that several fit on a small machine, with these changes.
// Half of the usual number of blocks a second suffices to find a fork, and is quick to read again.
// A test that counts requests wants a longer drain.
func (n *Network) Spec(changes ...func(*v1alpha1.DiseqNetworkSpec)) v1alpha1.DiseqNetworkSpec {
	size := resource.MustParse("1Gi")
	out := v1alpha1.DiseqNetworkSpec{
		Image: n.Image, Validators: int32(n.Validators), Storage: v1alpha1.Storage{Size: &size},
		Consensus: v1alpha1.Consensus{MinBlockInterval: &metav1.Duration{Duration: 100 * time.Millisecond}},
		PodTemplate: v1alpha1.PodTemplate{Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		}}},
		Service: v1alpha1.Service{Drain: &metav1.Duration{Duration: time.Second}},
	}
	if n.removed {
		out.ExistingObjects = v1alpha1.AdoptExisting
	}
	for _, change := range changes {
		change(&out)
	}
	return out
}

// TryApply applies the network as `kubectl apply --server-side` does, and returns the error of the
// API server.
func (n *Network) TryApply(ctx context.Context, spec v1alpha1.DiseqNetworkSpec) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": content}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DiseqNetwork"))
	u.SetName(n.Name)
	u.SetNamespace(n.Namespace)
	return n.WithWatch.Apply(ctx, ctrl.ApplyConfigurationFromUnstructured(u), ctrl.FieldOwner("e2e"))
}

// Apply applies the network.
func (n *Network) Apply(spec v1alpha1.DiseqNetworkSpec) {
	n.tb.Helper()
	must(n.tb, n.TryApply(n.tb.Context(), spec))
}

// Resource returns the network's resource.
func (n *Network) Resource(ctx context.Context) (*v1alpha1.DiseqNetwork, error) {
	out := &v1alpha1.DiseqNetwork{}
	return out, n.Get(ctx, n.key(n.Name), out)
}

func (n *Network) key(name string) ctrl.ObjectKey {
	return ctrl.ObjectKey{Namespace: n.Namespace, Name: name}
}

// Await waits until a condition of the network's resource, seen at its present generation, has a
// status.
func (n *Network) Await(within time.Duration, condition string, status metav1.ConditionStatus) time.Duration {
	n.tb.Helper()
	return Eventually(n.tb, within, fmt.Sprintf("%s: %s=%s", n.Name, condition, status), func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(d.Status.Conditions, condition)
		if c == nil || d.Status.ObservedGeneration != d.Generation || c.Status != status {
			return errors.New(conditions(d))
		}
		return nil
	})
}

// AwaitAvailable waits until the network is available.
func (n *Network) AwaitAvailable() {
	n.tb.Helper()
	n.Await(soon, v1alpha1.ConditionAvailable, metav1.ConditionTrue)
}

// AwaitConverged waits until all validators run the current template, and vote, and the operator
// has nothing left to do.
func (n *Network) AwaitConverged() {
	n.tb.Helper()
	Eventually(n.tb, soon, n.Name+": all validators are ready and up to date", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		ready := int(d.Status.ReadyValidators) == n.Validators && d.Status.ObservedGeneration == d.Generation &&
			meta.IsStatusConditionTrue(d.Status.Conditions, v1alpha1.ConditionAvailable) &&
			meta.IsStatusConditionFalse(d.Status.Conditions, v1alpha1.ConditionProgressing) &&
			meta.IsStatusConditionFalse(d.Status.Conditions, v1alpha1.ConditionDegraded)
		if !ready {
			return fmt.Errorf("%d of %d ready, %s", d.Status.ReadyValidators, n.Validators, conditions(d))
		}
		for _, k := range n.serials() {
			pod, err := n.Pod(ctx, k)
			if err != nil {
				return err
			}
			if pod.DeletionTimestamp != nil || !ready0(pod) {
				return fmt.Errorf("%s is not ready", pod.Name)
			}
			if got := pod.Spec.Containers[0].Image; got != d.Spec.Image {
				return fmt.Errorf("%s runs %s", pod.Name, got)
			}
		}
		return nil
	})
}

// conditions prints the conditions of a resource in one line.
func conditions(d *v1alpha1.DiseqNetwork) string {
	out := make([]string, 0, len(d.Status.Conditions))
	for _, c := range d.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s %q", c.Type, c.Status, c.Reason, c.Message))
	}
	if len(out) == 0 {
		out = []string{"no conditions"}
	}
	return fmt.Sprintf("generation %d observed %d: %s", d.Generation, d.Status.ObservedGeneration, strings.Join(out, ", "))
}

// ValidatorName is the name of a validator, which its Secret, StatefulSet and volume have as well.
func (n *Network) ValidatorName(k int) string { return fmt.Sprintf("%s-v%d", n.Name, k) }

// PodName is the name of a validator's pod.
func (n *Network) PodName(k int) string { return n.ValidatorName(k) + "-0" }

// Pod returns the pod of a validator.
func (n *Network) Pod(ctx context.Context, k int) (*corev1.Pod, error) {
	out := &corev1.Pod{}
	return out, n.Get(ctx, n.key(n.PodName(k)), out)
}

// MustPod returns the pod of a validator, and fails the test if there is none.
func (n *Network) MustPod(k int) *corev1.Pod {
	n.tb.Helper()
	pod, err := n.Pod(n.tb.Context(), k)
	must(n.tb, err)
	return pod
}

func ready0(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// AwaitNewPod waits until the pod of a validator is ready and not the old one.
func (n *Network) AwaitNewPod(k int, old *corev1.Pod) *corev1.Pod {
	n.tb.Helper()
	var pod *corev1.Pod
	Eventually(n.tb, soon, n.PodName(k)+" is replaced and ready", func(ctx context.Context) (err error) {
		if pod, err = n.Pod(ctx, k); err != nil {
			return err
		}
		switch {
		case pod.UID == old.UID:
			return errors.New("the old pod is still there")
		case !ready0(pod):
			return fmt.Errorf("the new pod is %s and not ready", pod.Status.Phase)
		}
		return nil
	})
	return pod
}

// Volume returns the claim of a validator's volume.
func (n *Network) Volume(ctx context.Context, k int) (*corev1.PersistentVolumeClaim, error) {
	out := &corev1.PersistentVolumeClaim{}
	return out, n.Get(ctx, n.key(n.ValidatorName(k)), out)
}

// StatefulSet returns the StatefulSet of a validator.
func (n *Network) StatefulSet(ctx context.Context, k int) (*appsv1.StatefulSet, error) {
	out := &appsv1.StatefulSet{}
	return out, n.Get(ctx, n.key(n.ValidatorName(k)), out)
}

// ServicePath reaches the network through its Service: the API server picks a ready node.
func (n *Network) Service() *client.Client {
	return n.proxy(n.Namespace, "services/"+n.Name+":http")
}

// Node reaches one validator, ready or not.
func (n *Network) Node(k int) *client.Client {
	return n.proxy(n.Namespace, fmt.Sprintf("pods/%s:%d", n.PodName(k), publicPort))
}

const (
	publicPort     = 8080
	peerPort       = 7700
	operationsPort = 9090
)

// Genesis returns the genesis document from the cluster, as a user gets it.
func (n *Network) Genesis(ctx context.Context) (*chain.Genesis, error) {
	document := &corev1.ConfigMap{}
	if err := n.Get(ctx, n.key(n.Name+"-genesis"), document); err != nil {
		return nil, err
	}
	return chain.ReadGenesis(strings.NewReader(document.Data["genesis.json"]))
}

// MustGenesis returns the genesis document, and fails the test if there is none.
func (n *Network) MustGenesis() *chain.Genesis {
	n.tb.Helper()
	g, err := n.Genesis(n.tb.Context())
	must(n.tb, err)
	return g
}

// Finalize submits a message through the Service and returns its receipt, verified with the genesis
// document of the cluster.
func (n *Network) Finalize(message string) *chain.Receipt {
	n.tb.Helper()
	var receipt *chain.Receipt
	Eventually(n.tb, soon, fmt.Sprintf("%s: %q is final", n.Name, message), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		results, err := n.Service().SubmitWait(ctx, []byte(message))
		if err == nil {
			receipt = results[0].Receipt
		}
		return err
	})
	if err := receipt.Verify(n.MustGenesis(), 0); err != nil {
		n.tb.Fatalf("%s: the receipt of %q does not verify: %v", n.Name, message, err)
	}
	return receipt
}
