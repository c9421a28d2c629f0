package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

func TestADeletedNetworkLeavesItsChainBehindAndIsResumed(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "retain"), "kept", 3)
	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	keys, volumes, genesis, o := n.Secrets(), n.volumes(), n.MustGenesis(), n.Watch()
	receipt := n.Finalize("before the network is deleted")
	o.Check(t)
	height := o.Highest()

	n.remove()
	n.CheckSecrets(keys)
	n.checkVolumes(volumes)
	if now := n.MustGenesis().Hash(); now != genesis.Hash() {
		t.Errorf("the genesis document was %v, it is %v", genesis.Hash(), now)
	}

	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	d, err := n.Resource(t.Context())
	must(t, err)
	if d.Status.ChainID != genesis.ChainID {
		t.Errorf("the chain was %s, it is %s", genesis.ChainID, d.Status.ChainID)
	}
	o.Receipt(t, receipt)
	if later := n.Finalize("after it was applied again"); later.Height <= height {
		t.Errorf("the chain ended at height %d, a new message is at %d", height, later.Height)
	}
	o.Check(t)
	n.CheckSecrets(keys)
	n.checkVolumes(volumes)

	t.Run("with Delete nothing is left", func(t *testing.T) {
		n := n.For(t)
		n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Storage.Retention.OnDelete = v1alpha1.DeletePolicy }))
		n.AwaitConverged()
		o.stopRead()
		n.remove()
		Eventually(t, soon, "Secrets, claims and the genesis document are gone", func(ctx context.Context) error {
			return n.none(ctx, &corev1.SecretList{}, &corev1.PersistentVolumeClaimList{}, &corev1.ConfigMapList{}, &corev1.ServiceAccountList{})
		})
	})
}

// remove deletes the network and waits until all that runs is gone.
func (n *Network) remove() {
	n.tb.Helper()
	d, err := n.Resource(n.tb.Context())
	must(n.tb, err)
	must(n.tb, n.Delete(n.tb.Context(), d))
	n.removed = true
	Eventually(n.tb, soon, n.Name+" is deleted with all that runs", func(ctx context.Context) error {
		if _, err := n.Resource(ctx); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the resource is there: %w", err)
		}
		return n.none(ctx, &corev1.PodList{}, &appsv1.StatefulSetList{}, &corev1.ServiceList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{})
	})
}

// none returns an error that names the first object of the network that is still there.
func (n *Network) none(ctx context.Context, kinds ...ctrl.ObjectList) error {
	for _, list := range kinds {
		if err := n.List(ctx, list, ctrl.InNamespace(n.Namespace), ctrl.MatchingLabels{"diseq.io/network": n.Name}); err != nil {
			return err
		}
		objects, err := meta.ExtractList(list)
		if err != nil {
			return err
		}
		if len(objects) > 0 {
			return fmt.Errorf("%T %s is there, one of %d", objects[0], objects[0].(ctrl.Object).GetName(), len(objects))
		}
	}
	return nil
}

func (n *Network) volumes() (out []metav1.ObjectMeta) {
	n.tb.Helper()
	for k := range n.Validators {
		claim, err := n.Volume(n.tb.Context(), k)
		must(n.tb, err)
		out = append(out, claim.ObjectMeta)
	}
	return out
}

// checkVolumes fails the test unless all claims are the ones they were, and belong to nobody whose
// deletion would take them.
func (n *Network) checkVolumes(before []metav1.ObjectMeta) {
	n.tb.Helper()
	for k, claim := range n.volumes() {
		if claim.UID != before[k].UID || claim.DeletionTimestamp != nil || len(claim.OwnerReferences) > 0 {
			n.tb.Errorf("claim %s was %s, it is %s, deleted %v, of %v", claim.Name, before[k].UID, claim.UID, claim.DeletionTimestamp, claim.OwnerReferences)
		}
	}
}
