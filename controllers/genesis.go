package controllers

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// readGenesis takes the genesis document from its ConfigMap, if there is one. Without a document
// the operator still makes keys. So it believes the API server alone that there is none, not the
// cache.
//
// If the ConfigMap of a network that has run is gone or holds something else, the document comes
// from the operator's memory or from a node. Only pods that start need the ConfigMap.
func (p *pass) readGenesis(ctx context.Context) error {
	configMap, err := p.genesisMap(ctx)
	if err != nil {
		return err
	}
	known := p.network.Status.GenesisHash
	if configMap == nil && known == "" {
		return nil
	}
	problem := p.takeGenesis(ctx, configMap)
	if problem == nil || p.genesis != nil {
		return problem
	}
	if known != "" {
		p.genesis = p.r.histories.genesis(p.key(), known)
		if p.genesis == nil {
			p.genesis = p.askGenesis(ctx, known)
		}
	}
	p.blocked = p.genesis == nil
	return problem
}

// genesisMap is the ConfigMap of the genesis document; nil if there is none.
func (p *pass) genesisMap(ctx context.Context) (*corev1.ConfigMap, error) {
	name := resources.GenesisName(p.network.Name)
	configMap, ok := cached[*corev1.ConfigMap](p, name)
	if ok {
		return configMap, nil
	}
	configMap = &corev1.ConfigMap{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: name}, configMap)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get ConfigMap %s: %w", name, err)
	}
	p.objects[objectKey(configMap, name)] = configMap
	return configMap, nil
}

// takeGenesis takes the document from the ConfigMap. It returns why that cannot stay as it is; the
// network may have its document all the same.
func (p *pass) takeGenesis(ctx context.Context, configMap *corev1.ConfigMap) error {
	name, known := resources.GenesisName(p.network.Name), p.network.Status.GenesisHash
	p.lost = true
	restore := fmt.Sprintf("Pods that run go on; a pod that starts waits for it. Restore the document with the genesis hash %s: save the "+
		"answer of any node to GET /v1/genesis as %s, then kubectl -n %s create configmap %s --from-file=%s",
		known, resources.GenesisKey, p.network.Namespace, name, resources.GenesisKey)
	if configMap == nil {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s with the genesis document is gone. %s", name, restore)
	}
	key, genesis, err := findGenesis(configMap, known)
	has := "no genesis document"
	if err == nil {
		has = "the genesis hash " + genesis.Hash().String()
	}
	right := err == nil && (known == "" || genesis.Hash().String() == known)
	why := p.foreign(configMap)
	if right && metav1.GetControllerOf(configMap) == nil {
		switch ours := known != "" || p.madeOf(genesis); {
		case ours, why != "" && p.wished() && p.ownKey(ctx, genesis):
			why = "" // the label is put back
		}
		if known == "" && why == "" && !p.madeOf(genesis) {
			p.adopt(configMapKind, name)
		}
	}
	switch {
	case why != "" && known != "":
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s does not belong to this network: %s, and it has %s. Save it under another "+
			"name before you delete it. %s", name, why, has, restore)
	case why != "":
		return p.conflict(configMapKind, configMap, fmt.Sprintf("%s, and it has %s", why, has))
	case err != nil && known == "":
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s does not contain a valid genesis document: %v. Restore it from a backup "+
			"or from a reader of receipts: without it the chain cannot be resumed or verified", name, err)
	case err != nil:
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s does not contain a valid genesis document: %v. Save it under another "+
			"name before you delete it. %s", name, err, restore)
	case !right:
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s has %s, but this network started with another document. Save it under "+
			"another name before you delete it. %s", name, has, restore)
	}
	p.vouch(configMap.UID)
	p.genesis, p.document = genesis, configMap.Data[key]
	if key != resources.GenesisKey && configMap.Immutable != nil && *configMap.Immutable {
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s has the genesis document under the key %s, but nodes read %s, and the "+
			"ConfigMap is immutable. Save it, delete it, and make it again: kubectl -n %s create configmap %s --from-file=%s",
			name, key, resources.GenesisKey, p.network.Namespace, name, resources.GenesisKey)
	}
	p.lost = false
	return nil
}

// findGenesis finds the genesis document in a ConfigMap, and its key: a person who restores it may
// have saved it in a file of another name. The error is about the key that nodes read.
func findGenesis(configMap *corev1.ConfigMap, known string) (key string, found *chain.Genesis, err error) {
	found, err = chain.ReadGenesis(strings.NewReader(configMap.Data[resources.GenesisKey]))
	if err == nil {
		return resources.GenesisKey, found, nil
	}
	if _, ok := configMap.Data[resources.GenesisKey]; !ok {
		err = fmt.Errorf("it has no key %s", resources.GenesisKey)
		for _, key := range slices.Sorted(maps.Keys(configMap.Data)) {
			genesis, wrong := chain.ReadGenesis(strings.NewReader(configMap.Data[key]))
			if wrong == nil && (known == "" && len(configMap.Data) == 1 || genesis.Hash().String() == known) {
				return key, genesis, nil
			}
		}
	}
	return "", nil, err
}

// madeOf says whether a genesis document is of the keys that are in the status: the operator made
// it and was killed before it wrote its hash there.
func (p *pass) madeOf(genesis *chain.Genesis) bool {
	return !slices.ContainsFunc(genesis.Validators, func(v chain.NamedValidator) bool {
		return !slices.ContainsFunc(p.network.Status.Members, func(m v1alpha1.Member) bool {
			return m.Name == v.Name && m.PublicKey == v.PublicKey.String()
		})
	})
}

