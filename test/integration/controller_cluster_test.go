package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

// cluster plays what the API server alone does not have, in one namespace: the StatefulSet
// controller, the scheduler and the kubelet, the protection of volumes in use, the garbage
// collector, and the nodes of networks, which answer through Fake.
//
// Nothing happens but in step, which does one round of all of it. So a test decides what the
// operator meets, and in which order; what a real cluster does between two reconciles is one step
// or several.
//
// Mistakes of the operator are recorded rather than asserted in the middle: statements that volumes
// were given, and the lowest number of votes.
type cluster struct {
	t         testing.TB
	client    client.Client
	namespace string
	nodes     *nodeclient.Fake
	// removed says that a network was deleted: the next one asks for what was left behind.
	removed bool

	// badImage says of an image that it cannot be pulled.
	badImage func(string) bool
	// held are StatefulSets whose controller does not look at them.
	held map[string]bool
	// slow is for how many steps a pod that runs is not ready yet.
	slow int
	// silent are validators whose nodes do not answer.
	silent map[string]bool
	// behind are validators whose nodes are that many heights behind.
	behind map[string]uint64
	// deaf are validators whose nodes do not hear the others within the Delta of the synchrony
	// wait, where the network has one.
	deaf map[string]bool
	// evidence is how many pieces of it validators' nodes hold.
	evidence map[string]uint64
	// rejoins says whether nodes without votes may vote again.
	rejoins bool
	// undecided keeps the chain from changing its set. heldMessages are those that a validator's
	// pool held when it left the set, and that are not final.
	undecided    bool
	heldMessages map[string]uint64
	// unbound says of a claim that no volume is made for it.
	unbound func(*corev1.PersistentVolumeClaim) bool
	// unschedulable says of a pod that no machine takes it.
	unschedulable func(string) bool

	height uint64
	// chains are those of the networks.
	chains map[string]*playedChain
	// audited are the StatefulSets at the last audit; wasUp are the networks that had their quorum.
	audited map[string]types.UID
	wasUp   map[string]bool
	disks   map[types.UID]*disk
	age     map[types.UID]int
	// statements are the volumes that pods with --create-vote-store came up on.
	statements map[string][]types.UID
	// made counts the vote stores that a validator's node made because of it.
	made map[string]int
	// started are pods that came up, in order: name and image.
	started []string
	ips     int
}

// disk is what is on a volume.
type disk struct {
	votes bool
	used  bool
	// made says that the vote store on it was made by statement, voted that it has voted since.
	made, voted bool
}

func classOf(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return ""
	}
	return *claim.Spec.StorageClassName
}

// bind gives a claim a volume, if it has none.
func (c *cluster) bind(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" {
		return nil
	}
	claim.Spec.VolumeName = "pv-" + string(claim.UID)
	if err := c.client.Update(ctx, claim); err != nil {
		return err
	}
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
	return c.client.Status().Update(ctx, claim)
}

func newCluster(t testing.TB) *cluster {
	return &cluster{
		t: t, client: harness.Client(t), namespace: harness.Namespace(t), nodes: &nodeclient.Fake{},
		badImage: func(image string) bool { return strings.Contains(image, "bad") },
		held:     map[string]bool{}, silent: map[string]bool{}, behind: map[string]uint64{}, deaf: map[string]bool{}, evidence: map[string]uint64{},
		height: 10, disks: map[types.UID]*disk{}, age: map[types.UID]int{}, statements: map[string][]types.UID{}, made: map[string]int{},
		rejoins: true, chains: map[string]*playedChain{}, heldMessages: map[string]uint64{}, wasUp: map[string]bool{},
		unschedulable: func(string) bool { return false },
		unbound:       func(claim *corev1.PersistentVolumeClaim) bool { return strings.Contains(classOf(claim), "typo") },
	}
}

func (c *cluster) in() client.ListOption { return client.InNamespace(c.namespace) }

// step lets a cluster do one round of everything.
func (c *cluster) step(ctx context.Context) {
	c.t.Helper()
	for _, do := range []func(context.Context) error{c.collectGarbage, c.releaseVolumes, c.runStatefulSets, c.runPods, c.runNodes} {
		if err := do(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			c.t.Fatalf("the cluster that the test plays: %v", err)
		}
	}
}

