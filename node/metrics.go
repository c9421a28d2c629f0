package node

import "github.com/diseq/diseq/node/internal/metrics"

// gauges reads what the metrics show of the moment.
func (b *backend) gauges() metrics.Gauges {
	tip, set := b.ledger.Tip(), b.ledger.Sets().Open()
	g := metrics.Gauges{
		Name: b.name, ChainID: b.genesis.ChainID, Version: b.version,
		Height: tip.Height(), BlockTime: tip.Block.Header.Time(), Generation: set.Generation, Threshold: set.Threshold,
		Validators: len(set.Validators), Headroom: b.network.headroom(set), StorageLow: b.storageLow() != nil,
		MayVote: b.role() == roleValidator && !b.awaitsRecord(), Member: set.Index(b.self) >= 0,
	}
	if set.SynchronyDeltaMS != 0 {
		g.SynchronyHealthy = new(b.voter.Health().Healthy)
	}
	if free, err := b.freeDisk(); err == nil {
		g.FreeDisk = &free
	}
	if next := b.target.Status().Target; next != nil {
		g.ChangePending = next.Generation > set.Generation
	}
	for _, p := range b.network.Peers() {
		g.Peers = append(g.Peers, metrics.Peer{Name: p.Name, Height: b.catchup.Final(p.Key)})
	}
	g.StateHeight, _ = b.state.Newest()
	if v := b.voter.View(); v != nil {
		g.Round = v.Round
	}
	named, _, _ := b.ledger.Sets().ByGeneration(set.Generation)
	reveals := b.ledger.Beacon().Reveals()
	for _, v := range named.Validators {
		r := reveals[v.PublicKey]
		g.Reveals = append(g.Reveals, metrics.Reveals{Validator: v.Name, Made: r.Made, Missed: r.Missed})
	}
	return g
}