// ownKey says whether a validator of a genesis document has its key in a Secret of the network.
func (p *pass) ownKey(ctx context.Context, genesis *chain.Genesis) bool {
	return slices.ContainsFunc(genesis.Validators, func(v chain.NamedValidator) bool {
		serial, ok := resources.SerialOf(p.network.Name, v.Name)
		if !ok {
			return false
		}
		m := &member{name: v.Name, serial: serial}
		return p.readKey(ctx, m) == nil && m.secret != nil && m.keys == v.Validator
	})
}

// askGenesis takes the genesis document from a node that runs. The hash proves that it is the
// network's. It returns nil if no node has it.
func (p *pass) askGenesis(ctx context.Context, known string) *chain.Genesis {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, key := range slices.Sorted(maps.Keys(p.objects)) {
		pod, ok := p.objects[key].(*corev1.Pod)
		if !ok || pod.Status.PodIP == "" {
			continue
		}
		node := nodeclient.Node{
			Name:    strings.TrimSuffix(pod.Name, "-0"),
			Address: net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.PublicPort)),
		}
		genesis, err := p.r.nodes.Genesis(ctx, node)
		if err == nil && genesis.Hash().String() == known {
			return genesis
		}
	}
	return nil
}

// compareGenesis checks the genesis document against the keys, the spec and the status. A document
// that the operator did not make for this resource comes from an earlier network of the name. The
// network adopts it if it matches the spec.
func (p *pass) compareGenesis() error {
	err := p.compareChain()
	if err != nil {
		p.blocked = true
	}
	return err
}

func (p *pass) compareChain() error {
	if p.genesis == nil {
		return p.compareOrphans()
	}
	name := resources.GenesisName(p.network.Name)
	for _, e := range p.sets.eras {
		for _, v := range e.set.Validators {
			if _, ok := resources.SerialOf(p.network.Name, v.Name); !ok {
				return problemf(status.RetainedGenesisMismatch, "the chain of ConfigMap %s names a validator %q, want names of the form %s-v0",
					name, v.Name, p.network.Name)
			}
		}
	}
	if p.network.Status.GenesisHash == "" { // the spec may have changed since the document was made
		if err := p.compareRetained(name); err != nil {
			return err
		}
	}
	return p.compareKeys()
}

// compareKeys checks the key Secrets against the chain. A member of the set without its Secret is
// lost, unless it is to leave. A former member needs none. The others go on without it, but a
// network adopts no document that does not fit its keys.
func (p *pass) compareKeys() error {
	for _, m := range p.members {
		key := m.chainKeys
		switch {
		case m.secret == nil && !m.held && m.inSet && !slices.Contains(p.network.Spec.Retire, m.name):
			m.held = true
			p.note(problemf(status.KeyMissing, "Secret %s with the key %s of the validator set is gone: restore it from a backup, or "+
				"replace the validator: add %s to spec.retire", m.name, key.PublicKey, m.name))
		case m.secret != nil && m.spent && (m.inSet || !p.known) && m.keys != key:
			m.held, m.wrongKey = true, true
			problem := problemf(status.KeyMismatch, "Secret %s holds the key %s, but the chain has %s. Save its content under another name, "+
				"because the key may exist nowhere else, then restore the right Secret from a backup", m.name, m.keys.PublicKey, key.PublicKey)
			if p.network.Status.GenesisHash == "" {
				return problem
			}
			p.note(problem)
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
		return problemf(status.RetainedGenesisMismatch, "ConfigMap %s has the constants %s, but the spec has %s. "+
			"To go on with chain %s, set spec.consensus and spec.messages to the values of the ConfigMap. To begin a new chain, give the "+
			"network another name: the Secrets, claims and ConfigMap of this one are the only keys of chain %s, and its messages",
			name, had, asked, p.genesis.ChainID, p.genesis.ChainID)
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
	if p.lost {
		return nil // readGenesis has said so
	}
	name := resources.GenesisName(p.network.Name)
	for _, m := range p.members {
		unborn := p.unborn(m) && (m.volume == nil || unbound(m.volume)) // the key has signed nothing yet
		if (m.first != "" || m.voteStore) && !unborn {
			return problemf(status.RetainedGenesisMismatch, "Secret %s belongs to an earlier network whose ConfigMap %s is gone. "+
				"To resume that chain, restore the ConfigMap from a backup or from a reader of receipts. To begin a new chain, give the "+
				"network another name: the retained Secrets and claims are the only keys of that chain, and its messages", m.name, name)
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
			p.event(nil, corev1.EventTypeNormal, status.GenesisMade, "Create", "the genesis document of chain %s is made: "+
				"%d validators, threshold %d, "+
				"genesis hash %s", genesis.ChainID, len(genesis.Validators), genesis.Threshold, genesis.Hash())
		}
		p.genesis, p.document = genesis, string(text)
		p.sets, p.known = p.r.histories.of(p.key(), genesis), true
		for i, m := range p.members {
			m.chainKeys, m.inSet, m.spent = genesis.Validators[i].Validator, true, true
		}
		return nil
	}
	if p.lost {
		return nil
	}
	// The owner may have to be added or removed, and a person may have restored it.
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
