package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// A network with a storage class that does not exist waits. Somebody tries to help by deleting one
// of the claims. Then the class is corrected, and nothing else has to be done.
func TestAWrongStorageClassAtBirthIsCorrected(t *testing.T) {
	n := cluster.Network(t, cluster.Namespace(t, "unborn"), "unborn", 3)
	n.Apply(n.Spec(func(s *v1alpha1.DiseqNetworkSpec) { s.Storage.StorageClassName = "standrad" }))
	Eventually(t, soon, "the resource says that no volume is made", func(ctx context.Context) error {
		d, err := n.Resource(ctx)
		if err != nil {
			return err
		}
		if told := conditions(d); !strings.Contains(told, "Unschedulable") {
			return fmt.Errorf("it says %s", told)
		}
		return nil
	})
	keys := n.Secrets()
	typo, err := n.Volume(t.Context(), 1)
	must(t, err)
	must(t, n.Delete(t.Context(), typo))
	Eventually(t, soon, "the claim is made anew", func(ctx context.Context) error {
		claim, err := n.Volume(ctx, 1)
		if err == nil && claim.UID == typo.UID {
			err = fmt.Errorf("claim %s is there still", claim.UID)
		}
		return err
	})

	n.Apply(n.Spec())
	n.AwaitAvailable()
	n.AwaitConverged()
	n.Finalize("after the class was corrected")
	n.CheckSecrets(keys)
	d, err := n.Resource(t.Context())
	must(t, err)
	for k, m := range d.Status.Members {
		claim, err := n.Volume(t.Context(), k)
		must(t, err)
		if m.VolumeUID != string(claim.UID) || claim.Status.Phase != corev1.ClaimBound || m.Phase != v1alpha1.MemberValidator || !m.VoteStore {
			t.Errorf("%s is %+v on claim %s, which is %s", m.Name, m, claim.UID, claim.Status.Phase)
		}
	}
}
