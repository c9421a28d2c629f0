package membership

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// Network is one network as one reconcile observed it. Everything in it is from that one
// observation: if a decision joined new pods with old answers, it would be about a network that
// never existed.
type Network struct {
	// Name of the resource.
	Name string
	// Chain says that there is a genesis document.
	Chain bool
	// Validators and Threshold that the spec asks for, and the names of those that have to leave.
	Validators, Threshold int
	Retire                []string
	// Set is in force on the chain.
	Set Set
	// File is the peers file as it stands. It comes from the API server, not from a cache: a target
	// that a cache does not show yet would not protect the pods that it needs.
	File File
	// NextSerial is above all serial numbers of the chain, the volumes, the Secrets, the
	// StatefulSets and the peers file. Newcomers are numbered from it on.
	NextSerial int
	// Budget is minAvailable of the PodDisruptionBudget as it stands, 0 if there is none; Strict
	// says that it holds for pods that are not ready, too.
	Budget int
	Strict bool
	// Members are the validators that the operator keeps objects for, in any order.
	Members []Member
	// AllowDowntime is the annotation diseq.io/allow-downtime: restarts may stop the chain.
	AllowDowntime bool
	// Paused says that the operator must leave all pods alone.
	Paused bool
	// Hibernated says that no node is to run.
	Hibernated bool
}

// Set is the set of validators that is in force, as the operator verified it from the genesis
// document on. It is empty before there is a genesis document, and while the operator does not know
// the set: nodes have to answer first.
type Set struct {
	// Generation of the set: 0 for that of the genesis document, and one more with each change.
	Generation uint32
	// Height and Hash are those of the block that changed the set; zero for that of the genesis
	// document.
	Height uint64
	Hash   chain.Hash
	// Threshold is how many of the validators must sign.
	Threshold  int
	Validators []chain.NamedValidator
	// Delta of the synchrony wait; 0 without.
	Delta time.Duration
}

// Known says that the operator knows the set.
func (s Set) Known() bool { return len(s.Validators) > 0 }

// Has says whether a key is in the set.
func (s Set) Has(key chain.PublicKey) bool {
	return slices.ContainsFunc(s.Validators, func(v chain.NamedValidator) bool { return v.PublicKey == key })
}

// checkpoint is the checkpoint that the peers file should have; nil before the first change.
func (s Set) checkpoint() *chain.Checkpoint {
	if s.Generation == 0 {
		return nil
	}
	return &chain.Checkpoint{Height: s.Height, Hash: s.Hash}
}

// File is what decisions need of the peers file.
type File struct {
	// Target is the next set that the validators are to endorse; nil if there is none.
	Target     *chain.Target
	Checkpoint *chain.Checkpoint
}

// target is the target that stands: the one in the peers file, if it follows the set in force.
func (n Network) target() *chain.Target {
	if t := n.File.Target; t != nil && n.Set.Known() && t.Follows == n.Set.Generation {
		return t
	}
	return nil
}

// named says that a target of the present generation named a validator: it may be in the next set
// at any moment, because nobody can take an endorsement back.
func (n Network) named(m *Member) bool {
	if m.Spent || !n.Set.Known() {
		return false
	}
	t := n.target()
	return m.NamedFor > n.Set.Generation ||
		t != nil && slices.ContainsFunc(t.Validators, func(v chain.NamedValidator) bool { return v.PublicKey == m.PublicKey })
}

// Settling is how long a restarted validator must have been ready before the operator restarts the
// next one, as minReadySeconds elsewhere. A node that has just caught up on a busy machine may fall
// behind once more, and a probe may fail once more. With the synchrony wait a node does not vote
// for 2 Delta after its start; those come on top.
func (s Set) Settling() time.Duration { return settling + 2*s.Delta }

// Member is a validator, with its objects and its node's answer. It is in the set, on its way into
// it, or has left it.
type Member struct {
	// Name is that of its StatefulSet, key Secret and volume claim.
	Name string
	// Serial is the number in the name. It is never used again.
	Serial int
	// The keys of the validator; zero before its Secret is made.
	chain.Validator
	// Secret says that its key Secret exists, Retired that the Secret is marked: the validator has
	// left for good.
	Secret, Retired bool
	// Spent says that its key was in a set of the chain: if the set in force does not have it, the
	// validator has left and cannot come back.
	Spent bool
	// Listed says that the peers file has an entry for it. NamedFor is the generation of the newest
	// set that a target named it for, by that entry; 0 if none did.
	Listed   bool
	NamedFor uint32
	// NoPod says why the member has had no pod for the time of StartTime. It is empty if there is a
	// pod, or was one a moment ago.
	NoPod string
	// VoteStore says that the node was seen with its vote store, at any time: there is a record.
	VoteStore bool
	// Volume is its volume claim.
	Volume Volume
	// StatefulSet is the one that runs its pod.
	StatefulSet StatefulSet
	// Pod is nil if there is none.
	Pod *Pod
	// Answer of the pod's node, identity verified; nil if there is none.
	Answer *nodeclient.Status
	// Silence is why there is no answer; nil if there is one, or if the node was not asked.
	Silence error
	// Steady says that the node was fit to join the set at every look of the last 5 s, Mute that it
	// did not answer at any look of the last minute. [Memory.Observe] fills them in.
	Steady, Mute bool
}

