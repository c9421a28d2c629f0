package controllers

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// An object belongs to the network by one of these proofs. A label can be taken off by mistake, so
// that a missing one proves nothing: it is put back.
//
//   - Its owner has the UID of the network.
//   - A Secret holds the key that the chain, the peers file or the status has for its validator.
//     The operator writes the first keys to the status before it makes the Secrets. The Secret of a
//     newcomer has a proof of its own.
//   - A claim has the UID on record as the validator's first volume, or the annotation with the UID
//     of the network, or the operator applied it in the place of a first one.
//   - A ConfigMap holds the genesis document whose hash is in the status, or one of keys that are
//     all in the status.
//   - An object of another kind has no controller, and the network's label or the operator's
//     managed fields, and its name is in use since the network has its chain.
//
// Everybody who may make objects in the namespace may write labels and managed fields. So they
// prove nothing of objects that may have existed before the network, or before a validator. Only if
// spec.existingObjects asks for it does the operator adopt such objects: they have no controller,
// and the network's label or the operator's managed fields.
//
// The cache has only objects with the label. Every other one is read from the API server, by name.

// foreign says why an object does not belong to the network; empty if it does.
func (p *pass) foreign(object metav1.Object) string {
	why := p.unlabelled(object)
	switch {
	case why == "" && !p.proved(object) && !p.wished() && p.unused(object):
		return existedBefore
	case why == "" || metav1.GetControllerOf(object) != nil || !byOperator(object) || !p.wished() && p.unused(object):
		return why
	}
	// The name of a Service may be one that two networks want. Its label then says whose it is.
	name, label := object.GetName(), object.GetLabels()[resources.NetworkLabel]
	if _, ok := resources.SerialOf(p.network.Name, name); !ok && label != "" && name != resources.GenesisName(p.network.Name) {
		return why
	}
	return ""
}

// existedBefore is why an object does not belong to the network that has its label and no proof.
const existedBefore = "it existed before this network, or somebody else made it since"

// proved says that an object is the network's by a proof that nobody could write before the network
// was made.
func (p *pass) proved(object metav1.Object) bool {
	return p.vouched[object.GetUID()] || object.GetAnnotations()[resources.NetworkUIDAnnotation] == string(p.network.UID) ||
		slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == p.network.UID })
}

// wished says that the spec asks to adopt objects that existed before.
func (p *pass) wished() bool { return p.network.Spec.ExistingObjects == v1alpha1.AdoptExisting }

// born says that the network has its chain, by the status: nobody but the operator writes it.
func (p *pass) born() bool { return p.network.Status.GenesisHash != "" }

// unused says that the network has never used an object's name, as far as it is on record. Then a
// label and managed fields prove nothing. They do not prove that a claim is one that the operator
// made in the place of a first one either, unless the operator applied it.
func (p *pass) unused(object metav1.Object) bool {
	if !p.born() {
		return true
	}
	validator := strings.TrimSuffix(object.GetName(), "-0")
	if _, ok := resources.SerialOf(p.network.Name, validator); !ok {
		return false
	}
	if isClaim(object) && !byOperator(object) {
		return true
	}
	first := func(old v1alpha1.Member) bool { return old.Name == validator && old.VolumeUID != "" }
	m := p.member(validator)
	return !p.knows(validator) && (m == nil || m.first == "") && !slices.ContainsFunc(p.network.Status.Members, first)
}

// knowsKey says that the chain has or had a validator of the name with the key.
func (p *pass) knowsKey(validator string, key chain.PublicKey) bool {
	return p.sets != nil && slices.ContainsFunc(p.sets.eras, func(e era) bool {
		return slices.ContainsFunc(e.set.Validators, func(v chain.NamedValidator) bool { return v.Name == validator && v.PublicKey == key })
	})
}

// isClaim says whether an object is a claim, as a typed one or not.
func isClaim(object metav1.Object) bool {
	if untyped, ok := object.(*unstructured.Unstructured); ok {
		return untyped.GetKind() == claimKind
	}
	_, claim := object.(*corev1.PersistentVolumeClaim)
	return claim
}

// knows says that the chain has or had a validator of the name.
func (p *pass) knows(validator string) bool {
	return p.sets != nil && slices.ContainsFunc(p.sets.eras, func(e era) bool {
		return slices.ContainsFunc(e.set.Validators, func(v chain.NamedValidator) bool { return v.Name == validator })
	})
}

