package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// readGenesis takes the genesis document from its ConfigMap, if there is one. Without a document
// the operator still makes keys. So it believes the API server alone that there is none, not the
// cache.
func (p *pass) readGenesis(ctx context.Context) error {
	configMap, ok := cached[*corev1.ConfigMap](p, resources.GenesisName(p.network.Name))
	if !ok {
		configMap = &corev1.ConfigMap{}
		err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: resources.GenesisName(p.network.Name)}, configMap)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		p.objects[objectKey(configMap, configMap.Name)] = configMap
	}
	if p.foreign(configMap) != "" {
		return p.conflict("ConfigMap", configMap)
	}
	text := configMap.Data[resources.GenesisKey]
	genesis, err := chain.ReadGenesis(strings.NewReader(text))
	if err != nil {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s does not contain a valid genesis document: %v", configMap.Name, err)
	}
	p.genesis, p.document = genesis, text
	return nil
}

// compareGenesis checks the genesis document against the keys, the spec and the status. A document
// that the operator did not make for this resource comes from an earlier network of the name. The
// network adopts it if it matches the spec.
func (p *pass) compareGenesis() error {
	if p.genesis == nil {
		return p.compareOrphans()
	}
	name := resources.GenesisName(p.network.Name)
	hash := p.genesis.Hash().String()
	if known := p.network.Status.GenesisHash; known != "" && known != hash {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s has the genesis hash %s, but this network started with %s: "+
			"restore the original document", name, hash, known)
	}
	for _, e := range p.sets.eras {
		for _, v := range e.set.Validators {
			if _, ok := resources.SerialOf(p.network.Name, v.Name); !ok {
				return problemf(status.RetainedGenesisMismatch, "the chain of ConfigMap %s names a validator %q, want names of the form %s-v0",
					name, v.Name, p.network.Name)
			}
		}
	}
	if p.network.Status.GenesisHash == "" && p.genesis.ChainID != resources.ChainID(p.network) {
		if err := p.compareRetained(name); err != nil {
			return err
		}
	}
	return p.compareKeys()
}

// compareKeys checks the key Secrets against the chain. A member of the set without its Secret is
// lost, unless it is to leave. A former member needs none.
func (p *pass) compareKeys() error {
	for _, m := range p.members {
		key := m.chainKeys
		switch {
		case m.secret == nil && m.inSet && !slices.Contains(p.network.Spec.Retire, m.name):
			return problemf(status.KeyMissing, "Secret %s with the key %s of the validator set is gone: restore it from a backup, or "+
				"replace the validator: add %s to spec.retire", m.name, key.PublicKey, m.name)
		case m.secret != nil && m.spent && (m.inSet || !p.known) && m.keys != key:
			return problemf(status.KeyMismatch, "Secret %s holds the key %s, but the chain has %s: restore the right Secret from a backup",
				m.name, m.keys.PublicKey, key.PublicKey)
		}
	}
	return nil
}

// compareRetained compares a document of an earlier network with the spec. The set is not compared:
// the chain says which one is in force, and the operator changes it to what the spec asks for.
func (p *pass) compareRetained(name string) error {
	first := make([]resources.Member, 0, len(p.genesis.Validators))
	for _, v := range p.genesis.Validators {
		serial, _ := resources.SerialOf(p.network.Name, v.Name)
		first = append(first, resources.Member{Serial: serial, Validator: v.Validator})
	}
	wanted, err := resources.Genesis(p.network, p.genesis.ChainID, p.network.CreationTimestamp.Time, first)
	if err != nil {
		return problemf(status.InvalidSpec, "%v", err)
	}
	if had, asked := constants(p.genesis), constants(wanted); had != asked {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s of an earlier network has the constants %s, but the spec has %s. "+
			"To resume chain %s, set the spec to the values of the ConfigMap. To begin a new chain, delete the retained objects",
			name, had, asked, p.genesis.ChainID)
	}
	return nil
}

// constants are the values of a genesis document that follow from the spec, besides the set.
func constants(g *chain.Genesis) string {
	return fmt.Sprintf("%+v, synchrony delta %d ms", g.Parameters, g.SynchronyDeltaMS)
}

// compareOrphans refuses to begin a second chain with the keys of an earlier one. A key whose
// validator had a volume may have signed blocks of a chain whose genesis document is lost.
func (p *pass) compareOrphans() error {
	name := resources.GenesisName(p.network.Name)
	if known := p.network.Status.GenesisHash; known != "" {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s is gone: restore it, its genesis hash is %s. Every node serves the "+
			"document at /v1/genesis", name, known)
	}
	for _, m := range p.members {
		if m.first != "" || m.voteStore {
			return problemf(status.RetainedGenesisMismatch, "Secret %s belongs to an earlier network whose ConfigMap %s is gone. "+
				"To resume that chain, restore the ConfigMap. To begin a new chain, delete the retained objects", m.name, name)
		}
	}
	return nil
}

// createGenesis makes the genesis document once all identities exist. Its content follows from them
// and the resource alone, so that a repetition after a crash makes the same document.
func (p *pass) createGenesis(ctx context.Context) error {
	if p.genesis == nil {
		genesis, err := resources.Genesis(p.network, resources.ChainID(p.network), p.network.CreationTimestamp.Time, p.firstMembers())
		if err != nil {
			return problemf(status.InvalidSpec, "%v", err)
		}
		text, err := resources.EncodeGenesis(genesis)
		if err != nil {
			return err
		}
		made, err := p.apply(ctx, resources.GenesisConfigMap(p.network, string(text)), nil, asObserved)
		if err != nil {
			return err
		}
		if made != nil {
			p.event(nil, corev1.EventTypeNormal, status.GenesisMade, "Create", "the genesis document of chain %s is made: %d validators, threshold %d, "+
				"genesis hash %s", genesis.ChainID, len(genesis.Validators), genesis.Threshold, genesis.Hash())
		}
		p.genesis, p.document = genesis, string(text)
		p.sets, p.known = p.r.histories.of(p.key(), genesis), true
		for i, m := range p.members {
			m.chainKeys, m.inSet, m.spent = genesis.Validators[i].Validator, true, true
		}
		return nil
	}
	// The owner may have to be added or removed.
	configMap, _ := cached[*corev1.ConfigMap](p, resources.GenesisName(p.network.Name))
	_, err := p.apply(ctx, resources.GenesisConfigMap(p.network, p.document), configMap, asObserved)
	return err
}

// firstMembers are the members of the genesis document.
func (p *pass) firstMembers() []resources.Member {
	members := make([]resources.Member, 0, len(p.members))
	for _, m := range p.members {
		members = append(members, resources.Member{Serial: m.serial, Validator: m.keys})
	}
	return members
}
