package integration

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

// playedChain is the chain of one network, as far as the operator sees it: the validator sets and
// the blocks that changed them, signed with the keys in the Secrets.
type playedChain struct {
	genesis    *chain.Genesis
	sets       []*chain.NextSet
	changes    []nodeclient.Change
	identities *chain.Identities
	// named are the members of all targets that were seen, by the generation that they follow.
	named map[uint32]map[string]bool
}

func (p *playedChain) set() *chain.NextSet { return p.sets[len(p.sets)-1] }

// has says whether a name is in the set in force; was, whether it is or was in one.
func (p *playedChain) has(name string) bool { return hasName(p.set(), name) }

func (p *playedChain) was(name string) bool {
	return slices.ContainsFunc(p.sets, func(s *chain.NextSet) bool { return hasName(s, name) })
}

func hasName(s *chain.NextSet, name string) bool {
	return slices.ContainsFunc(s.Validators, func(v chain.NamedValidator) bool { return v.Name == name })
}

// chainOf is the chain of a network; nil before there is a genesis document.
func (c *cluster) chainOf(ctx context.Context, network string) *playedChain {
	c.t.Helper()
	held := &corev1.ConfigMap{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: network + "-genesis"}, held); err != nil {
		return c.chains[network] // nodes that run have read it
	}
	genesis, err := chain.ReadGenesis(strings.NewReader(held.Data["genesis.json"]))
	if err != nil {
		return c.chains[network]
	}
	// Nodes that run do not read the document again: a chain of other keys is another network.
	if known := c.chains[network]; known == nil || !slices.Equal(known.genesis.Validators, genesis.Validators) {
		first := genesis.First()
		c.chains[network] = &playedChain{genesis: genesis, sets: []*chain.NextSet{first}, identities: chain.NewIdentities(first),
			named: map[uint32]map[string]bool{}}
	}
	return c.chains[network]
}

// file is the peers file of a network, empty if there is none.
func (c *cluster) file(ctx context.Context, network string) resources.PeersFile {
	c.t.Helper()
	held, file := &corev1.ConfigMap{}, resources.PeersFile{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: network + "-peers"}, held); err != nil {
		return file
	}
	if err := json.Unmarshal([]byte(held.Data["peers.json"]), &file); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// identity is the identity in a key Secret.
