package controllers

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/node/chain"
)

// askTimeout bounds all requests to the nodes of one network together.
const askTimeout = 3 * time.Second

// pass is one reconcile of one network: its observation, and the steps that follow from it.
type pass struct {
	r       *Reconciler
	network *v1alpha1.DiseqNetwork
	now     time.Time
	// objects are those of the network in the cache, by kind and name.
	objects map[string]client.Object
	// genesis is nil before there is one; document is its text.
	genesis  *chain.Genesis
	document string
	members  []*member
	// problem is the first one found. It does not stop the reconcile.
	problem *status.Problem
}

// member is a validator of the network, with its objects and its node's answer.
type member struct {
	name   string
	serial int
	// secret is the metadata of its key Secret, nil if there is none; keys are its public keys.
	secret *metav1.PartialObjectMetadata
	keys   chain.Validator
	volume *corev1.PersistentVolumeClaim
	// first is the UID of the first volume that the validator ever had.
	first types.UID
	// voteStore says that the node was seen with its vote store, at any time.
	voteStore bool
	set       *appsv1.StatefulSet
	// wanted is the StatefulSet that the member should have with its present volume; nil before
	// there is a genesis document.
	wanted *appsv1ac.StatefulSetApplyConfiguration
	pod    *corev1.Pod
	answer nodeclient.Answer
	asked  bool
}

// observe makes the observation of the reconcile. If it finds a problem that needs a person, it
// notes that and goes on, because the status always reports the nodes that run.
func (p *pass) observe(ctx context.Context) error {
	if err := p.list(ctx); err != nil {
		return err
	}
	if err := p.noted(p.readGenesis(ctx)); err != nil {
		return err
	}
	p.nameMembers()
	for _, m := range p.members {
		m.pod = p.podOf(m)
	}
	if err := p.readKeys(ctx); err != nil {
		return err
	}
	for _, m := range p.members {
		for _, read := range []func(context.Context, *member) error{p.readVolume, p.readSet} {
			if err := p.noted(read(ctx, m)); err != nil {
				return err
			}
		}
	}
	p.ask(ctx)
	return p.noted(p.compareGenesis())
}

// podOf is the pod that the member's StatefulSet made; nil if there is none. If somebody else made
// a pod of that name, the operator neither counts nor deletes it, whatever its labels say.
func (p *pass) podOf(m *member) *corev1.Pod {
	pod, ok := cached[*corev1.Pod](p, resources.PodName(m.name))
	if !ok {
		return nil
	}
	if owner := metav1.GetControllerOf(pod); owner == nil || owner.Kind != "StatefulSet" || owner.Name != m.name {
		return nil
	}
	return pod
}

