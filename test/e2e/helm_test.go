package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

func TestNetworksOutliveUpgradesAndRemovalsOfTheOperator(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "helm"), "outlives", 1)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	keys, o, l, before := n.Secrets(), n.Watch(), n.Write("helm"), n.identity()
	// However this test ends, the others find the operator as they left it.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := InstallOperator(ctx); err != nil {
			t.Errorf("the operator is not installed again: %v", err)
		}
	})

	must(t, InstallOperator(t.Context(), "--set", "log.level=debug"))
	n.unchanged("helm upgrade", before)

	must(t, Helm(t.Context(), "uninstall", OperatorName, "--namespace", OperatorNamespace, "--wait"))
	Eventually(t, soon, "the operator is gone", func(ctx context.Context) error {
		if pods, err := cluster.OperatorPods(ctx); err == nil {
			return fmt.Errorf("%d pods are there", len(pods))
		}
		return nil
	})
	n.unchanged("helm uninstall", before)
	n.Finalize("without an operator")
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) {
		s.Service.Annotations = map[string]string{"e2e": "changed meanwhile"}
	}))

	must(t, InstallOperator(t.Context()))
	Eventually(t, soon, "the operator does what was asked for meanwhile", func(ctx context.Context) error {
		var service corev1.Service
		err := n.Get(ctx, n.key(n.Name), &service)
		if err == nil && service.Annotations["e2e"] != "changed meanwhile" {
			err = fmt.Errorf("the Service has the annotations %v", service.Annotations)
		}
		return err
	})
	n.AwaitConverged()
	n.unchanged("helm install", before)
	l.Stop()
	t.Logf("        %v", l)
	o.Check(t, l)
	n.CheckSecrets(keys)
}

// identity is what must be the same objects after whatever becomes of the operator.
func (n *Network) identity() map[string]types.UID {
	n.tb.Helper()
	ctx := n.tb.Context()
	out := map[string]types.UID{}
	add := func(what string, o ctrl.Object, err error) {
		n.tb.Helper()
		must(n.tb, err)
		out[what] = o.GetUID()
	}
	d, err := n.Resource(ctx)
	add("resource", d, err)
	pod, err := n.Pod(ctx, 0)
	add("pod", pod, err)
	claim, err := n.Volume(ctx, 0)
	add("claim", claim, err)
	set := &appsv1.StatefulSet{}
	add("StatefulSet", set, n.Get(ctx, n.key(n.ValidatorName(0)), set))
	crd := &metav1.PartialObjectMetadata{}
	crd.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	add("CRD", crd, n.Get(ctx, ctrl.ObjectKey{Name: "diseqnetworks.diseq.io"}, crd))
	return out
}

func (n *Network) unchanged(after string, before map[string]types.UID) {
	n.tb.Helper()
	for what, uid := range n.identity() {
		if uid != before[what] {
			n.tb.Errorf("after %s the %s is another one", after, what)
		}
	}
}
