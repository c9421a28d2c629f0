package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// finish writes the status, and returns when to reconcile again. err is the error that ended the
// reconcile early. An error of a write ends what the reconcile does, not what it saw: the status
// follows the nodes all the same.
func (p *pass) finish(ctx context.Context, pods membership.Decision, set membership.SetPlan, err error) (ctrl.Result, error) {
	if problem, ok := errors.AsType[*status.Problem](err); ok {
		p.note(problem)
		err = nil
	}
	switch failed := err; {
	case errors.Is(failed, errEnding):
		// Nothing can be made in the namespace any more, no event either, and it does not come
		// back.
		p.logger().Info("the namespace is being deleted: the operator leaves the network alone", "refused", failed.Error())
		p.r.endings.put(p.key(), p.network.UID)
		return ctrl.Result{}, nil
	case errors.Is(failed, errLater):
		p.logger().Debug("the observation is out of date, reconciling again", "err", failed.Error())
		return ctrl.Result{RequeueAfter: jittered(changing / 10)}, nil
	case failed != nil && !p.whole:
		return ctrl.Result{}, failed
	case failed != nil:
		_, err = p.show(ctx, pods, set)
		return ctrl.Result{}, errors.Join(failed, err)
	}
	return p.show(ctx, pods, set)
}

// show writes the status of what was observed, and returns when to reconcile again.
func (p *pass) show(ctx context.Context, pods membership.Decision, set membership.SetPlan) (ctrl.Result, error) {
	o := p.observation(pods, set)
	old, wanted := p.network.Status, status.Of(o)
	wait, err := p.writeStatus(ctx, wanted)
	if err != nil {
		if errors.Is(err, errLater) {
			return ctrl.Result{RequeueAfter: jittered(changing / 10)}, nil
		}
		return ctrl.Result{}, err
	}
	p.reportNews(old, wanted, status.Troubles(o))
	p.r.metrics.set(p.key(), &wanted)
	return ctrl.Result{RequeueAfter: p.next(wanted, wait)}, nil
}

// endings are the networks whose namespaces are being deleted, by UID: a later namespace of the
// name has other networks.
type endings struct {
	mu sync.Mutex
	by map[types.NamespacedName]types.UID
}

func (e *endings) has(network types.NamespacedName, uid types.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok := e.by[network]
	return ok && known == uid
}

func (e *endings) put(network types.NamespacedName, uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[types.NamespacedName]types.UID{}
	}
	e.by[network] = uid
}

func (e *endings) drop(network types.NamespacedName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.by, network)
}

// memories remember the recent troubles of each network. They are lost with the operator: the next
// one shows what it sees.
type memories struct {
	mu sync.Mutex
	by map[types.NamespacedName]*membership.Memory
}

// observe fills in what takes more than one look at a network, which is reconciled once at a time.
func (m *memories) observe(at types.NamespacedName, n *membership.Network, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(at).Observe(n, now)
}

// of is the memory of a network. The caller holds the lock.
func (m *memories) of(at types.NamespacedName) *membership.Memory {
	if m.by == nil {
		m.by = map[types.NamespacedName]*membership.Memory{}
	}
	if m.by[at] == nil {
		m.by[at] = &membership.Memory{}
	}
	return m.by[at]
}

// show takes note of a network, which is reconciled once at a time, and returns it as it is to be
// shown.
func (m *memories) show(at types.NamespacedName, n membership.Network, now time.Time) membership.Shown {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(at).Show(n, now)
}

// drop removes the memory of a deleted network.
func (m *memories) drop(network types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.by, network)
}

// look is the network as it was observed, with what the looks before it add.
func (p *pass) look() membership.Network {
	n := p.membership()
	p.r.memories.observe(p.key(), &n, p.now)
	return n
}

// observation is what the status of the network is made from, as it is to be shown.
func (p *pass) observation(pods membership.Decision, set membership.SetPlan) status.Observation {
	shown := p.r.show(p.key(), p.look(), p.now)
	o := status.Observation{
		Generation: p.network.Generation,
		Now:        p.now,
		Old:        p.network.Status,
		Network:    shown,
		Pods:       shown.Explain(pods),
		Set:        shown.ExplainSet(set),
		Problems:   p.problems,
		Rewritten:  p.rewritten,
		Adopted:    p.adopted,
		Access:     p.accessSeen(),
		Selector:   resources.Selector(p.network.Name),
		Autoscaler: status.Autoscaler(p.network),
		Restarted:  p.restarted(),
		// The status keeps the chain's id and hash when the document is lost.
		ChainID:     p.network.Status.ChainID,
		GenesisHash: p.network.Status.GenesisHash,
	}
	if p.genesis != nil && o.GenesisHash == "" && !p.blocked {
		o.ChainID, o.GenesisHash = p.genesis.ChainID, p.genesis.Hash().String()
	}
	return o
}

// writeStatus writes the status if that is due. If it is not due, it returns how long to wait until
// it is; 0 if there is nothing to write.
func (p *pass) writeStatus(ctx context.Context, wanted v1alpha1.DiseqNetworkStatus) (time.Duration, error) {
	old := p.network.Status
	due, wait := status.WriteDue(old, wanted, p.now)
	if !due {
		return wait, nil
	}
	return 0, p.patchStatus(ctx, wanted)
}

// patchStatus writes a status, if the resource is still the version that was observed.
func (p *pass) patchStatus(ctx context.Context, wanted v1alpha1.DiseqNetworkStatus) error {
	written := p.network.DeepCopy()
	written.Status = wanted
	p.count()
	patch := client.MergeFromWithOptions(p.network, client.MergeFromWithOptimisticLock{})
	if err := p.r.client.Status().Patch(ctx, written, patch, fieldOwner); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write status: %w", laterIfConflict(err)))
	}
	p.network = written
	return nil
}

// next is how long to wait until the next reconcile.
func (p *pass) next(s v1alpha1.DiseqNetworkStatus, due time.Duration) time.Duration {
	wait := changing
	progressing := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionProgressing)
	available := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAvailable)
	switch {
	case !p.network.Spec.Hibernated && !p.blocked &&
		(p.moving && !p.lost && !p.grounded || meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionMembershipChanging)):
	case p.accessProblem != nil && p.accessProblem.Reason == status.AccessFilesMissing:
		wait = min(filesAgain, p.r.resync)
	case len(p.problems) > 0:
		wait = min(refusedAgain, p.r.resync) // the nodes are looked at as often as without the problem
	case progressing.Reason == status.Hibernated: // no node changes without an event
		wait = p.r.resync
	case progressing.Status == metav1.ConditionFalse && available.Reason == status.AllValidatorsReady:
		wait = p.r.resync
	}
	wait = jittered(wait)
	if due > 0 {
		wait = min(wait, due)
	}
	return wait
}