func (c *cluster) identity(name string) *identity.Identity {
	c.t.Helper()
	secret := &corev1.Secret{}
	c.get(name, secret)
	id, err := identity.Parse(secret.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// playedNode is a node that runs.
type playedNode struct {
	name string
	disk *disk
	// access is how it admits clients; nil if its pod has no files for that.
	access *nodeclient.Access
}

// order lets the validators of a network endorse the target of the peers file, and orders the
// change if enough of them do and enough of the next set are there.
func (c *cluster) order(p *playedChain, file resources.PeersFile, nodes []playedNode) {
	target, set := file.Target, p.set()
	if target == nil || target.Follows != set.Generation || c.undecided {
		return
	}
	next := target.Next(set.SynchronyDeltaMS)
	if err := p.identities.Check(set, next); err != nil {
		c.t.Errorf("a target that no chain takes: %v", err)
		return
	}
	votes := map[string]bool{}
	for _, n := range nodes {
		votes[n.name] = n.disk.votes && c.behind[n.name] == 0 && (n.disk.voted || isRecorded(file, n.name))
	}
	var endorsers []uint32
	for i, v := range set.Validators {
		if votes[v.Name] {
			endorsers = append(endorsers, uint32(i))
		}
	}
	linked := 0
	for _, v := range next.Validators {
		if votes[v.Name] {
			linked++
		}
	}
	if len(endorsers) < int(set.Threshold) || linked < int(next.Threshold) {
		return
	}
	c.height++
	change := chain.Change{Next: *next}
	keys := map[uint32]ed25519.PrivateKey{}
	for _, i := range endorsers {
		keys[i] = c.identity(set.Validators[i].Name).Signing
		change.Endorsements = append(change.Endorsements,
			chain.Endorsement{Validator: i, Signature: chain.Endorse(keys[i], p.genesis.ChainID, next).Signature})
	}
	header := chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: p.genesis.ChainID, Height: c.height, Timestamp: p.genesis.TimeMS + c.height,
		ChangeHash: change.Hash(), ValidatorsHash: set.Set().Hash(), NextValidatorsHash: next.Set().Hash(),
	}
	certificate := chain.Certificate{Kind: chain.Finalize, Height: header.Height, Block: header.Hash()}
	for _, i := range endorsers {
		vote := chain.Vote{Kind: chain.Finalize, Height: header.Height, Block: header.Hash(), Validator: i}
		vote.Sign(keys[i], p.genesis.ChainID)
		certificate.Votes = append(certificate.Votes, chain.VoteSignature{Validator: i, Signature: vote.Signature})
	}
	p.identities.Add(next)
	p.sets = append(p.sets, next)
	p.changes = append(p.changes, nodeclient.Change{
		Header: header, Certificate: chain.ReceiptCertificate{Certificate: certificate, Strength: certificate.Strength()},
		Next: *next, Endorsements: change.Endorsements,
	})
	c.height++ // the height after a change is awake
}

// answer is what a node of a network reports.
func (c *cluster) answer(p *playedChain, file resources.PeersFile, n playedNode) nodeclient.Status {
	set := p.set()
	// A node waits with its first vote until its vote store is recorded.
	waits := n.disk.votes && !n.disk.voted && !isRecorded(file, n.name)
	n.disk.voted = n.disk.votes && !waits
	answer := nodeclient.Status{
		Node: n.name, Role: nodeclient.RoleObserver, CaughtUp: true, Height: c.height - min(c.height, c.behind[n.name]),
		Evidence: c.evidence[n.name], Threshold: int(set.Threshold), Validators: len(set.Validators), Generation: set.Generation,
		VoteStore: n.disk.votes, Checkpoint: file.Checkpoint, Reason: "is not in the validator set", Access: n.access,
	}
	switch {
	case !p.has(n.name):
		if p.was(n.name) {
			answer.Pool.HeldMessages = new(c.heldMessages[n.name])
		}
	case waits:
		answer.Role, answer.Reason = nodeclient.RoleValidator, "its vote store is new"
	case n.disk.votes:
		answer.Role, answer.Ready, answer.Reason = nodeclient.RoleValidator, true, ""
	default:
		answer.Role, answer.Ready, answer.Reason = nodeclient.RoleRejoining, true, ""
		n.disk.votes = c.rejoins // from the next step on
	}
	if answer.VoteStore && !waits {
		answer.VotesFromHeight = new(uint64(1))
	}
	if d := set.SynchronyDeltaMS; d > 0 {
		answer.Synchrony = &nodeclient.Synchrony{DeltaMS: d, Healthy: !c.deaf[n.name], Settled: !c.deaf[n.name]}
	}
	return answer
}

// audit checks every network, after every single write:
//
//   - no validator is stopped that is in the set, or may be in the next one;
//   - a member that has left is stopped only after the peers file has the checkpoint;
//   - each member that a target names has a record of its vote store;
//   - while a target stands, evictions can take the quorum of neither set;
//   - the pods of enough members of the set run.
func (c *cluster) audit(ctx context.Context) {
	c.t.Helper()
	sets, pods := &appsv1.StatefulSetList{}, &corev1.PodList{}
	if err := c.client.List(ctx, sets, c.in()); err != nil {
		c.t.Fatal(err)
	}
	if err := c.client.List(ctx, pods, c.in()); err != nil {
		c.t.Fatal(err)
	}
	is := map[string]types.UID{}
	for _, s := range sets.Items {
		is[s.Name] = s.UID
	}
	for network, p := range c.chains {
		file := c.file(ctx, network)
		c.auditTarget(ctx, network, p, file)
		for name, uid := range c.audited {
			if !strings.HasPrefix(name, network+"-v") || is[name] == uid {
				continue
			}
			switch {
			case p.has(name):
				c.t.Errorf("%s of the set in force was stopped", name)
			case p.named[p.set().Generation][name]:
				c.t.Errorf("%s was stopped, and a target of generation %d named it", name, p.set().Generation)
			case p.was(name):
				if last := p.changes[len(p.changes)-1].Header.Height; file.Checkpoint == nil || file.Checkpoint.Height != last {
					c.t.Errorf("%s was stopped, the peers file has the checkpoint %+v, and the last change is in block %d", name, file.Checkpoint, last)
				}
			}
		}
		up, resource := 0, &v1alpha1.DiseqNetwork{}
		if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: network}, resource); err == nil && resource.Spec.Hibernated {
			c.wasUp[network] = false
			continue
		}
		for _, pod := range pods.Items {
			if p.has(strings.TrimSuffix(pod.Name, "-0")) && pod.DeletionTimestamp == nil && pod.Status.PodIP != "" {
				up++
			}
		}
		if c.wasUp[network] && up < int(p.set().Threshold) {
			c.t.Errorf("%d members of generation %d run, the threshold is %d", up, p.set().Generation, p.set().Threshold)
		}
		c.wasUp[network] = c.wasUp[network] || up >= int(p.set().Threshold)
	}
	c.audited = is
}

