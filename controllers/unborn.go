package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// A claim that was never bound held nothing. So a typing mistake in the name of a class must not
// cost a network its life: the claim, and the record that it was the first one, are replaced. Two
// facts make that safe.
//
//   - A node waits with its first vote until the peers file records its vote store, and the
//     operator writes that record to the key Secret first (voteWhenRecorded). So a validator
//     without the record has never voted, whatever became of its volumes, and whether an operator
//     ran or not.
//   - The claim itself shows that it was never bound: spec.volumeName is empty. It is deleted only
//     in the version that showed this; a claim that is bound meanwhile stays.
//
// The second fact goes with the claim. So the operator writes it to the Secret before it deletes
// the claim (resources.UnusedVolumeAnnotation). For a claim that somebody else has deleted, it
// takes the first fact of all validators together: nothing in the network shows that it ever lived.
// One Secret that was restored from an early backup is then not enough for a mistake.
//
// The order of the steps is: write the record, stop the validator, delete the claim, make the new
// one, record it as the first. Each can be repeated. No pod may wait while there is no claim: it
// would start on the new one before that is recorded, and without the statement its node would make
// the directory unfit for a vote store.

// unborn says that a validator has never voted, and that its first claim held nothing or that the
// whole network never lived.
func (p *pass) unborn(m *member) bool {
	switch {
	case m.secret == nil, m.voteStore, !resources.VotesWhenRecorded(m.secret), p.filedVoteStore(m):
		return false
	case m.unused != "" && m.unused == m.first, m.volume != nil && m.volume.UID == m.first && unbound(m.volume):
		return true
	}
	return p.lifeless()
}

// filedVoteStore says that the peers file records the member's vote store.
func (p *pass) filedVoteStore(m *member) bool {
	e := p.entry(m)
	return e != nil && e.VoteStore
}

// lifeless says that nothing shows that a validator of the network ever voted, and that every
// validator of the set would show it.
func (p *pass) lifeless() bool {
	s := p.network.Status
	if s.Height > 0 || s.SetGeneration > 0 || s.FinalizedTime != nil || p.sets != nil && len(p.sets.eras) > 1 {
		return false
	}
	return !slices.ContainsFunc(p.members, func(m *member) bool {
		answered := m.answer.Status != nil && (m.answer.Status.Height > 0 || m.answer.Status.VoteStore)
		return m.voteStore || answered || p.filedVoteStore(m) || m.spent && m.secret == nil
	})
}

// renews says whether the member's first claim has to be replaced by another first one.
func (p *pass) renews(m *member) bool {
	if m.first == "" || !p.unborn(m) {
		return false
	}
	decided := m.unused == m.first
	switch {
	case m.volume == nil:
		return true
	case m.volume.UID != m.first: // it was made in its place, and is not recorded yet
		return decided
	}
	return unbound(m.volume) && (decided || m.volume.DeletionTimestamp != nil || p.mismatched(m.volume))
}

// unbound says that a claim has never had a volume: the field is never emptied.
func unbound(claim *corev1.PersistentVolumeClaim) bool { return claim.Spec.VolumeName == "" }

// mismatched says whether a claim is not the one that the spec asks for. Nothing of a claim that is
// not bound can be changed. With the default class in the spec, a claim has another one if the
// operator once asked for it by name.
func (p *pass) mismatched(claim *corev1.PersistentVolumeClaim) bool {
	storage := p.network.Spec.Storage
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil || claim.Spec.Selector != nil {
		return false // a person made it, from a snapshot or for a certain volume
	}
	if storage.StorageClassName != "" && storage.StorageClassName != className(claim) ||
		storage.StorageClassName == "" && className(claim) != "" && asksForClass(claim) ||
		!slices.Equal(claim.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{cmp.Or(storage.AccessMode, corev1.ReadWriteOnce)}) {
		return true
	}
	have := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return storage.Size != nil && storage.Size.Cmp(have) != 0
}