// Volume is a member's volume claim. The operator does not wait until it is bound: with
// WaitForFirstConsumer it is pending until its pod exists.
type Volume struct {
	Exists      bool
	Terminating bool
	UID         types.UID
	// FirstUID is the UID of the first volume that the member ever had, the only one on which its
	// node may make a vote store. Empty before there was one.
	FirstUID types.UID
	// Capacity is what Kubernetes says that it holds; nil before it is bound.
	Capacity *resource.Quantity
	// Resize is a growth that is not complete.
	Resize Resize
}

// Replaced says that the volume is not the member's first one.
func (v Volume) Replaced() bool { return v.Exists && v.FirstUID != "" && v.UID != v.FirstUID }

// StatefulSet is a member's StatefulSet.
type StatefulSet struct {
	Exists bool
	UID    types.UID
	// Unobserved says that the StatefulSet's controller has not seen the last apply
	// (status.observedGeneration below metadata.generation). A pod that is deleted now could come
	// back with the old template.
	Unobserved bool
	// Ignored says that the controller has not seen the last apply for longer than a start takes.
	Ignored bool
}

// Pod is a member's pod.
type Pod struct {
	Name string
	UID  types.UID
	// Ready is its condition of that name.
	Ready bool
	// Terminating says that it has a deletionTimestamp.
	Terminating bool
	// Outdated says that the pod is to be replaced: it was not made from the template that is now
	// wanted, or its restart is asked for. Asked says the latter.
	Outdated, Asked bool
	// Scheduled says that it has a Kubernetes node: Machine. Zone is the zone of that, empty if the
	// pod has no label that says it.
	Scheduled     bool
	Machine, Zone string
	// Waiting is the reason of Kubernetes for which the pod does not run: Unschedulable,
	// ImagePullBackOff, CrashLoopBackOff, ... Message is the message of Kubernetes about it.
	Waiting, Message string
	// Since is when the pod was last ready, or when it was created if it never was; zero while it
	// is ready.
	Since time.Time
	// Resize is a change of its resources in place that is not complete.
	Resize Resize
	// Fresh says that it has been ready for less than [Set.Settling].
	Fresh bool
}

// nodeContainer is the container of the node; the others are the user's.
const nodeContainer = "node"

// StartTime is how long a pod may take to be made, and how long to become ready after that, before
// that counts as wrong.
const StartTime = 2 * time.Minute

const (
	settling = 5 * time.Second
	// crashLooping is the reason of Kubernetes while it waits before it starts a container again.
	crashLooping = "CrashLoopBackOff"
	// crashLoop is the number of restarts from which a container is crash-looping also between the
	// waits. Else it would look well for a moment after each restart. It is shortCrashLoop if the
	// last run was shorter than backOffForgotten: Kubernetes waits from the second restart on, and
	// forgets the restarts before a longer run.
	crashLoop, shortCrashLoop = 3, 2
	backOffForgotten          = 10 * time.Minute
)

// loops says whether a container that runs, or has just ended, ends again and again.
func loops(c corev1.ContainerStatus) bool {
	if last := c.LastTerminationState.Terminated; last != nil && last.ExitCode != 0 && !last.StartedAt.IsZero() &&
		last.FinishedAt.Sub(last.StartedAt.Time) < backOffForgotten {
		return c.RestartCount >= shortCrashLoop
	}
	return c.RestartCount >= crashLoop
}

// ObservePod takes the parts of a pod of the set that decisions need. outdated says that it is to
// be replaced.
func (s Set) ObservePod(pod *corev1.Pod, outdated bool, now time.Time) *Pod {
	p := &Pod{
		Name:        pod.Name,
		UID:         pod.UID,
		Terminating: pod.DeletionTimestamp != nil,
		Outdated:    outdated,
		Scheduled:   pod.Spec.NodeName != "",
		Machine:     pod.Spec.NodeName,
		Zone:        pod.Labels[corev1.LabelTopologyZone],
		Since:       pod.CreationTimestamp.Time,
		Resize:      resizeOfPod(pod),
	}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue:
			p.Ready, p.Since = true, time.Time{}
			p.Fresh = now.Sub(c.LastTransitionTime.Time) < s.Settling()
		case c.Type == corev1.PodReady && c.LastTransitionTime.After(p.Since):
			p.Since = c.LastTransitionTime.Time
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable:
			p.Waiting, p.Message = c.Reason, c.Message
		}
	}
	if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "" { // evicted, for one
		p.Waiting, p.Message = pod.Status.Reason, pod.Status.Message
	}
	containers := append(append([]corev1.ContainerStatus(nil), pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	for _, c := range containers {
		why := c.State.Waiting
		switch {
		case why != nil && (why.Reason == "ContainerCreating" || why.Reason == "PodInitializing"):
			why = nil // on its way
		case why == nil && !p.Ready && loops(c):
			// started once more, and will exit once more
			why = &corev1.ContainerStateWaiting{Reason: crashLooping}
		}
		if why == nil || why.Reason == "" {
			continue
		}
		p.Waiting, p.Message = why.Reason, why.Message
		if last := c.LastTerminationState.Terminated; last != nil && why.Reason == crashLooping {
			p.Message = terminated(last)
		}
		if c.Name != nodeContainer && c.Name != "" {
			p.Message = strings.TrimSuffix("container "+c.Name+": "+p.Message, ": ")
		}
	}
	p.Message = printable(p.Message, longestCause)
	return p
}
