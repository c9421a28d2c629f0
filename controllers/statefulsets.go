package controllers

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// readSet finds the StatefulSet of a member, and what it is to be. Its absence is believed of the
// API server alone: one that exists may make a pod with the statement at any moment.
func (p *pass) readSet(ctx context.Context, m *member) error {
	if p.genesis == nil {
		return nil
	}
	var ok bool
	if m.set, ok = seen[*appsv1.StatefulSet](p, m.name); !ok {
		set := &appsv1.StatefulSet{}
		err := p.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: m.name}, set)
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
	set, err := resources.StatefulSet(p.network, p.operator, m.serial, m.onFirstVolume())
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	m.wanted = set
	return nil
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
