package controllers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// applyAddresses makes the objects that need no identity: Services, network policies, the nodes'
// configuration. They come first, so that a name conflict shows before there is a key.
func (p *pass) applyAddresses(ctx context.Context) error {
	config, err := resources.ConfigMap(p.network)
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	steps := []step{
		stepFor(p, &corev1.Service{}, resources.PeersName(p.network.Name), resources.PeersService(p.network)),
		stepFor(p, &corev1.Service{}, resources.ClientsName(p.network.Name), resources.ClientsService(p.network)),
		stepFor(p, &corev1.ConfigMap{}, resources.ConfigName(p.network.Name), config),
	}
	for _, policy := range resources.NetworkPolicies(p.network, p.r.operator) {
		steps = append(steps, stepFor(p, &networkingv1.NetworkPolicy{}, *policy.GetName(), policy))
	}
	return p.applyAll(ctx, steps)
}

// applyShared makes the objects that follow from the genesis document: the peers file, the
// disruption budget, the validators' accounts.
func (p *pass) applyShared(ctx context.Context) error {
	peers, err := resources.PeersConfigMap(p.network, p.known())
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	// This version cannot change the set, so the budget is for the set in force. A budget for more
	// validators than there are would block every drain.
	threshold := int(p.genesis.Threshold)
	// An operator that hung must not undo the records of vote stores that another one has made
	// since.
	file := stepFor(p, &corev1.ConfigMap{}, resources.PeersName(p.network.Name), peers)
	file.guard = asObserved
	steps := []step{
		file,
		stepFor(p, &policyv1.PodDisruptionBudget{}, resources.BudgetName(p.network.Name),
			resources.PodDisruptionBudget(p.network, threshold, threshold)),
	}
	for _, m := range p.members {
		steps = append(steps, stepFor(p, &corev1.ServiceAccount{}, m.name, resources.ServiceAccount(p.network, m.serial)))
	}
	return p.applyAll(ctx, steps)
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
		if _, err := p.apply(ctx, s.wanted, s.live, s.guard); p.tolerate(err) != nil {
			return err
		}
	}
	return nil
}
