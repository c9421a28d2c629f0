package controllers

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// An object belongs to the network by one of these proofs. A label can be taken off by mistake, so
// that a missing one proves nothing: it is put back.
//
//   - Its owner has the UID of the network.
//   - It has no controller, and the network's label: an earlier network of the name left it behind,
//     or a person restored it.
//   - It has no controller, and the operator applied it, by its managed fields. Every name that the
//     operator gives to an object without an owner belongs to one network alone.
//   - A Secret holds the key that the chain, the peers file or the status has for its validator.
//   - A claim has the UID on record as the validator's first volume.
//   - A ConfigMap holds the genesis document whose hash is in the status, or one with the key of a
//     Secret that belongs to the network.
//
// The cache has only objects with the label. Every other one is read from the API server, by name.

// foreign says why an object does not belong to the network; empty if it does.
func (p *pass) foreign(object metav1.Object) string {
	why := p.unlabelled(object)
	if why == "" || metav1.GetControllerOf(object) != nil || !byOperator(object) {
		return why
	}
	// The name of a Service may be one that two networks want. Its label then says whose it is.
	name, label := object.GetName(), object.GetLabels()[resources.NetworkLabel]
	if _, ok := resources.SerialOf(p.network.Name, name); !ok && label != "" && name != resources.GenesisName(p.network.Name) {
		return why
	}
	return ""
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
	if object.GetLabels()[resources.NetworkLabel] == p.network.Name ||
		slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == p.network.UID }) {
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
	if p.peers != nil {
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
	relabel := fmt.Sprintf("kubectl -n %s label %%s %s %s=%s --overwrite", p.network.Namespace, name, resources.NetworkLabel, p.network.Name)
	switch owner := metav1.GetControllerOf(object); {
	case owner != nil && owner.Kind == networkKind && owner.Name == p.network.Name:
		advice = "Wait: Kubernetes deletes it, and then the operator goes on"
	case kind == secretKind:
		advice = fmt.Sprintf("If it holds the key of this validator, put the label back: "+relabel+". Otherwise save its content under another "+
			"name before you delete it: a key that exists nowhere else is lost for good", "secret")
	case kind == claimKind:
		advice = fmt.Sprintf("If it holds the chain of this validator, put the label back: "+relabel+". Otherwise save its content before you "+
			"delete it: its volume and everything on it may be lost", "pvc")
	case kind == configMapKind && name == resources.GenesisName(p.network.Name):
		advice = fmt.Sprintf("If it holds the genesis document of this network, put the label back: "+relabel+". Otherwise save its content "+
			"under another name before you delete it: without its genesis document no chain can be resumed or verified", "configmap")
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
