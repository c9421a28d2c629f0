package controllers

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// A validator that votes with an empty vote store may vote twice. So its node makes one only when
// it is told that the volume is the validator's first (--create-vote-store, the statement), and the
// statement is right only as long as nothing slips between the volume that was judged and the
// volume that a pod mounts: a pod names its claim, not the claim's UID. The order in which things
// are done closes the ways in which it could:
//
//   - The UID of the first volume is recorded before a StatefulSet exists. A crash in between
//     leaves a volume that no pod has ever used, and that is recorded next time. Recorded after the
//     first start, a volume lost before would be forgotten.
//   - A claim that is gone is made anew only when no pod can be made with the statement: the
//     StatefulSet's template is without it, its controller has seen that
//     (status.observedGeneration), and of the pods that exist none has it (listed from the API
//     server). Any other order lets a pod with the statement, made a moment before, mount the new
//     volume.
//   - A template with the statement is written only after the claim was read from the API server,
//     and only if the StatefulSet is the version that was observed, or does not exist. A cache that
//     lags, or an operator that hung and wakes up after another has been elected and replaced the
//     volume, fails there.
//
// What is on the volume none of this sees. That the vote store was made is therefore recorded as
// well (recordVoteStores), and told to the node in a file that changes while its pod runs.

// createVoteStore is the statement: the flag of the node.
const createVoteStore = "--create-vote-store"

// statesFirst says whether a pod has the statement.
func statesFirst(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return slices.Contains(c.Args, createVoteStore) || slices.Contains(c.Command, createVoteStore)
	})
}

// onFirstVolume says whether the member's volume is its first one, on which its node may make its
// vote store.
func (m *member) onFirstVolume() bool {
	return m.volume != nil && m.first != "" && m.volume.UID == m.first
}

// readVolume finds the claim of a member. Its absence is believed of the API server alone: a cache
// that lags would make a member look as if it had lost its volume.
func (p *pass) readVolume(ctx context.Context, m *member) error {
	var ok bool
	if m.volume, ok = cached[*corev1.PersistentVolumeClaim](p, m.name); !ok && p.genesis != nil {
		claim, err := p.liveVolume(ctx, m)
		if err != nil {
			return err
		}
		m.volume = claim
	}
	if m.volume != nil && p.foreign(m.volume) != "" {
		stranger := m.volume
		m.volume = nil
		return p.conflict("PersistentVolumeClaim", stranger)
	}
	return nil
}

// liveVolume gets the claim of a member from the API server; nil if there is none.
func (p *pass) liveVolume(ctx context.Context, m *member) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: m.name}, claim)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get claim %s: %w", m.name, err)
	}
	return claim, nil
}

// readSet finds the StatefulSet of a member, and what it is to be. Its absence is believed of the
// API server alone: one that exists may make a pod with the statement at any moment.
func (p *pass) readSet(ctx context.Context, m *member) error {
	if p.genesis == nil {
		return nil
	}
	var ok bool
	if m.set, ok = cached[*appsv1.StatefulSet](p, m.name); !ok {
		set := &appsv1.StatefulSet{}
		err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: m.name}, set)
		switch {
		case err == nil:
			m.set = set
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("get StatefulSet %s: %w", m.name, err)
		}
	}
	if m.set != nil && p.foreign(m.set) != "" {
		stranger := m.set
		m.set = nil
		return p.conflict("StatefulSet", stranger)
	}
	return p.want(m)
}

// want computes what the member's StatefulSet is to be, with the volume that it has now.
func (p *pass) want(m *member) error {
	set, err := resources.StatefulSet(p.network, p.r.operator, m.serial, m.onFirstVolume())
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	m.wanted = set
	return nil
}

// applyMembers makes volumes, records which were the first, and then makes the StatefulSets that
// run on them. If the API server refuses something of one member, the others go on.
func (p *pass) applyMembers(ctx context.Context) error {
	var ready []*member
	for _, m := range p.members {
		ok, err := p.applyVolume(ctx, m)
		if p.tolerate(err) != nil {
			return err
		}
		if ok {
			ready = append(ready, m)
		}
	}
	if err := p.recordFirstVolumes(ctx); err != nil {
		return err
	}
	for _, m := range ready {
		if _, err := p.applySet(ctx, m); p.tolerate(err) != nil {
			return err
		}
	}
	return nil
}