// list takes the objects of the network from the cache.
func (p *pass) list(ctx context.Context) error {
	p.objects = map[string]client.Object{}
	for _, list := range []client.ObjectList{
		&appsv1.StatefulSetList{}, &corev1.PodList{}, &corev1.PersistentVolumeClaimList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{},
		&corev1.ServiceAccountList{}, &policyv1.PodDisruptionBudgetList{}, &networkingv1.NetworkPolicyList{},
	} {
		err := p.r.client.List(ctx, list, client.InNamespace(p.network.Namespace),
			client.MatchingLabels(resources.NetworkSelector(p.network.Name)))
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
		err = meta.EachListItem(list, func(o runtime.Object) error {
			if object, ok := o.(client.Object); ok {
				p.objects[objectKey(object, object.GetName())] = object
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	return nil
}

// objectKey is where an object of a kind and a name is in pass.objects.
func objectKey(kind client.Object, name string) string { return fmt.Sprintf("%T/%s", kind, name) }

// cached is the network's object of a kind and a name in the cache.
func cached[T client.Object](p *pass, name string) (T, bool) {
	var kind T
	o, ok := p.objects[objectKey(kind, name)].(T)
	return o, ok
}

// nameMembers lists the members: those of the genesis document, or those that it will have.
func (p *pass) nameMembers() {
	if p.genesis == nil {
		for serial := range int(p.network.Spec.Validators) {
			p.members = append(p.members, &member{name: resources.ValidatorName(p.network.Name, serial), serial: serial})
		}
		return
	}
	for _, v := range p.genesis.Validators {
		// compareGenesis refuses a name of another form
		serial, _ := resources.SerialOf(p.network.Name, v.Name)
		p.members = append(p.members, &member{name: v.Name, serial: serial})
	}
	slices.SortFunc(p.members, func(a, b *member) int { return cmp.Or(cmp.Compare(a.serial, b.serial), cmp.Compare(a.name, b.name)) })
}

// ask asks the nodes for their status. That is the last part of the observation, so that answers
// are younger than the pods in it.
func (p *pass) ask(ctx context.Context) {
	if p.genesis == nil {
		return
	}
	var nodes []nodeclient.Node
	var asked []*member
	for _, m := range p.members {
		if m.pod == nil || m.pod.Status.PodIP == "" {
			continue
		}
		m.asked = true
		asked = append(asked, m)
		nodes = append(nodes, nodeclient.Node{
			Name:      m.name,
			Address:   net.JoinHostPort(m.pod.Status.PodIP, strconv.Itoa(nodeclient.OperationsPort)),
			PublicKey: p.validatorInGenesis(m.name).PublicKey,
			ChainID:   p.genesis.ChainID,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for i, answer := range nodeclient.Ask(ctx, p.r.nodes, nodes, membership.Slack) {
		asked[i].answer = answer
	}
}

// membership is the network as it was observed, which the planner decides on.
func (p *pass) membership() membership.Network {
	n := membership.Network{
		Name:          p.network.Name,
		Chain:         p.genesis != nil,
		Retire:        p.network.Spec.Retire,
		Validators:    int(p.network.Spec.Validators),
		Threshold:     int(p.network.Spec.Threshold.ThresholdOf(p.network.Spec.Validators)),
		AllowDowntime: p.network.Annotations[membership.AllowDowntime] == "true",
		Paused:        p.network.Spec.Paused,
	}
	if p.genesis != nil {
		n.Set.Threshold, n.Set.Delta = int(p.genesis.Threshold), time.Duration(p.genesis.SynchronyDeltaMS)*time.Millisecond
		n.Set.Validators = p.genesis.Validators
	}
	for _, m := range p.members {
		n.Members = append(n.Members, p.observed(m, n.Set))
	}
	return n
}

// observed is what the planner sees of a member. Its pod is outdated if it was not made from the
// template that is wanted now. The StatefulSet's revisions would not tell: for a moment after every
// change they are those of before.
func (p *pass) observed(m *member, set membership.Set) membership.Member {
	o := membership.Member{Name: m.name, Serial: m.serial, Validator: m.keys, Secret: m.secret != nil, VoteStore: m.voteStore}
	if o.PublicKey == (chain.PublicKey{}) {
		o.Validator = p.validatorInGenesis(m.name)
	}
	o.Volume.FirstUID = m.first
	if m.volume != nil {
		o.Volume.Exists, o.Volume.UID = true, m.volume.UID
		o.Volume.Terminating = m.volume.DeletionTimestamp != nil
	}
	if m.set != nil {
		o.StatefulSet.Exists, o.StatefulSet.UID = true, m.set.UID
		o.StatefulSet.Unobserved = m.set.Status.ObservedGeneration < m.set.Generation ||
			m.wanted == nil || !resources.Current(m.set, m.wanted)
	}
	if m.pod != nil {
		outdated := m.wanted != nil && m.pod.Annotations[resources.TemplateAnnotation] != resources.TemplateOf(m.wanted)
		o.Pod = set.ObservePod(m.pod, outdated, p.now)
	}
	if m.asked {
		o.Answer, o.Silence = m.answer.Status, m.answer.Err
	}
	return o
}
