package controllers

import (
	"context"
	"fmt"
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
	for _, m := range p.members {
		if _, ok := resources.SerialOf(p.network.Name, m.name); !ok {
			return problemf(status.RetainedGenesisMismatch, "ConfigMap %s names a validator %q, want names of the form %s-v0",
				name, m.name, p.network.Name)
		}
	}
	if p.network.Status.GenesisHash == "" && p.genesis.ChainID != resources.ChainID(p.network) {
		if err := p.compareRetained(name); err != nil {
			return err
		}
	}
	for _, m := range p.members {
		switch key := p.validatorInGenesis(m.name); {
		case m.secret == nil:
			return problemf(status.KeyMissing, "Secret %s with the key %s of the genesis document is gone: restore it from a backup",
				m.name, key.PublicKey)
		case m.keys != key:
			return problemf(status.KeyMismatch, "Secret %s holds the key %s, but the genesis document has %s: "+
				"restore the right Secret from a backup", m.name, m.keys.PublicKey, key.PublicKey)
		}
	}
	return nil
}

// compareRetained compares a document of an earlier network with the spec.
func (p *pass) compareRetained(name string) error {
	spec := p.network.Spec
	have, t := len(p.genesis.Validators), int(p.genesis.Threshold)
	if n := int(spec.Validators); have != n || t != int(spec.Threshold.ThresholdOf(spec.Validators)) {
		return problemf(status.RetainedSetMismatch, "ConfigMap %s of an earlier network has threshold %d of %d validators, but the spec has %d "+
			"of %d. To resume chain %s, set the spec to the values of the ConfigMap. To begin a new chain, delete the retained objects",
			name, t, have, spec.Threshold.ThresholdOf(spec.Validators), n, p.genesis.ChainID)
	}
	wanted, err := resources.Genesis(p.network, p.genesis.ChainID, p.network.CreationTimestamp.Time, p.known())
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
		if m.first != "" {
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
		genesis, err := resources.Genesis(p.network, resources.ChainID(p.network), p.network.CreationTimestamp.Time, p.known())
		if err != nil {
			return problemf(status.InvalidSpec, "%v", err)
		}
		text, err := resources.EncodeGenesis(genesis)
		if err != nil {
			return err
		}
		if _, err := p.apply(ctx, resources.GenesisConfigMap(p.network, string(text)), nil, asObserved); err != nil {
			return err
		}
		p.genesis, p.document = genesis, string(text)
		return nil
	}
	// The owner may have to be added or removed.
	configMap, _ := cached[*corev1.ConfigMap](p, resources.GenesisName(p.network.Name))
	_, err := p.apply(ctx, resources.GenesisConfigMap(p.network, p.document), configMap, asObserved)
	return err
}

// known converts the members for the builders of package resources.
func (p *pass) known() []resources.Member {
	members := make([]resources.Member, 0, len(p.members))
	for _, m := range p.members {
		members = append(members, resources.Member{Serial: m.serial, VoteStore: m.voteStore, Validator: m.keys})
	}
	return members
}

func (p *pass) validatorInGenesis(name string) chain.Validator {
	if p.genesis != nil {
		for _, v := range p.genesis.Validators {
			if v.Name == name {
				return v.Validator
			}
		}
	}
	return chain.Validator{}
}