// applyVolume sees to it that the member has a volume claim, and that its first one is recorded. It
// returns false, and nothing must be started, as long as there is no claim.
func (p *pass) applyVolume(ctx context.Context, m *member) (bool, error) {
	if m.volume == nil {
		if m.first != "" || m.set != nil {
			if ready, err := p.withoutStatement(ctx, m); !ready || err != nil {
				return false, err
			}
		}
		if _, err := p.apply(ctx, resources.PersistentVolumeClaim(p.network, m.serial), nil, asObserved); err != nil {
			return false, err
		}
		claim, err := p.liveVolume(ctx, m)
		if err != nil || claim == nil {
			return false, err
		}
		m.volume = claim
	} else if m.volume.DeletionTimestamp == nil {
		if err := p.keepVolume(ctx, m); err != nil {
			return false, err
		}
	}
	if m.first != "" || m.set != nil {
		// A StatefulSet without a record is one whose record somebody took away. Which volume was
		// the first is not known any more, so that no volume is.
		return true, nil
	}
	// The claim in the cache may be one that was deleted before any pod had used it.
	claim, err := p.liveVolume(ctx, m)
	if err != nil || claim == nil || claim.DeletionTimestamp != nil {
		return false, err
	}
	m.volume = claim
	return true, p.record(ctx, m, claim.UID)
}

// keepVolume applies what may change of a claim: its owner and its size.
func (p *pass) keepVolume(ctx context.Context, m *member) error {
	network := p.network
	have := m.volume.Spec.Resources.Requests[corev1.ResourceStorage]
	if wanted := network.Spec.Storage.Size; wanted != nil && wanted.Cmp(have) < 0 {
		p.note(problemf(status.InvalidSpec, "spec.storage.size is %s, and the volume of %s has %s: a volume cannot shrink",
			wanted, m.name, &have))
		network = network.DeepCopy()
		network.Spec.Storage.Size = &have
	}
	_, err := p.apply(ctx, resources.PersistentVolumeClaim(network, m.serial), m.volume, asObserved)
	return p.tolerate(err)
}

// recordFirstVolumes writes the UIDs of first volumes to the status before anything runs on them,
// and nothing else of it. The key Secrets have them as well; the status is the second place, so
// that losing one of the two does not make a volume look like a first one.
func (p *pass) recordFirstVolumes(ctx context.Context) error {
	wanted := p.network.Status.DeepCopy()
	changed := false
	for _, m := range p.members {
		i := slices.IndexFunc(wanted.Members, func(old v1alpha1.Member) bool { return old.Name == m.name })
		switch {
		case m.first == "", i >= 0 && wanted.Members[i].VolumeUID == string(m.first):
			continue
		case i < 0:
			wanted.Members = append(wanted.Members, v1alpha1.Member{Name: m.name, VolumeUID: string(m.first)})
		default:
			wanted.Members[i].VolumeUID = string(m.first)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return p.patchStatus(ctx, *wanted)
}

// withoutStatement sees to it that no pod of the member can come up with the statement, and says
// whether that is so yet. The pods that have it are the planner's to delete: their template is
// outdated.
func (p *pass) withoutStatement(ctx context.Context, m *member) (bool, error) {
	if m.set != nil {
		if wrote, err := p.applySet(ctx, m); wrote || err != nil {
			return false, err // its controller has not seen it yet
		}
		if m.set.Status.ObservedGeneration < m.set.Generation {
			return false, nil
		}
	}
	pods := &corev1.PodList{}
	err := p.r.live.List(ctx, pods, client.InNamespace(p.network.Namespace),
		client.MatchingLabels(resources.ValidatorSelector(p.network.Name, m.name)))
	if err != nil {
		return false, fmt.Errorf("list pods of %s: %w", m.name, err)
	}
	return !slices.ContainsFunc(pods.Items, statesFirst), nil
}

// applySet brings the member's StatefulSet to what is wanted with the volume that the member has
// now, and says whether it wrote.
func (p *pass) applySet(ctx context.Context, m *member) (bool, error) {
	if err := p.want(m); err != nil {
		return false, err
	}
	if m.set == nil {
		// Without a StatefulSet in the cache apply looks for one, and creates it only if there is
		// none.
		if err := p.stateOnlyOfFirst(ctx, m); err != nil {
			return false, err
		}
		made, err := p.apply(ctx, m.wanted, nil, asObserved)
		return made != nil, err
	}
	if resources.Current(m.set, m.wanted) {
		return false, nil
	}
	if err := p.stateOnlyOfFirst(ctx, m); err != nil {
		return false, err
	}
	written, err := p.apply(ctx, m.wanted, m.set, asObserved)
	return written != nil, err
}

// stateOnlyOfFirst reads the claim again before a template with the statement is written.
func (p *pass) stateOnlyOfFirst(ctx context.Context, m *member) error {
	if !m.onFirstVolume() {
		return nil
	}
	claim, err := p.liveVolume(ctx, m)
	if err != nil {
		return err
	}
	if claim == nil || claim.UID != m.first {
		return fmt.Errorf("claim %s: %w: it is not the one that was seen", m.name, errLater)
	}
	return nil
}
