package resources

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// defaultVolumeSize is the default of the API's schema.
const defaultVolumeSize = 10 << 30

// PersistentVolumeClaim is a validator's volume. The StatefulSet has no claim template, so that the
// operator decides on the claim's owner, and when it ends.
func PersistentVolumeClaim(network *v1alpha1.DiseqNetwork, serial int) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	name, storage := ValidatorName(network.Name, serial), network.Spec.Storage
	size := storage.Size
	if size == nil {
		size = bytesOf(defaultVolumeSize)
	}
	spec := corev1ac.PersistentVolumeClaimSpec().
		WithAccessModes(cmp.Or(storage.AccessMode, corev1.ReadWriteOnce)).
		WithVolumeMode(corev1.PersistentVolumeFilesystem).
		WithResources(corev1ac.VolumeResourceRequirements().WithRequests(corev1.ResourceList{corev1.ResourceStorage: *size}))
	// Without the field the claim gets the default class; with an empty name it would get no class.
	if storage.StorageClassName != "" {
		spec.WithStorageClassName(storage.StorageClassName)
	}
	return retained(network, validatorLabels(network.Name, name),
		corev1ac.PersistentVolumeClaim(name, network.Namespace).WithSpec(spec).
			WithAnnotations(map[string]string{NetworkUIDAnnotation: string(network.UID)}))
}
