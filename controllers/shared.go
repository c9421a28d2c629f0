package controllers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// applyAddresses makes the objects that need no identity: Services, network policies, the nodes'
// configuration. They come first, so that a name conflict shows before there is a key.
func (p *pass) applyAddresses(ctx context.Context) error {
	steps := []step{
		stepFor(p, &corev1.Service{}, resources.PeersName(p.network.Name), resources.PeersService(p.network)),
	}
	if p.refused == nil {
		steps = append(steps, stepFor(p, &corev1.Service{}, resources.ClientsName(p.network.Name), resources.ClientsService(p.network)))
	}
	config, invalid := resources.ConfigMap(p.network)
	if invalid == nil && p.accessProblem == nil { // a node that starts again must find its files
		steps = append(steps, stepFor(p, &corev1.ConfigMap{}, resources.ConfigName(p.network.Name), config))
	}
	for _, policy := range resources.NetworkPolicies(p.network, p.r.operator) {
		steps = append(steps, stepFor(p, &networkingv1.NetworkPolicy{}, *policy.GetName(), policy))
	}
	if err := p.applyAll(ctx, steps); err != nil || invalid == nil {
		return err
	}
	return problemf(status.InvalidSpec, "%v", invalid)
}

// applyAccounts makes the accounts of the validators that run.
func (p *pass) applyAccounts(ctx context.Context) error {
	if p.refused != nil {
		return nil
	}
	for _, m := range p.members {
		if !p.runs(m) {
			continue
		}
		account := stepFor(p, &corev1.ServiceAccount{}, m.name, resources.ServiceAccount(p.network, m.serial))
		_, err := p.apply(ctx, account.wanted, account.live, account.guard)
		if conflicts(err) {
			m.held = true // its pod would have the rights of somebody else
		}
		if p.noted(err) != nil {
			return err
		}
	}
	return nil
}

// runs says whether the member should have a volume and a StatefulSet.
func (p *pass) runs(m *member) bool {
	switch {
	case m.secret == nil || m.held:
		return false // its pod could not start; one that runs goes on
	case !p.known:
		return !m.retired
	case m.inSet:
		return true
	}
	return p.stays(m) && !m.retired && !m.dropped
}

// step is one object to apply: the live one, the wanted one, and the guard of the apply.
type step struct {
	live   client.Object
	wanted any
	guard  guard
}

// stepFor is the step for an object that the cache may have.
func stepFor(p *pass, kind client.Object, name string, wanted any) step {
	return step{live: p.objects[objectKey(kind, name)], wanted: wanted}
}

func (p *pass) applyAll(ctx context.Context, steps []step) error {
	for _, s := range steps {
		_, err := p.apply(ctx, s.wanted, s.live, s.guard)
		if p.noted(err) != nil {
			return err
		}
		if _, file := s.wanted.(*corev1ac.ConfigMapApplyConfiguration); file && conflicts(err) {
			p.grounded = true
		}
	}
	return nil
}
