package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
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
	// neighbours are the names of the networks of the namespace, if the spec names Secrets or
	// claims: it must not name those of their validators.
	neighbours []string
	// refused is what the spec asks for and the operator's administrator does not allow; nil if
	// there is nothing. Pods, accounts and the Service for clients then stay as they are.
	refused error
	// genesis is nil before there is one; document is its text.
	genesis  *chain.Genesis
	document string
	// sets are the validator sets that the operator has verified; nil before there is a genesis
	// document. known says that the newest of them is the one in force.
	sets  *history
	known bool
	// peersMap is the ConfigMap of the peers file, from the API server; peers is what the operator
	// wrote to it. Either is nil if it is not there.
	peersMap *corev1.ConfigMap
	peers    *resources.PeersFile
	// filed says that the peers file is as this reconcile wants it.
	filed   bool
	members []*member
	// nextSerial is above those of all validators that there ever were.
	nextSerial int
	// plan is the planner's decision about the set.
	plan membership.SetPlan
	// log is that of the reconcile.
	log *slog.Logger
	// whole says that the observation is complete.
	whole bool
	// problems are those found, in that order and each once; see note.
	problems []*status.Problem
	// blocked says that the operator must not act on the chain: it does not have the genesis
	// document, or the document does not fit.
	blocked bool
	// lost says that the ConfigMap with the genesis document is gone or unusable; genesis may come
	// from elsewhere. A pod that is stopped does not start again.
	lost bool
	// grounded says that a pod would start with a file of somebody else.
	grounded bool
	// moving says that an update of the pods goes on, problems or not.
	moving bool
	// vouched are objects that are the network's whatever their labels say.
	vouched map[types.UID]bool
	// access is the ConfigMap with the access file; nil if the network needs none. accessProblem
	// says why no pod can start with what spec.access names; nil if it can.
	access        *corev1ac.ConfigMapApplyConfiguration
	accessProblem *status.Problem
	// cluster is the cluster as an issuer of tokens; nil if the network does not want it, or its
	// keys are not known. clusterAt is when the API server had these keys, and clusterErr why it
	// could not be asked again.
	cluster    *resources.ClusterIssuer
	clusterAt  time.Time
	clusterErr error
	// adopted are the objects that the network takes over because the spec asks for it.
	adopted []string
	// rewritten are the fields that admission rewrites whenever the operator writes them.
	rewritten []string
}

// member is a validator of the network, with its objects and its node's answer.
type member struct {
	name   string
	serial int
	// secret is the metadata of its key Secret, nil if there is none; keys are its public keys.
	// mutable says that the Secret can be changed still, adopted that it is the network's because
	// the spec asks for it.
	secret           *metav1.PartialObjectMetadata
	keys             chain.Validator
	mutable, adopted bool
	volume           *corev1.PersistentVolumeClaim
	// first is the UID of the first volume that the validator ever had.
	first types.UID
	// unused is the UID of a first claim that is recorded as never used.
	unused types.UID
	// voteStore says that the node was seen with its vote store, at any time.
	voteStore bool
	// chainKeys are its keys in the set in force, or in the genesis document; inSet says that it is
	// in the set in force, spent that it is or was in one.
	chainKeys    chain.Validator
	inSet, spent bool
	// retired says that its Secret is marked so, retiredAs what becomes of its volume.
	retired   bool
	retiredAs v1alpha1.RetentionPolicy
	// listed says that it has an entry in the peers file, namedFor is the generation of the newest
	// set that a target named it for.
	listed   bool
	namedFor uint32
	// dropped says that the planner stops it.
	dropped bool
	// held says that a person has to help: the operator makes nothing of it and stops nothing.
	// wrongKey says that the Secret of its name holds the key of somebody else.
	held, wrongKey bool
	set            *appsv1.StatefulSet
	// wanted is the StatefulSet that the member should have with its present volume; nil before
	// there is a genesis document.
	wanted *appsv1ac.StatefulSetApplyConfiguration
	pod    *corev1.Pod
	// noPod says why it has had no pod for longer than a start takes; empty if it has one. ignored
	// says that the controller of StatefulSets has not looked at its one for so long.
	noPod   string
	ignored bool
	// noStart and noStartWords are the reason and the words of Kubernetes for which the containers
	// of its pod have not been started for longer than a start takes.
	noStart, noStartWords string
	answer                nodeclient.Answer
	asked                 bool
}