// collectGarbage deletes what has an owner that is gone.
func (c *cluster) collectGarbage(ctx context.Context) error {
	alive := map[types.UID]bool{}
	networks, sets := &v1alpha1.DiseqNetworkList{}, &appsv1.StatefulSetList{}
	if err := errors.Join(c.client.List(ctx, networks, c.in()), c.client.List(ctx, sets, c.in())); err != nil {
		return err
	}
	for _, n := range networks.Items {
		alive[n.UID] = true
	}
	for _, s := range sets.Items {
		alive[s.UID] = true
	}
	for _, object := range c.everything(ctx) {
		owner := metav1.GetControllerOf(object)
		if owner == nil || alive[owner.UID] || (owner.Kind != "DiseqNetwork" && owner.Kind != "StatefulSet") {
			continue
		}
		uid := object.GetUID()
		err := c.client.Delete(ctx, object, client.Preconditions{UID: &uid}, client.GracePeriodSeconds(0))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// everything lists all objects of the namespace that a network may have.
func (c *cluster) everything(ctx context.Context) []client.Object {
	c.t.Helper()
	var objects []client.Object
	for _, list := range lists() {
		if err := c.client.List(ctx, list, c.in()); err != nil {
			c.t.Fatal(err)
		}
		objects = append(objects, items(c.t, list)...)
	}
	return objects
}

// releaseVolumes lets a deleted claim go when no pod uses it.
func (c *cluster) releaseVolumes(ctx context.Context) error {
	claims, pods := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}
	if err := errors.Join(c.client.List(ctx, claims, c.in()), c.client.List(ctx, pods, c.in())); err != nil {
		return err
	}
	for _, claim := range claims.Items {
		used := slices.ContainsFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName != "" && claimOf(&p) == claim.Name })
		if claim.DeletionTimestamp == nil || used || len(claim.Finalizers) == 0 {
			continue
		}
		claim.Finalizers = nil
		if err := c.client.Update(ctx, &claim); err != nil {
			return err
		}
	}
	return nil
}

func claimOf(pod *corev1.Pod) string {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			return v.PersistentVolumeClaim.ClaimName
		}
	}
	return ""
}

// runStatefulSets makes missing pods from the template as it is now, and then reports the
// generation that it saw. So a reported generation is carried out. A pod of an older template stays
// (OnDelete).
func (c *cluster) runStatefulSets(ctx context.Context) error {
	sets := &appsv1.StatefulSetList{}
	if err := c.client.List(ctx, sets, c.in()); err != nil {
		return err
	}
	for _, set := range sets.Items {
		if set.DeletionTimestamp != nil || c.held[set.Name] {
			continue
		}
		if set.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType || *set.Spec.Replicas > 1 {
			return fmt.Errorf("StatefulSet %s: strategy %s, %d replicas: the test plays OnDelete with 0 or 1", set.Name, set.Spec.UpdateStrategy.Type, *set.Spec.Replicas)
		}
		pod := &corev1.Pod{ObjectMeta: *set.Spec.Template.ObjectMeta.DeepCopy(), Spec: *set.Spec.Template.Spec.DeepCopy()}
		pod.Name, pod.Namespace = set.Name+"-0", set.Namespace
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}
		if *set.Spec.Replicas == 0 {
			if err := client.IgnoreNotFound(c.client.Delete(ctx, pod)); err != nil {
				return err
			}
		} else if err := c.client.Create(ctx, pod); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if set.Status.ObservedGeneration == set.Generation {
			continue
		}
		raw, err := json.Marshal(set.Spec.Template)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		set.Status.ObservedGeneration, set.Status.Replicas = set.Generation, *set.Spec.Replicas
		set.Status.UpdateRevision = set.Name + "-" + hex.EncodeToString(sum[:5])
		if err := c.client.Status().Update(ctx, &set); err != nil {
			return err
		}
	}
	return nil
}

// runPods schedules pods that have their volume, starts them, and lets those go that are deleted.
func (c *cluster) runPods(ctx context.Context) error {
	pods := &corev1.PodList{}
	if err := c.client.List(ctx, pods, c.in()); err != nil {
		return err
	}
	for i := range pods.Items {
		if err := c.runPod(ctx, &pods.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) runPod(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		return client.IgnoreNotFound(c.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	}
	before := pod.Status.DeepCopy()
	container := &pod.Spec.Containers[0]
	waiting := func(reason, message string) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: container.Name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: claimOf(pod)}, claim)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	switch {
	case pod.Spec.NodeName == "" && c.unschedulable(pod.Name):
		setPodCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, "0/3 nodes are available: 3 Insufficient cpu")
	case pod.Spec.NodeName == "" && (err != nil || claim.DeletionTimestamp != nil):
		setPodCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable,
			fmt.Sprintf("persistentvolumeclaim %q not found", claimOf(pod)))
	case pod.Spec.NodeName == "" && claim.Spec.VolumeName == "" && c.unbound(claim):
		setPodCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, "pod has unbound immediate PersistentVolumeClaims")
	case pod.Spec.NodeName == "":
		if err := c.bind(ctx, claim); err != nil {
			return err
		}
		binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "machine"}}
		if err := c.client.SubResource("binding").Create(ctx, pod, binding); err != nil {
			return err
		}
		return c.start(ctx, pod, claim) // pod is as it was before it was bound; it is read again
	case c.badImage(container.Image):
		waiting("ImagePullBackOff", "no such image "+container.Image)
	default:
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: container.Name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
		pod.Status.Phase = corev1.PodRunning
		ready := corev1.ConditionFalse
		// A node outside of the set is not ready, so that no Service sends it submissions.
		if p := c.chains[pod.Labels["diseq.io/network"]]; c.age[pod.UID] >= c.slow && p != nil && p.has(strings.TrimSuffix(pod.Name, "-0")) &&
			c.mayVote(claim, c.file(ctx, pod.Labels["diseq.io/network"])) {
			ready = corev1.ConditionTrue
		}
		c.age[pod.UID]++
		setPodCondition(pod, corev1.PodReady, ready, "", "")
		if pod.Status.PodIP == "" {
			c.ips++
			pod.Status.PodIP = fmt.Sprintf("10.0.%d.%d", c.ips/250, c.ips%250+1)
			pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
			pod.Status.StartTime = &metav1.Time{Time: time.Now()}
		}
	}
	if equalStatus(before, &pod.Status) {
		return nil
	}
	return c.client.Status().Update(ctx, pod)
}

