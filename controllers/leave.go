package controllers

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// A validator that has left the set is stopped in this order, so that the next operator goes on
// wherever this one was killed:
//
//   - Its Secret is marked Retired. The mark has what becomes of the volume. It is never changed,
//     whatever a node answers later.
//   - Its StatefulSet is deleted, if it still is the one that the planner saw. The pod goes, too.
//   - Its entry leaves the peers file, once the StatefulSet and the pod are gone: messages that
//     clients still bring to the node reach the members.
//   - Its ServiceAccount is deleted, and its volume if the mark says so.
//
// A newcomer that no target named leaves the peers file first. That write fails if another operator
// has named the newcomer since; see readPeers.
//
// The Secret stays for ever. The mark means nothing for a member of the set.

// takePlan marks the members that the plan drops.
func (p *pass) takePlan() {
	for _, d := range p.plan.Drop {
		if m := p.member(d.Member); m != nil && p.known && !m.inSet {
			m.dropped = true
		}
	}
}

// stopMembers stops the members that the planner dropped.
func (p *pass) stopMembers(ctx context.Context) error {
	for _, d := range p.plan.Drop {
		m := p.member(d.Member)
		if m == nil || m.inSet || !p.known {
			continue
		}
		if err := p.noted(p.stop(ctx, m, d)); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) stop(ctx context.Context, m *member, d membership.Leaver) error {
	if !m.spent && !p.filed {
		return nil // its entry is still in the peers file
	}
	if m.secret != nil && !m.retired {
		m.retired, m.retiredAs = true, p.retention(d.KeepVolume)
		if err := p.record(ctx, m, m.first); err != nil {
			return err
		}
	}
	if m.set == nil || m.set.UID != d.StatefulSet {
		return nil // it is gone, or the next look has another one
	}
	p.count()
	err := p.r.client.Delete(ctx, m.set, client.Preconditions{UID: &d.StatefulSet}, client.PropagationPolicy("Background"))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return refused(err, "delete", "StatefulSet", m.name)
	}
	p.r.metrics.stopped.WithLabelValues(p.network.Namespace, p.network.Name).Inc()
	if m.spent {
		p.event(m.pod, corev1.EventTypeNormal, status.ValidatorLeft, "Stop", "%s has left the validator set and is stopped", m.name)
	} else {
		p.event(m.pod, corev1.EventTypeNormal, status.NewcomerStopped, "Stop", "%s is not needed any more and is stopped", m.name)
	}
	return nil
}

// ending says that the pod of a StatefulSet that is gone may still run. The garbage collector
// deletes the pod in a moment, and the node then has its time to end. A pod on a worker that is
// dead stays for longer, and is not waited for.
func (p *pass) ending(pod *corev1.Pod) bool {
	switch {
	case pod == nil:
		return false
	case pod.DeletionTimestamp != nil:
		return p.now.Before(pod.DeletionTimestamp.Time)
	}
	return metav1.GetControllerOf(pod) != nil
}

// tidy deletes what is left of members that were stopped: their accounts, and the volumes that are
// not to be kept.
func (p *pass) tidy(ctx context.Context) error {
	if !p.known {
		return nil
	}
	for _, m := range p.members {
		if m.inSet || !m.retired || m.set != nil || m.pod != nil || p.stays(m) {
			continue
		}
		if account, ok := cached[*corev1.ServiceAccount](p, m.name); ok {
			if err := p.noted(p.remove(ctx, "ServiceAccount", account)); err != nil {
				return err
			}
		}
		switch {
		case m.volume == nil || m.volume.DeletionTimestamp != nil:
		case m.retiredAs == v1alpha1.DeletePolicy:
			err := p.remove(ctx, "PersistentVolumeClaim", m.volume)
			if p.noted(err) != nil {
				return err
			}
			if err == nil {
				p.event(nil, corev1.EventTypeNormal, status.VolumeDeleted, "Delete",
					"the volume of %s is deleted, because it has left and spec.storage.retention.onScaleDown was Delete", m.name)
			}
		default:
			if err := p.noted(p.keepVolume(ctx, m)); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes an object of the network, if it still is the one that was observed.
func (p *pass) remove(ctx context.Context, kind string, object client.Object) error {
	if object.GetDeletionTimestamp() != nil || p.foreign(object) != "" {
		return nil
	}
	uid := object.GetUID()
	p.count()
	err := p.r.client.Delete(ctx, object, client.Preconditions{UID: &uid})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return refused(err, "delete", kind, object.GetName())
}

// member is the member of that name; nil if there is none.
func (p *pass) member(name string) *member {
	i := slices.IndexFunc(p.members, func(m *member) bool { return m.name == name })
	if i < 0 {
		return nil
	}
	return p.members[i]
}

// formers remembers when the objects of former members were last looked at, and the retention
// policy by which they have their owner.
type formers struct {
	mu sync.Mutex
	by map[types.NamespacedName]formerLook
}

type formerLook struct {
	policy v1alpha1.RetentionPolicy
	at     time.Time
}

// formerInterval is how often the operator looks whether somebody took a label off what former
// members left behind. Objects without the label and Secrets are not in the cache.
const formerInterval = time.Hour

func (f *formers) due(network types.NamespacedName, policy v1alpha1.RetentionPolicy, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.by[network]
	return !ok || last.policy != policy || now.Sub(last.at) >= formerInterval
}

func (f *formers) done(network types.NamespacedName, policy v1alpha1.RetentionPolicy, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[types.NamespacedName]formerLook{}
	}
	f.by[network] = formerLook{policy, now}
}

func (f *formers) drop(network types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.by, network)
}

// applyFormer gives the Secrets and claims of former members their labels, and the owner of the
// network's retention policy. The members of this reconcile are not among them.
func (p *pass) applyFormer(ctx context.Context) error {
	policy := p.network.Spec.Storage.Retention.OnDelete
	if !p.known || len(p.sets.eras) == 1 || !p.r.former.due(p.key(), policy, p.now) {
		return nil
	}
	for _, e := range p.sets.eras {
		for _, v := range e.set.Validators {
			if serial, ok := resources.SerialOf(p.network.Name, v.Name); ok && p.member(v.Name) == nil {
				if err := p.noted(p.applyLeftover(ctx, p.newMember(serial))); err != nil {
					return err
				}
			}
		}
	}
	p.r.former.done(p.key(), policy, p.now)
	return nil
}

// applyLeftover applies what a former member left behind, which the cache does not show.
func (p *pass) applyLeftover(ctx context.Context, m *member) error {
	if err := p.readKey(ctx, m); err != nil || m.secret == nil {
		return err
	}
	p.vouch(m.secret.UID)
	p.recall(m)
	if err := p.noted(p.record(ctx, m, m.first)); err != nil {
		return err
	}
	if err := p.noted(p.readVolume(ctx, m)); err != nil || m.volume == nil || m.volume.DeletionTimestamp != nil {
		return err
	}
	return p.keepVolume(ctx, m)
}