// observe makes the observation of the reconcile. If it finds a problem that needs a person, it
// notes that and goes on, because the status always reports the nodes that run.
func (p *pass) observe(ctx context.Context) error {
	if err := p.list(ctx); err != nil {
		return err
	}
	if err := p.nameNeighbours(ctx); err != nil {
		return err
	}
	if p.refused = p.r.operator.Allowed.Check(p.network); p.refused != nil {
		p.note(problemf(status.InvalidSpec, "%v", p.refused))
	}
	if err := p.noted(p.readGenesis(ctx)); err != nil {
		return err
	}
	if err := p.readPeers(ctx); err != nil {
		return err
	}
	if err := p.readAccess(ctx); err != nil {
		return err
	}
	if p.genesis != nil {
		p.sets = p.r.histories.of(p.key(), p.genesis)
		p.known = p.setKnown()
	}
	p.nameMembers()
	if err := p.readKeys(ctx); err != nil {
		return err
	}
	if err := p.findUnstarted(ctx); err != nil {
		return err
	}
	for _, m := range p.members {
		if err := p.readObjects(ctx, m); err != nil {
			return err
		}
	}
	p.readAbsences(ctx)
	p.ask(ctx)
	if err := p.followChanges(ctx); err != nil {
		return err
	}
	p.whole = true
	return p.noted(p.compareGenesis())
}

// readObjects finds the objects of a member, and its entry in the peers file.
func (p *pass) readObjects(ctx context.Context, m *member) error {
	for _, read := range []func(context.Context, *member) error{p.readVolume, p.readSet, p.readAccount, p.readPod} {
		if err := p.hold(m, read(ctx, m)); err != nil {
			return err
		}
	}
	p.recallEntry(m)
	return nil
}

// hold keeps a problem of a member for the status: the operator leaves the member alone, and goes
// on with the others. It returns any other error.
func (p *pass) hold(m *member, err error) error {
	if _, ok := errors.AsType[*status.Problem](err); ok {
		m.held = true
	}
	return p.noted(err)
}

// readAccount looks for somebody else's ServiceAccount with the member's name, whose rights its pod
// would have.
func (p *pass) readAccount(ctx context.Context, m *member) error {
	if _, ok := cached[*corev1.ServiceAccount](p, m.name); ok || m.set == nil {
		return nil
	}
	account := &corev1.ServiceAccount{}
	err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: m.name}, account)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get ServiceAccount %s: %w", m.name, err)
	}
	if why := p.foreign(account); why != "" {
		return p.conflict("ServiceAccount", account, why)
	}
	return nil
}

// readPod finds the pod of a member. A pod without its labels is not in the cache, and is read from
// the API server.
func (p *pass) readPod(ctx context.Context, m *member) error {
	name := resources.PodName(m.name)
	if m.pod = p.podOf(m); m.pod != nil || m.set == nil {
		return nil
	}
	if _, ok := cached[*corev1.Pod](p, name); !ok {
		pod := &corev1.Pod{}
		err := p.r.live.Get(ctx, types.NamespacedName{Namespace: p.network.Namespace, Name: name}, pod)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("get Pod %s: %w", name, err)
		}
		p.objects[objectKey(pod, name)] = pod
		m.pod = p.podOf(m)
	}
	return nil
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
			object, ok := o.(client.Object)
			if !ok || !resources.Named(p.network.Name, object.GetName()) {
				return nil
			}
			if isPart(object) {
				whole, failed := p.r.whole(ctx, object)
				if whole == nil {
					return failed
				}
				object = whole
			}
			p.objects[objectKey(object, object.GetName())] = object
			return nil
		})
		if err != nil {
			return fmt.Errorf("list %T: %w", list, err)
		}
	}
	return nil
}