// start is a node's first moment on a volume: the vote store is made if the pod states that the
// volume is the first one, nothing is on it, and the peers file does not know better.
func (c *cluster) start(ctx context.Context, pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) error {
	image := pod.Spec.Containers[0].Image
	c.started = append(c.started, pod.Name+" "+image)
	if states(pod.Spec.Containers) && !slices.Contains(c.statements[claim.Name], claim.UID) {
		c.statements[claim.Name] = append(c.statements[claim.Name], claim.UID)
	}
	if c.badImage(image) {
		return nil
	}
	d := c.disks[claim.UID]
	if d == nil {
		d = &disk{}
		c.disks[claim.UID] = d
	}
	if states(pod.Spec.Containers) && !d.used && !c.peersFile(ctx, pod.Labels["diseq.io/network"])[claim.Name] {
		d.votes, d.made = true, true
		c.made[claim.Name]++
	}
	d.used = true
	return nil
}

// mayVote says that the node on a claim need not wait for the record of its vote store.
func (c *cluster) mayVote(claim *corev1.PersistentVolumeClaim, file resources.PeersFile) bool {
	d := c.disks[claim.UID]
	return d == nil || !d.votes || d.voted || isRecorded(file, claim.Name)
}

func isRecorded(file resources.PeersFile, name string) bool {
	return slices.ContainsFunc(file.Peers, func(e resources.PeerEntry) bool { return e.Name == name && e.VoteStore })
}

// peersFile says of each validator whether the peers file has it that its vote store was made.
func (c *cluster) peersFile(ctx context.Context, network string) map[string]bool {
	c.t.Helper()
	made := map[string]bool{}
	for _, p := range c.file(ctx, network).Peers {
		made[p.Name] = p.VoteStore
	}
	return made
}

// empty removes what is on a validator's volume and restarts its node in place, as the kubelet
// does: with the arguments that it had.
func (c *cluster) empty(name string) {
	c.t.Helper()
	claim, pod := &corev1.PersistentVolumeClaim{}, &corev1.Pod{}
	c.get(name, claim)
	c.get(name+"-0", pod)
	delete(c.disks, claim.UID)
	if err := c.start(c.t.Context(), pod, claim); err != nil {
		c.t.Fatal(err)
	}
}

func states(containers []corev1.Container) bool {
	return slices.ContainsFunc(containers, func(c corev1.Container) bool { return slices.Contains(c.Args, "--create-vote-store") })
}

func setPodCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, reason, message string) {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == kind {
			if c.Status != status {
				c.LastTransitionTime = awhileAgo()
			}
			c.Status, c.Reason, c.Message = status, reason, message
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: awhileAgo(),
	})
}

// awhileAgo is when conditions change in this cluster: what has become ready has been so for long
// enough to go on.
func awhileAgo() metav1.Time {
	return metav1.NewTime(time.Now().Add(-membership.Set{Delta: time.Second}.Settling()))
}

func equalStatus(a, b *corev1.PodStatus) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// runNodes lets the nodes of pods that run answer, and the chain grow while enough of them vote.
func (c *cluster) runNodes(ctx context.Context) error {
	pods, claims := &corev1.PodList{}, &corev1.PersistentVolumeClaimList{}
	if err := errors.Join(c.client.List(ctx, pods, c.in()), c.client.List(ctx, claims, c.in())); err != nil {
		return err
	}
	uid := map[string]types.UID{}
	for _, claim := range claims.Items {
		uid[claim.Name] = claim.UID
	}
	running, nodes := map[string]bool{}, map[string][]playedNode{}
	for _, pod := range pods.Items {
		name := strings.TrimSuffix(pod.Name, "-0")
		d := c.disks[uid[name]]
		if pod.DeletionTimestamp != nil || d == nil || pod.Status.PodIP == "" || c.age[pod.UID] <= c.slow || c.silent[name] {
			continue
		}
		running[name] = true
		network := pod.Labels["diseq.io/network"]
		nodes[network] = append(nodes[network], playedNode{name: name, disk: d, access: c.accessOf(ctx, network, &pod)})
	}
	for network, nodes := range nodes {
		p, file := c.chainOf(ctx, network), c.file(ctx, network)
		if p == nil {
			continue
		}
		c.order(p, file, nodes)
		for _, n := range nodes {
			c.nodes.Answer(n.name, c.answer(p, file, n))
			c.nodes.AnswerChanges(n.name, p.changes...)
			c.nodes.AnswerGenesis(n.name, p.genesis)
		}
	}
	for _, pod := range pods.Items {
		if name := strings.TrimSuffix(pod.Name, "-0"); !running[name] {
			c.nodes.Fail(name, errors.New("connection refused"))
		}
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
