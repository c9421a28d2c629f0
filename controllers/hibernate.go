package controllers

import "context"

// hibernate stops all nodes and keeps the rest as it is. It makes nothing: neither the keys of a
// network that was not born yet, nor a claim that is missing. So a person can put another volume in
// the place of one, and no node starts meanwhile.
//
// A change of the set that is under way stands still: its state is in the peers file, in the
// Secrets and in the StatefulSets, and the nodes find it when they wake. Their messages are on
// their volumes, in whatever order they stop. So all are stopped at once.
//
// A problem of other objects does not keep the nodes awake.
func (p *pass) hibernate(ctx context.Context) error {
	for _, m := range p.members {
		if m.set == nil || m.wanted == nil {
			continue
		}
		if _, err := p.applySet(ctx, m); p.noted(err) != nil {
			return err
		}
	}
	if p.blocked || p.network.Status.GenesisHash == "" && len(p.problems) > 0 {
		return nil
	}
	steps := []func(context.Context) error{p.keepVolumes, p.forgetRestarts, p.applyKeyMetadata}
	if p.genesis != nil {
		steps = append([]func(context.Context) error{
			p.applyAddresses, p.createGenesis, p.recordVoteStores, p.applyBudget, p.applyPeers,
		}, append(steps, p.tidy, p.applyMonitor)...)
	}
	for _, do := range steps {
		if err := p.noted(do(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// keepVolumes applies the owner and the size of the claims that are there.
func (p *pass) keepVolumes(ctx context.Context) error {
	for _, m := range p.members {
		if m.volume == nil || m.volume.DeletionTimestamp != nil || !p.runs(m) {
			continue
		}
		if err := p.noted(p.keepVolume(ctx, m)); err != nil {
			return err
		}
	}
	return nil
}