// nameNeighbours lists the networks of the namespace, if the spec could name their objects.
func (p *pass) nameNeighbours(ctx context.Context) error {
	if !resources.References(p.network) {
		return nil
	}
	networks := &v1alpha1.DiseqNetworkList{}
	if err := p.r.client.List(ctx, networks, client.InNamespace(p.network.Namespace)); err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	for i := range networks.Items {
		p.neighbours = append(p.neighbours, networks.Items[i].Name)
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

// nameMembers lists the members. Before there is a genesis document these are the validators that
// it will have. After that: the set in force, the entries of the peers file, and whatever has a
// StatefulSet or a volume. A retained network has volumes alone, until the chain says which set is
// in force.
func (p *pass) nameMembers() {
	serials := map[int]bool{}
	if p.genesis == nil {
		for serial := range int(p.network.Spec.Validators) {
			serials[serial] = true
		}
	} else {
		for _, v := range p.sets.newest().set.Validators {
			if serial, ok := resources.SerialOf(p.network.Name, v.Name); ok { // compareGenesis refuses other names
				serials[serial] = true
			}
		}
		if p.peers != nil {
			for _, e := range p.peers.Peers {
				if serial, ok := resources.SerialOf(p.network.Name, e.Name); ok {
					serials[serial] = true
				}
			}
		}
		for _, object := range p.objects {
			switch object.(type) {
			case *appsv1.StatefulSet, *corev1.PersistentVolumeClaim:
				if serial, ok := resources.SerialOf(p.network.Name, object.GetName()); ok && p.foreign(object) == "" {
					serials[serial] = true
				}
			}
		}
	}
	for _, serial := range slices.Sorted(maps.Keys(serials)) {
		p.members = append(p.members, p.newMember(serial))
	}
}

// newMember is a member as far as the chain knows it.
func (p *pass) newMember(serial int) *member {
	m := &member{name: resources.ValidatorName(p.network.Name, serial), serial: serial}
	if p.sets == nil {
		return m
	}
	for i := range p.sets.eras {
		for _, v := range p.sets.eras[i].set.Validators {
			if v.Name == m.name {
				m.chainKeys, m.spent = v.Validator, true
				m.inSet = p.known && i == len(p.sets.eras)-1
			}
		}
	}
	return m
}

// findUnstarted looks for Secrets of newcomers that have nothing else yet: an operator was killed
// after it made them. They can be found by name alone. It also finds the number of the next
// newcomer. It looks only if there will be newcomers.
func (p *pass) findUnstarted(ctx context.Context) error {
	if !p.known {
		return nil
	}
	for _, e := range p.sets.eras {
		for _, v := range e.set.Validators {
			if serial, ok := resources.SerialOf(p.network.Name, v.Name); ok {
				p.nextSerial = max(p.nextSerial, serial+1)
			}
		}
	}
	staying := 0
	for _, m := range p.members {
		p.nextSerial = max(p.nextSerial, m.serial+1)
		if m.inSet && !slices.Contains(p.network.Spec.Retire, m.name) {
			staying++
		}
	}
	for _, m := range p.network.Status.Members {
		if m.VolumeUID == "" && !m.VoteStore {
			continue // at most its Secret was made, which is looked for below
		}
		if serial, ok := resources.SerialOf(p.network.Name, m.Name); ok {
			p.nextSerial = max(p.nextSerial, serial+1)
		}
	}
	if staying >= int(p.network.Spec.Validators) {
		return nil
	}
	for ; ; p.nextSerial++ {
		m := p.newMember(p.nextSerial)
		err := p.readName(ctx, m)
		if problem, ok := errors.AsType[*status.Problem](err); ok {
			// The name is taken, and the next one is as good.
			p.remark("name "+m.name, "the name of a newcomer is taken, and it gets the next one", "validator", m.name, "err", problem.Message)
			continue
		}
		if err != nil {
			return err
		}
		if m.secret == nil {
			return nil
		}
		if p.recall(m); !m.retired && m.first == "" {
			p.members = append(p.members, m)
		}
	}
}

// readName reads the key Secret of a newcomer. If there is none, it looks whether the names of its
// other objects are free.
func (p *pass) readName(ctx context.Context, m *member) error {
	if err := p.readKey(ctx, m); err != nil || m.secret != nil {
		return err
	}
	free := *m
	return cmp.Or(p.readVolume(ctx, &free), p.readSet(ctx, &free))
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
		if m.pod == nil || m.pod.Status.PodIP == "" || m.publicKey() == (chain.PublicKey{}) {
			continue
		}
		m.asked = true
		asked = append(asked, m)
		nodes = append(nodes, p.node(m))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for i, answer := range nodeclient.Ask(ctx, p.r.nodes, nodes, membership.Slack, p.credible(asked)) {
		asked[i].answer = answer
	}
}

// credible returns the height that answers of members are measured by: that of the newest set.
func (p *pass) credible(asked []*member) func([]nodeclient.Answer) uint64 {
	return func(answers []nodeclient.Answer) uint64 {
		n := membership.Network{Set: p.sets.newest().membership()}
		for i, a := range answers {
			n.Members = append(n.Members, membership.Member{Validator: chain.Validator{PublicKey: asked[i].publicKey()}, Answer: a.Status})
		}
		return n.Height()
	}
}

// node is the node of a member's pod.
func (p *pass) node(m *member) nodeclient.Node {
	return nodeclient.Node{
		Name:      m.name,
		Address:   net.JoinHostPort(m.pod.Status.PodIP, strconv.Itoa(nodeclient.OperationsPort)),
		PublicKey: m.publicKey(),
		ChainID:   p.genesis.ChainID,
	}
}

// publicKey is the key by which the chain knows the member, or that of its Secret; zero without.
func (m *member) publicKey() chain.PublicKey {
	if m.chainKeys.PublicKey != (chain.PublicKey{}) {
		return m.chainKeys.PublicKey
	}
	return m.keys.PublicKey
}

// membership is the network as it was observed, which the planner decides on.
func (p *pass) membership() membership.Network {
	n := membership.Network{
		Name:          p.network.Name,
		Chain:         p.genesis != nil,
		Validators:    int(p.network.Spec.Validators),
		Threshold:     int(p.network.Spec.Threshold.ThresholdOf(p.network.Spec.Validators)),
		Retire:        p.network.Spec.Retire,
		NextSerial:    p.nextSerial,
		AllowDowntime: p.network.Annotations[membership.AllowDowntime] == "true",
		Paused:        p.network.Spec.Paused,
		Hibernated:    p.network.Spec.Hibernated,
	}
	if p.peers != nil {
		n.File = membership.File{Target: p.peers.Target, Checkpoint: p.peers.Checkpoint}
	}
	if budget, ok := cached[*policyv1.PodDisruptionBudget](p, resources.BudgetName(p.network.Name)); ok {
		n.Budget, n.Strict = minAvailable(budget), strict(budget)
	}
	if p.known {
		n.Set = p.sets.newest().membership()
	}
	for _, m := range p.members {
		n.Members = append(n.Members, p.observed(m, n.Set))
	}
	return n
}

// observed is what the planner sees of a member.
func (p *pass) observed(m *member, set membership.Set) membership.Member {
	o := membership.Member{
		Name: m.name, Serial: m.serial, Validator: m.keys, Secret: m.secret != nil, VoteStore: m.voteStore,
		Spent: m.spent, Listed: m.listed, NamedFor: m.namedFor, Retired: m.retired,
	}
	if m.chainKeys.PublicKey != (chain.PublicKey{}) {
		o.Validator = m.chainKeys
	}
	if m.volume != nil {
		o.Volume = membership.ObserveVolume(m.volume)
	}
	o.Volume.FirstUID = m.first
	if m.set != nil {
		o.StatefulSet.Exists, o.StatefulSet.UID = true, m.set.UID
		o.StatefulSet.Unobserved = m.set.Status.ObservedGeneration < m.set.Generation ||
			m.wanted == nil || !resources.Current(m.set, m.wanted)
		o.StatefulSet.Ignored, o.NoPod = m.ignored, m.noPod
	}
	if m.pod != nil {
		asked := resources.RestartAsked(m.pod, m.wanted, m.set)
		o.Pod = set.ObservePod(m.pod, (p.outdatedPod(m) || asked) && !m.held, p.now)
		o.Pod.Asked = asked
		if o.Pod.Waiting == "" {
			o.Pod.Waiting, o.Pod.Message = m.noStart, m.noStartWords
		}
	}
	if m.asked {
		o.Answer, o.Silence = m.answer.Status, m.answer.Err
	}
	return o
}
