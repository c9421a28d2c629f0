package resources

import (
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// object is an apply configuration of any kind.
type object[T any] interface {
	WithLabels(map[string]string) T
	WithAnnotations(map[string]string) T
	WithOwnerReferences(...*metav1ac.OwnerReferenceApplyConfiguration) T
}

// owned completes an object that is deleted with the network.
func owned[T object[T]](network *v1alpha1.DiseqNetwork, labels map[string]string, o T) T {
	return stamped(o.WithLabels(labels).WithOwnerReferences(owner(network)))
}

// retained completes an object that a deleted network leaves behind if its spec says so. Then the
// object has no owner, because the garbage collector deletes every object whose owner is gone.
func retained[T object[T]](network *v1alpha1.DiseqNetwork, labels map[string]string, o T) T {
	o = o.WithLabels(withoutInstance(labels))
	if network.Spec.Storage.Retention.OnDelete == v1alpha1.DeletePolicy {
		o = o.WithOwnerReferences(owner(network))
	}
	return stamped(o)
}

// stamped adds the hash of an object to it.
func stamped[T object[T]](o T) T {
	return o.WithAnnotations(map[string]string{AppliedAnnotation: Hash(o)})
}

func owner(network *v1alpha1.DiseqNetwork) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).WithKind("DiseqNetwork").WithName(network.Name).WithUID(network.UID).
		WithController(true).WithBlockOwnerDeletion(true)
}
