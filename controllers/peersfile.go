package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// The peers file is where the operator and the nodes agree on a change of the set: it has the
// target that the nodes endorse, and each entry has the generation of the set that it was named
// for. An endorsement cannot be taken back. So a node that any target of the present generation
// named is not stopped, and the file remembers that for the next operator.
//
// The operator reads the file from the API server, not from a cache, and writes it only over the
// version that it read. So the file puts an order to decisions that exclude each other: to name a
// newcomer in a target, and to take its entry out and stop it.

// readPeers reads the peers file. p.peers stays nil if there is none, or if somebody else changed
// it: then nobody knows any more who was named.
func (p *pass) readPeers(ctx context.Context) error {
	configMap := &corev1.ConfigMap{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: resources.PeersName(p.network.Name)}, configMap)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get ConfigMap %s: %w", resources.PeersName(p.network.Name), err)
	}
	p.peersMap = configMap
	if p.foreign(configMap) != "" {
		p.grounded = true
		return nil // writing it will be refused
	}
	file, err := resources.ReadPeers(configMap)
	if err != nil {
		p.remark("peers file", "the peers file cannot be read, and is written anew", "err", err.Error())
		return nil
	}
	p.peers = file
	return nil
}

// entry is the member's entry in the peers file; nil if there is none.
func (p *pass) entry(m *member) *resources.PeerEntry {
	if p.peers == nil {
		return nil
	}
	i := slices.IndexFunc(p.peers.Peers, func(e resources.PeerEntry) bool { return e.Name == m.name && e.PublicKey == m.publicKey() })
	if i < 0 {
		return nil
	}
	return &p.peers.Peers[i]
}

// recallEntry takes from the peers file whether a member is listed, and the generation that it was
// named for. If the file is lost, whatever may run counts as listed, and as named for the next
// generation.
func (p *pass) recallEntry(m *member) {
	if e := p.entry(m); e != nil {
		m.listed, m.namedFor = true, e.NamedFor
	} else if p.peers == nil && p.genesis != nil && m.secret != nil && (m.set != nil || !m.retired && (m.volume != nil || !p.known)) {
		m.listed, m.namedFor = true, resources.NamedUnknown
	}
	if m.namedFor == resources.NamedUnknown && p.known {
		m.namedFor = p.sets.newest().set.Generation + 1
	}
	if m.inSet || m.spent {
		m.namedFor = 0 // the chain knows it for ever
	}
}

// stays says whether a member has an entry in the peers file when this reconcile is over.
func (p *pass) stays(m *member) bool {
	switch {
	case m.publicKey() == (chain.PublicKey{}):
		return false
	case !p.known:
		return m.listed
	case m.inSet:
		return true
	case m.spent: // it follows the chain until it is stopped, and serves clients until its node ends
		return m.set != nil || p.ending(m.pod) || m.secret != nil && !m.retired
	}
	// A newcomer, or one that is to become one: the planner drops whatever it does not need.
	return m.secret != nil && !m.retired && !m.dropped
}

// applyPeers writes the peers file, and makes the kubelets look at it.
func (p *pass) applyPeers(ctx context.Context) error {
	target, checkpoint := p.plan.Target, p.plan.Checkpoint
	if !p.known {
		// The file that stands is right until the operator knows better.
		target, checkpoint = nil, p.checkpoint()
		if p.peers != nil {
			target = p.peers.Target
		}
	}
	if stands, err := p.budgetStands(ctx, target); err != nil {
		return err
	} else if !stands {
		target = nil // the next look writes it
		if p.peers != nil {
			target = p.peers.Target
		}
	}
	var entries []resources.Member
	for _, m := range p.members {
		if !p.stays(m) {
			continue
		}
		if target != nil && !m.inSet && slices.ContainsFunc(target.Validators, func(v chain.NamedValidator) bool { return v.Name == m.name }) {
			m.namedFor = max(m.namedFor, target.Follows+1)
		}
		m.listed = true
		entries = append(entries, resources.Member{
			Serial: m.serial, VoteStore: m.voteStore, NamedFor: m.namedFor, Validator: chain.Validator{PublicKey: m.publicKey()},
		})
	}
	wanted, err := resources.PeersConfigMap(p.network, entries, target, checkpoint)
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	hash := wanted.Annotations[resources.PeersAnnotation]
	var live client.Object
	if p.peersMap != nil {
		live = p.peersMap
	}
	written, err := p.apply(ctx, wanted, live, asObserved)
	if p.noted(err) != nil {
		return err
	}
	if err != nil {
		return nil // the status has it; the nodes keep the file that they have
	}
	p.filed = true
	if written != nil && target != nil && (p.peers == nil || !sameTarget(p.peers.Target, target)) {
		p.r.metrics.targets.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
		p.event(nil, corev1.EventTypeNormal, status.TargetDeclared, "ChangeSet", "%s", p.plan.Message)
	}
	return p.touchPods(ctx, resources.PeersAnnotation, hash)
}