func className(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

// asksForClass says that the operator applied the class of a claim. Otherwise the cluster chose it.
func asksForClass(claim *corev1.PersistentVolumeClaim) bool {
	for _, f := range claim.ManagedFields {
		if f.Manager == resources.FieldOwner && f.Operation == "Apply" && f.FieldsV1 != nil &&
			strings.Contains(f.FieldsV1.GetRawString(), `"f:storageClassName"`) {
			return true
		}
	}
	return false
}

// renewVolume takes the next step to another first claim. It returns true when that is recorded.
func (p *pass) renewVolume(ctx context.Context, m *member) (bool, error) {
	if m.unused != m.first {
		if m.volume != nil {
			claim, err := p.liveVolume(ctx, m)
			if err != nil {
				return false, err
			}
			if claim == nil || claim.UID != m.first || !unbound(claim) {
				return false, fmt.Errorf("claim %s: %w: it is another one or bound by now", m.name, errLater)
			}
		}
		m.unused = m.first
		if err := p.record(ctx, m, m.first); err != nil {
			m.unused = ""
			return false, err
		}
	}
	if stopped, err := p.stopUnborn(ctx, m); !stopped || err != nil {
		return false, err
	}
	claim, err := p.liveVolume(ctx, m)
	switch {
	case err != nil:
		return false, err
	case claim != nil && claim.UID == m.first:
		return false, p.deleteUnbound(ctx, m, claim)
	case claim != nil && claim.DeletionTimestamp != nil:
		return false, nil
	case claim == nil:
		if _, err = p.apply(ctx, resources.PersistentVolumeClaim(p.network, m.serial), nil, asObserved); err != nil {
			return false, err
		}
		if claim, err = p.liveVolume(ctx, m); err != nil || claim == nil {
			return false, err
		}
	}
	m.volume = claim
	return true, p.record(ctx, m, claim.UID)
}

// stopUnborn deletes the StatefulSet of a validator that never ran, and returns whether its pods
// are gone as well.
func (p *pass) stopUnborn(ctx context.Context, m *member) (bool, error) {
	if m.set != nil {
		if m.set.DeletionTimestamp != nil {
			return false, nil
		}
		p.count()
		err := p.r.client.Delete(ctx, m.set, client.Preconditions{UID: &m.set.UID}, client.PropagationPolicy("Background"))
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return false, refused(err, "delete", "StatefulSet", m.name)
	}
	gone := true
	err := p.eachPod(ctx, m, func(pods *corev1.PodList) bool {
		gone = len(pods.Items) == 0
		return !gone
	})
	return err == nil && gone, err
}

// deleteUnbound deletes a claim that was never bound, in the version that shows this.
func (p *pass) deleteUnbound(ctx context.Context, m *member, claim *corev1.PersistentVolumeClaim) error {
	if claim.DeletionTimestamp != nil {
		return nil
	}
	if !unbound(claim) {
		return fmt.Errorf("claim %s: %w: it is bound by now", m.name, errLater)
	}
	p.count()
	err := p.r.client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return refused(err, "delete", "PersistentVolumeClaim", m.name)
	}
	p.event(nil, corev1.EventTypeNormal, status.ClaimReplaced, "Replace",
		"the claim %s was never bound to a volume, and is made anew as spec.storage asks for", m.name)
	return nil
}

// keepVolume applies the parts of a claim that may change: its owner, and its size once it is
// bound.
func (p *pass) keepVolume(ctx context.Context, m *member) error {
	have := m.volume.Spec.Resources.Requests[corev1.ResourceStorage]
	network := p.asClaimed(m.volume)
	switch wanted := p.network.Spec.Storage.Size; {
	case wanted == nil || wanted.Cmp(have) == 0:
	case unbound(m.volume): // its size can change when it is bound
		network.Spec.Storage.Size = &have
	case wanted.Cmp(have) < 0:
		// A volume that could not grow may be asked for less again, down to what it has.
		capacity, known := m.volume.Status.Capacity[corev1.ResourceStorage]
		if !known {
			capacity = have
		}
		if wanted.Cmp(capacity) < 0 {
			p.note(problemf(status.InvalidSpec, "spec.storage.size is %s, but the volume of %s has %s: a volume cannot shrink. "+
				"The smallest size that all volumes can have is that of the largest one", wanted, m.name, &capacity))
		}
		if wanted.Cmp(capacity) <= 0 {
			network.Spec.Storage.Size = &have
		}
	}
	_, err := p.apply(ctx, resources.PersistentVolumeClaim(network, m.serial), m.volume, asObserved)
	if problem := cannotGrow(err); problem != "" {
		p.note(&status.Problem{Reason: status.VolumeCannotGrow, About: "PersistentVolumeClaim " + m.name, Message: fmt.Sprintf(
			"the volume of %s has %s and cannot grow to %s: its StorageClass %q does not allow it (allowVolumeExpansion), says the API server. "+
				"Set spec.storage.size back to %s, or allow it in the class. Or set spec.storage.storageClassName to a class that can grow, "+
				"and replace the validators one after the other with spec.retire",
			m.name, &have, network.Spec.Storage.Size, className(m.volume), &have)})
		network.Spec.Storage.Size = &have
		_, err = p.apply(ctx, resources.PersistentVolumeClaim(network, m.serial), m.volume, asObserved)
	}
	return p.noted(err)
}

// cannotGrow is the API server's refusal to let a claim grow, because of its class.
func cannotGrow(err error) string {
	if err != nil && strings.Contains(err.Error(), "must support resize") {
		return err.Error()
	}
	return ""
}

// asClaimed is the network with the class and the access mode that a claim has: neither can be
// changed in a claim.
func (p *pass) asClaimed(claim *corev1.PersistentVolumeClaim) *v1alpha1.DiseqNetwork {
	network := p.network.DeepCopy()
	storage := &network.Spec.Storage
	if storage.StorageClassName != "" || asksForClass(claim) {
		storage.StorageClassName = className(claim)
	}
	if len(claim.Spec.AccessModes) > 0 {
		storage.AccessMode = claim.Spec.AccessModes[0]
	}
	return network
}