func (c *cluster) auditTarget(ctx context.Context, network string, p *playedChain, file resources.PeersFile) {
	c.t.Helper()
	target, set := file.Target, p.set()
	if target == nil || target.Follows != set.Generation {
		return
	}
	if p.named[target.Follows] == nil {
		p.named[target.Follows] = map[string]bool{}
	}
	both := map[string]bool{}
	for _, v := range set.Validators {
		both[v.Name] = true
	}
	for _, v := range target.Validators {
		both[v.Name], p.named[target.Follows][v.Name] = true, true
		secret := &corev1.Secret{}
		c.get(v.Name, secret)
		i := slices.IndexFunc(file.Peers, func(e resources.PeerEntry) bool { return e.PublicKey == v.PublicKey })
		if !resources.MadeVoteStore(secret) || i < 0 || !file.Peers[i].VoteStore {
			c.t.Errorf("a target names %s, whose vote store is not recorded", v.Name)
		}
		if !hasName(set, v.Name) && (i < 0 || file.Peers[i].NamedFor != target.Follows+1) {
			c.t.Errorf("a target names %s, and its entry does not say so", v.Name)
		}
	}
	budget := &policyv1.PodDisruptionBudget{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: network}, budget); err != nil {
		c.t.Errorf("a target stands without a disruption budget: %v", err)
		return
	}
	spare := min(len(set.Validators)-int(set.Threshold), len(target.Validators)-int(target.Threshold))
	if have := budget.Spec.MinAvailable.IntValue(); have < len(both)-spare {
		c.t.Errorf("a target stands, and the disruption budget keeps %d, want %d", have, len(both)-spare)
	}
}

// marks says of each key Secret whether it is marked Retired, and how.
func (c *cluster) marks() map[string]string {
	c.t.Helper()
	secrets := &corev1.SecretList{}
	if err := c.client.List(c.t.Context(), secrets, c.in()); err != nil {
		c.t.Fatal(err)
	}
	marks := map[string]string{}
	for _, s := range secrets.Items {
		if as, ok := resources.Retired(&s); ok {
			marks[s.Name] = string(as)
		}
	}
	return marks
}

// names lists the objects of a kind of the network's validators.
func (c *cluster) names(list client.ObjectList) []string {
	c.t.Helper()
	if err := c.client.List(c.t.Context(), list, c.in(), client.HasLabels{"diseq.io/validator"}); err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, o := range items(c.t, list) {
		names = append(names, o.GetName())
	}
	slices.Sort(names)
	return names
}

func numbered(network string, serials ...int) []string {
	var names []string
	for _, s := range serials {
		names = append(names, fmt.Sprintf("%s-v%d", network, s))
	}
	slices.Sort(names)
	return names
}
