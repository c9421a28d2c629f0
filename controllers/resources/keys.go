package resources

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// KeySecret is the Secret of a new validator. The operator creates it and never updates its data:
// files are the files of the validator's identity (see identity.Files). It is immutable and has no
// owner. KeySecretMetadata has the parts that may change.
func KeySecret(network *v1alpha1.DiseqNetwork, serial int, files map[string][]byte) *corev1.Secret {
	name, immutable := ValidatorName(network.Name, serial), true
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: secretKind},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: network.Namespace, Labels: withoutInstance(validatorLabels(network.Name, name)),
			Annotations: map[string]string{VotesWhenRecordedAnnotation: "true"},
		},
		Type:      corev1.SecretTypeOpaque,
		Immutable: &immutable,
		Data:      files,
	}
}

// Records are what a key Secret remembers of its validator.
type Records struct {
	// FirstVolume is the UID of its first volume claim; empty if there was none yet.
	FirstVolume types.UID
	// Unused is the UID of a first claim that was never bound, and that another one replaces.
	Unused types.UID
	// VoteStore says that its vote store was made.
	VoteStore bool
	// Retired is what becomes of the volume of a validator that has left for good; empty for one
	// that has not.
	Retired v1alpha1.RetentionPolicy
}

// KeySecretMetadata is the configuration that the operator applies to a key Secret that exists:
// labels, owner, and the records. It names the Secret by its UID, so that an apply never makes a
// Secret without keys. It fails if the Secret has another first volume already, except in place of
// one that is recorded as never used. It removes no other record.
func KeySecretMetadata(
	network *v1alpha1.DiseqNetwork, secret *corev1.Secret, records Records,
) (*corev1ac.SecretApplyConfiguration, error) {
	firstVolume := records.FirstVolume
	known := types.UID(secret.Annotations[FirstVolumeAnnotation])
	unused := known != "" && UnusedVolume(secret) == known && !records.VoteStore && !MadeVoteStore(secret)
	if known != "" && firstVolume != "" && known != firstVolume && !unused {
		return nil, fmt.Errorf("secret %s: the first volume is %s and cannot change to %s", secret.Name, known, firstVolume)
	}
	if firstVolume == "" {
		firstVolume = known
	}
	out := corev1ac.Secret(secret.Name, network.Namespace).WithUID(secret.UID)
	if firstVolume != "" {
		out.WithAnnotations(map[string]string{FirstVolumeAnnotation: string(firstVolume)})
	}
	if records.Unused != "" {
		out.WithAnnotations(map[string]string{UnusedVolumeAnnotation: string(records.Unused)})
	}
	if records.VoteStore || MadeVoteStore(secret) {
		out.WithAnnotations(map[string]string{VoteStoreAnnotation: VoteStoreMade})
	}
	if policy, retired := Retired(secret); retired {
		out.WithAnnotations(map[string]string{RetiredAnnotation: string(policy)})
	} else if records.Retired != "" {
		out.WithAnnotations(map[string]string{RetiredAnnotation: string(records.Retired)})
	}
	return retained(network, validatorLabels(network.Name, secret.Name), out), nil
}

// LabelledByOperator says whether the operator, and nobody else, has set a label of an object.
func LabelledByOperator(object metav1.Object, label string) bool {
	ours := false
	for _, entry := range object.GetManagedFields() {
		var fields struct {
			Metadata struct {
				Labels map[string]any `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, has := fields.Metadata.Labels["f:"+label]; has {
			if entry.Manager != FieldOwner {
				return false
			}
			ours = true
		}
	}
	return ours
}

// MadeVoteStore says whether a key Secret records that its validator's vote store was made. Any
// value counts: only the operator has a reason to write one, and an unknown value must not lead to
// a second store.
func MadeVoteStore(secret metav1.Object) bool {
	_, ok := secret.GetAnnotations()[VoteStoreAnnotation]
	return ok
}

// UnusedVolume is the UID of the first claim that a key Secret records as never used.
func UnusedVolume(secret metav1.Object) types.UID {
	return types.UID(secret.GetAnnotations()[UnusedVolumeAnnotation])
}

// VotesWhenRecorded says that the validator has never voted if its Secret does not record its vote
// store. The Secrets of earlier operators do not say so.
func VotesWhenRecorded(secret metav1.Object) bool {
	return secret.GetAnnotations()[VotesWhenRecordedAnnotation] == "true"
}

// Retired says whether a key Secret records that its validator has left for good, and what becomes
// of the volume: anything but Delete keeps it.
func Retired(secret metav1.Object) (v1alpha1.RetentionPolicy, bool) {
	value, ok := secret.GetAnnotations()[RetiredAnnotation]
	return v1alpha1.RetentionPolicy(value), ok
}