// adopt takes note of an object that the network takes over because the spec asks for it.
func (p *pass) adopt(kind, name string) {
	if object := kind + " " + name; !slices.Contains(p.adopted, object) {
		p.adopted = append(p.adopted, object)
	}
}

// unlabelled is foreign for an object whose managed fields prove nothing: a key Secret.
func (p *pass) unlabelled(object metav1.Object) string {
	if p.vouched[object.GetUID()] {
		return ""
	}
	if owner := metav1.GetControllerOf(object); owner != nil {
		switch {
		case owner.UID == p.network.UID:
			return ""
		case owner.Kind == networkKind && owner.Name == p.network.Name:
			return fmt.Sprintf("it belongs to an earlier network of this name (UID %s) and is still being deleted", owner.UID)
		}
		return fmt.Sprintf("it is controlled by %s %s", owner.Kind, owner.Name)
	}
	if object.GetLabels()[resources.NetworkLabel] == p.network.Name || p.proved(object) {
		return ""
	}
	return fmt.Sprintf("it has no label %s=%s", resources.NetworkLabel, p.network.Name)
}

const networkKind = "DiseqNetwork"

// vouch remembers that an object is proved to be the network's, whatever its labels say.
func (p *pass) vouch(uid types.UID) {
	if p.vouched == nil {
		p.vouched = map[types.UID]bool{}
	}
	p.vouched[uid] = true
}

// byOperator says whether the operator has applied an object. Pods in the cache do not show that,
// and have the label.
func byOperator(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == resources.FieldOwner && f.Operation == metav1.ManagedFieldsOperationApply && f.Subresource == ""
	})
}

// knownKey is the public key that the network has for a validator, from the chain, the peers file
// or the status; zero if it has none.
func (p *pass) knownKey(m *member) chain.PublicKey {
	if m.chainKeys.PublicKey != (chain.PublicKey{}) {
		return m.chainKeys.PublicKey
	}
	if p.peers != nil && p.born() {
		for _, e := range p.peers.Peers {
			if e.Name == m.name {
				return e.PublicKey
			}
		}
	}
	var key chain.PublicKey
	for _, old := range p.network.Status.Members {
		if old.Name == m.name && key.UnmarshalText([]byte(old.PublicKey)) != nil {
			return chain.PublicKey{}
		}
	}
	return key
}

// conflict is the problem of an object that has a name of the network and does not belong to it.
func (p *pass) conflict(kind string, object metav1.Object, why string) error {
	name := object.GetName()
	advice := "Move it to another name; if the network was never started, you can rename the network instead"
	label := ""
	if object.GetLabels()[resources.NetworkLabel] != p.network.Name {
		label = fmt.Sprintf(", and the label: kubectl -n %s label %s %s %s=%s --overwrite",
			p.network.Namespace, strings.ToLower(kind), name, resources.NetworkLabel, p.network.Name)
	}
	wish := "set spec.existingObjects to Adopt" + label
	switch owner := metav1.GetControllerOf(object); {
	case owner != nil && owner.Kind == networkKind && owner.Name == p.network.Name:
		advice = "Wait: Kubernetes deletes it, and then the operator goes on"
	case kind == secretKind && p.born():
		advice = "Save its content under another name before you delete it: a key that exists nowhere else is lost for good"
	case kind == secretKind:
		advice = fmt.Sprintf("If an earlier network of this name left it behind, or you restored it, %s. Its maker may know its key. "+
			"Otherwise save its content under another name before you delete it: a key that exists nowhere else is lost for good", wish)
	case kind == claimKind:
		advice = fmt.Sprintf("If it holds the chain of this validator, %s. Otherwise save its content before you "+
			"delete it: its volume and everything on it may be lost", wish)
	case kind == configMapKind && name == resources.GenesisName(p.network.Name):
		advice = fmt.Sprintf("If it holds the genesis document of this network, %s. Otherwise save its content "+
			"under another name before you delete it: without its genesis document no chain can be resumed or verified", wish)
	}
	return problemf(status.NameConflict, "%s %s does not belong to this network: %s. The operator leaves it alone. %s",
		kind, name, why, advice)
}

// Kinds whose objects a deleted network may leave behind.
const (
	secretKind    = "Secret"
	claimKind     = "PersistentVolumeClaim"
	configMapKind = "ConfigMap"
)