func sameTarget(a, b *chain.Target) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Follows == b.Follows && a.Threshold == b.Threshold && slices.Equal(a.Validators, b.Validators)
}

// budgetStands says whether the disruption budget covers both sets, before a target is written.
// The cache may still have the budget of an earlier change.
func (p *pass) budgetStands(ctx context.Context, target *chain.Target) (bool, error) {
	if target == nil || p.peers != nil && sameTarget(p.peers.Target, target) {
		return true, nil
	}
	budget := &policyv1.PodDisruptionBudget{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: resources.BudgetName(p.network.Name)}, budget)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("get PodDisruptionBudget %s: %w", resources.BudgetName(p.network.Name), err)
	}
	return err == nil && minAvailable(budget) >= p.plan.Budget, nil
}

// minAvailable is the number of validators that a budget keeps; 0 if it is not one of ours.
func minAvailable(b *policyv1.PodDisruptionBudget) int {
	if b.Spec.MinAvailable == nil {
		return 0
	}
	return b.Spec.MinAvailable.IntValue()
}

// strict says whether a budget holds for pods that are not ready, too.
func strict(b *policyv1.PodDisruptionBudget) bool {
	policy := b.Spec.UnhealthyPodEvictionPolicy
	return policy != nil && *policy == policyv1.IfHealthyBudget
}

// touchPods writes the hash of a file to each pod that has another one. A kubelet that sees its pod
// change looks at the ConfigMap at once; else it may take two minutes. If the API server refuses,
// the nodes see the file later: no safety depends on when.
func (p *pass) touchPods(ctx context.Context, annotation, hash string) error {
	for _, m := range p.members {
		if m.pod == nil || m.pod.DeletionTimestamp != nil || m.pod.Spec.NodeName == "" || m.pod.Annotations[annotation] == hash {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": m.pod.UID, "annotations": map[string]string{annotation: hash},
		}})
		if err != nil {
			return fmt.Errorf("patch Pod %s: %w", m.pod.Name, err)
		}
		p.count()
		err = p.r.client.Patch(ctx, m.pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch), fieldOwner)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // another pod has its name by now
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			p.remark("annotations", "cannot annotate pods: their kubelets look at changed files within two minutes", "err", err.Error())
			return nil
		default:
			return fmt.Errorf("patch Pod %s: %w", m.pod.Name, err)
		}
	}
	return nil
}

// applyBudget applies the disruption budget of the plan. It comes before the peers file: the budget
// covers the members of both sets before a target names them.
func (p *pass) applyBudget(ctx context.Context) error {
	leave := p.plan.Budget
	if leave == 0 {
		leave = int(p.sets.newest().set.Threshold) // the network is born, or its set is not known yet
	}
	budget := stepFor(p, &policyv1.PodDisruptionBudget{}, resources.BudgetName(p.network.Name),
		resources.PodDisruptionBudget(p.network, leave, p.plan.Strict))
	// An operator that hung must not lower the budget under the target of another one.
	budget.guard = asObserved
	return p.applyAll(ctx, []step{budget})
}

// retention is what becomes of the volume of a member that is stopped for good.
func (p *pass) retention(keep bool) v1alpha1.RetentionPolicy {
	if keep || p.network.Spec.Storage.Retention.OnScaleDown != v1alpha1.DeletePolicy {
		return v1alpha1.RetainPolicy
	}
	return v1alpha1.DeletePolicy
}
