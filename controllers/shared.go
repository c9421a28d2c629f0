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

// applyAddresses makes what needs no identity: Services, network policies, the configuration of the
// nodes. They come first, so that a name that is taken is met before there is a key.
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

// applyShared makes what follows from the genesis document: the peers file, the disruption budget,
// the validators' accounts.
func (p *pass) applyShared(ctx context.Context) error {
	peers, err := resources.PeersConfigMap(p.network, p.known())
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	// The set in force is the target as long as this version cannot change it: a budget for more
	// than there are would block every drain.
	threshold := int(p.genesis.Threshold)
	// An operator that hung must not take back what another one has recorded of vote stores since.
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

// step is one object to be applied: what is there, what is wanted, and what applying it depends on.
type step struct {
	live   client.Object
	wanted any
	guard  guard
}

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
