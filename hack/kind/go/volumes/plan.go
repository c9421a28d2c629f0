package main

import (
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// The provisioner that a StorageClass names to get these volumes.
	provisioner = "diseq-kind/volumes"

	// Kubernetes sets the first two on a claim: the provisioner of its class, and the node of its
	// pod. The third marks volumes as ours: Kubernetes leaves the removal of such a volume to us.
	provisionerOfClaim  = "volume.kubernetes.io/storage-provisioner"
	nodeOfClaim         = "volume.kubernetes.io/selected-node"
	provisionerOfVolume = "pv.kubernetes.io/provisioned-by"
)

// node is the machine that this runs on.
type node struct {
	name string
	root string // the directory that holds all volumes
}

// A plan says which volumes to make and which to remove.
type plan struct{ create, remove []*corev1.PersistentVolume }

// plan says what this node has to do about the observed objects.
func (n node) plan(seen observed) plan {
	var p plan
	classes := map[string]*storagev1.StorageClass{}
	for _, class := range seen.classes {
		classes[class.Name] = class
	}
	exists := map[string]bool{}
	for _, volume := range seen.volumes {
		exists[volume.Name] = true
		if n.owns(volume) && volume.Status.Phase == corev1.VolumeReleased && volume.DeletionTimestamp == nil &&
			volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			p.remove = append(p.remove, volume)
		}
	}
	for _, claim := range seen.claims {
		name := claim.Spec.StorageClassName
		if name == nil || classes[*name] == nil || exists[volumeName(claim)] || !n.serves(claim) {
			continue
		}
		p.create = append(p.create, n.volume(claim, classes[*name]))
	}
	return p
}

// serves tells whether the claim waits for a volume on this node.
func (n node) serves(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil &&
		claim.Annotations[provisionerOfClaim] == provisioner && claim.Annotations[nodeOfClaim] == n.name
}

// owns tells whether the volume is a directory that this node made.
func (n node) owns(volume *corev1.PersistentVolume) bool {
	return volume.Annotations[provisionerOfVolume] == provisioner && volume.Spec.HostPath != nil &&
		volume.Spec.HostPath.Path == n.path(volume.Name) && volume.Annotations[nodeOfClaim] == n.name
}

func (n node) path(volume string) string { return filepath.Join(n.root, volume) }

func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// volume is the claim's volume, a directory of this node.
func (n node) volume(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) *corev1.PersistentVolume {
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	filesystem := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumeName(claim),
			Annotations: map[string]string{provisionerOfVolume: provisioner, nodeOfClaim: n.name},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			VolumeMode:                    &filesystem,
			ClaimRef: &corev1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: n.path(volumeName(claim))}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{n.name},
				}},
			}}}},
		},
	}
}
