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

// A validator that votes with an empty vote store may vote twice. So a node makes a vote store only
// if its flag --create-vote-store states that the volume is the validator's first: "the statement".
// The statement must be true of the volume that the pod mounts, and a pod names its claim, not the
// claim's UID. The order of the steps makes sure of that:
//
//   - The operator records the UID of the first volume before a StatefulSet exists. A crash in
//     between leaves a volume that no pod has ever used; the next reconcile records it. If the
//     record came after the first start, a volume lost before would leave no trace.
//   - The operator replaces a missing claim only when no pod with the statement can start any more.
//     The StatefulSet's template must be without it, the StatefulSet's controller must have seen
//     that (status.observedGeneration), and no pod may have it (listed from the API server). In any
//     other order a pod with the statement, made a moment before, could mount the new volume.
//   - The operator writes a template with the statement only after it read the claim from the API
//     server, and only if the StatefulSet is the version that was observed, or does not exist. That
//     stops a reconcile whose cache lags. It also stops an operator that hung, and wakes up after
//     another one was elected and replaced the volume.
//
// None of these steps sees the content of the volume. So the operator also records that the vote
// store was made (recordVoteStores), and the node reads that from a file that changes while its pod
// runs.

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

// readVolume finds the claim of a member. Only the API server is believed that there is none: with
// a cache that lags, a member would look as if it had lost its volume.
func (p *pass) readVolume(ctx context.Context, m *member) error {
	var ok bool
	if m.volume, ok = cached[*corev1.PersistentVolumeClaim](p, m.name); !ok {
		claim, err := p.liveVolume(ctx, m)
		if err != nil {
			return err
		}
		m.volume = claim
	}
	if m.volume == nil {
		return nil
	}
	if m.first != "" && m.volume.UID == m.first {
		p.vouch(m.volume.UID) // its labels do not matter
	}
	if why := p.foreign(m.volume); why != "" {
		stranger := m.volume
		m.volume = nil
		return p.conflict(claimKind, stranger, why)
	}
	if !p.proved(m.volume) && p.unused(m.volume) {
		p.adopt(claimKind, m.name)
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

// readSet finds the StatefulSet of a member, and computes the wanted one. Only the API server is
// believed that there is none: a StatefulSet may make a pod with the statement at any moment.
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
	if m.set != nil {
		if why := p.foreign(m.set); why != "" {
			stranger := m.set
			m.set = nil
			return p.conflict("StatefulSet", stranger, why)
		}
	}
	return p.want(m)
}

// want computes the StatefulSet that the member should have with its present volume.
func (p *pass) want(m *member) error {
	if p.refused != nil {
		return problemf(status.InvalidSpec, "%v", p.refused)
	}
	if err := resources.CheckReferences(p.network, p.neighbours); err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	if p.accessProblem != nil {
		return p.accessProblem
	}
	set, err := resources.StatefulSet(p.network, p.r.operator, m.serial, m.onFirstVolume())
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	m.wanted = resources.WithRequest(set, m.set)
	return nil
}

// applyMembers makes volumes, records which were the first, and then makes the StatefulSets that
// run on them. If the API server refuses something of one member, the others go on.
func (p *pass) applyMembers(ctx context.Context) error {
	var ready []*member
	for _, m := range p.members {
		if !p.runs(m) {
			continue
		}
		ok, err := p.applyVolume(ctx, m)
		if p.noted(err) != nil {
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
		if _, err := p.applySet(ctx, m); p.noted(err) != nil {
			return err
		}
	}
	return nil
}

// applyVolume makes sure that the member has a volume claim, and that its first one is recorded in
// the key Secret. It returns false as long as there is no claim; nothing may start on it then.
func (p *pass) applyVolume(ctx context.Context, m *member) (bool, error) {
	if p.renews(m) {
		return p.renewVolume(ctx, m)
	}
	if m.volume != nil && m.volume.UID != m.first && unbound(m.volume) && p.mismatched(m.volume) {
		// It is not the first one and held nothing either.
		return false, p.deleteUnbound(ctx, m, m.volume)
	}
	if m.unused != "" { // its claim was bound after all
		m.unused = ""
		if err := p.record(ctx, m, m.first); err != nil {
			return false, err
		}
	}
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
		// If there is a StatefulSet and no record, somebody removed the record. Nobody knows any
		// more which volume was the first, so no volume counts as the first.
		return true, nil
	}
	// The claim in the cache may have been deleted before any pod used it.
	claim, err := p.liveVolume(ctx, m)
	if err != nil || claim == nil || claim.DeletionTimestamp != nil {
		return false, err
	}
	m.volume = claim
	return true, p.record(ctx, m, claim.UID)
}

// recordFirstVolumes writes the UIDs of first volumes to the status, and no other part of it,
// before anything runs on them. The key Secrets have them as well. Two places are safer: if one of
// them is lost, no later volume looks like a first one.
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

// withoutStatement takes the statement out of the member's template, and returns whether no pod
// with it can start any more. The planner deletes the pods that have it: their template is
// outdated.
func (p *pass) withoutStatement(ctx context.Context, m *member) (bool, error) {
	if m.set != nil {
		if wrote, err := p.applySet(ctx, m); wrote || err != nil {
			return false, err // the StatefulSet's controller has not seen it yet
		}
		// Admission may have put the statement back.
		if m.set.Status.ObservedGeneration < m.set.Generation || statesFirst(corev1.Pod{Spec: m.set.Spec.Template.Spec}) {
			return false, nil
		}
	}
	stated := false
	err := p.eachPod(ctx, m, func(pods *corev1.PodList) bool {
		stated = stated || slices.ContainsFunc(pods.Items, statesFirst)
		return stated
	})
	return err == nil && !stated, err
}

// eachPod lists the pods with the labels of a member from the API server, until look returns true.
func (p *pass) eachPod(ctx context.Context, m *member, look func(*corev1.PodList) (done bool)) error {
	err := eachPage(ctx, p.r.live, func() *corev1.PodList { return &corev1.PodList{} }, look,
		client.InNamespace(p.network.Namespace), client.MatchingLabels(resources.ValidatorSelector(p.network.Name, m.name)))
	if err != nil {
		return fmt.Errorf("list pods of %s: %w", m.name, err)
	}
	return nil
}

// applySet applies the StatefulSet that the member should have with its present volume, and returns
// whether it wrote.
func (p *pass) applySet(ctx context.Context, m *member) (bool, error) {
	if err := p.want(m); err != nil {
		return false, err
	}
	if m.set == nil {
		// If the cache has no StatefulSet, apply asks the API server, and creates one only if there
		// is none.
		if err := p.stateOnlyOfFirst(ctx, m); err != nil {
			return false, err
		}
		made, err := p.apply(ctx, m.wanted, nil, asObserved)
		return made != nil, err
	}
	if !resources.Current(m.set, m.wanted) {
		if err := p.stateOnlyOfFirst(ctx, m); err != nil {
			return false, err
		}
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
		return fmt.Errorf("claim %s: %w: another claim has its name by now", m.name, errLater)
	}
	return nil
}
