package membership

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/node/chain"
)

// Network is one network as it was seen in one reconcile. Everything in it is of that one
// observation: a decision that joins the pods of now with the answers of before would be about a
// network that never was.
type Network struct {
	// Name of the resource.
	Name string
	// Validators and Threshold that the spec asks for.
	Validators, Threshold int
	// Set is in force on the chain. It is empty until there is a genesis document.
	Set Set
	// Members are the validators that the operator keeps objects for, in any order.
	Members []Member
	// AllowDowntime is the annotation diseq.io/allow-downtime: restarts may stop the chain.
	AllowDowntime bool
	// Paused leaves all pods alone.
	Paused bool
}

// Set is a set of validators that is in force.
type Set struct {
	// Threshold is how many of them have to sign.
	Threshold int
	// Keys of the validators.
	Keys []chain.PublicKey
	// Delta of the synchrony wait; 0 without.
	Delta time.Duration
}

// Settling is how long a restarted validator of the set has to have been ready before the next one
// is restarted. A node that has just caught up on a busy machine may fall behind once more, and a
// kubelet may think again about its probe; what minReadySeconds is for elsewhere. With the
// synchrony wait it comes after the 2 Delta in which a node that has just been started does not
// vote.
func (s Set) Settling() time.Duration { return settling + 2*s.Delta }

// Member is a validator and what there is of it.
type Member struct {
	// Name is that of its StatefulSet, key Secret and volume claim.
	Name string
	// Serial is the number in the name. It is never used again.
	Serial int
	// PublicKey of the validator; zero before its Secret is made.
	PublicKey chain.PublicKey
	// Secret says that its key Secret exists.
	Secret bool
	// VoteStore says that its node was seen with its vote store, at any time.
	VoteStore bool
	// Volume is its volume claim.
	Volume Volume
	// StatefulSet is the one that runs its pod.
	StatefulSet StatefulSet
	// Pod is nil if there is none.
	Pod *Pod
	// Answer of the pod's node, identity verified; nil if there is none.
	Answer *nodeclient.Status
	// Silence is why there is no answer; nil if there is one, or if nobody was asked.
	Silence error
}

// Volume is a member's volume claim. Nobody waits for it to be bound: with WaitForFirstConsumer it
// is pending until its pod exists.
type Volume struct {
	Exists      bool
	Terminating bool
	UID         types.UID
	// FirstUID is that of the first volume that the member ever had, the only one on which its node
	// may make a vote store. Empty before there was one.
	FirstUID types.UID
}

// Replaced says that the volume is not the member's first one.
func (v Volume) Replaced() bool { return v.Exists && v.FirstUID != "" && v.UID != v.FirstUID }

// StatefulSet is a member's StatefulSet.
type StatefulSet struct {
	Exists bool
	// Unobserved says that the StatefulSet's controller has not seen what was applied last
	// (status.observedGeneration below metadata.generation): a pod deleted now could come back with
	// the old template.
	Unobserved bool
}

// Pod is a member's pod.
type Pod struct {
	Name string
	UID  types.UID
	// Ready is its condition of that name.
	Ready bool
	// Terminating says that it has a deletionTimestamp.
	Terminating bool
	// Outdated says that it was not made from the template that is wanted now.
	Outdated bool
	// Scheduled says that it has a Kubernetes node.
	Scheduled bool
	// Waiting is why it does not run, in Kubernetes' words: Unschedulable, ImagePullBackOff,
	// CrashLoopBackOff, ... Message is what Kubernetes says about it.
	Waiting, Message string
	// Since is when it was last ready, or when it was created if it never was; zero while it is
	// ready.
	Since time.Time
	// Fresh says that it has been ready for less than [Set.Settling].
	Fresh bool
}

const (
	settling = 5 * time.Second
	// crashLooping is what Kubernetes calls it while it waits before it starts a container again.
	crashLooping = "CrashLoopBackOff"
	// crashLoop is how many restarts make that certain also between the waits: a container that has
	// just been started once more would otherwise look well for a moment, again and again.
	crashLoop = 3
)

// ObservePod takes from a pod of the set what decisions need. outdated says that its template is
// not the one that is wanted.
func (s Set) ObservePod(pod *corev1.Pod, outdated bool, now time.Time) *Pod {
	p := &Pod{
		Name:        pod.Name,
		UID:         pod.UID,
		Terminating: pod.DeletionTimestamp != nil,
		Outdated:    outdated,
		Scheduled:   pod.Spec.NodeName != "",
		Since:       pod.CreationTimestamp.Time,
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
		case why == nil && !p.Ready && c.RestartCount >= crashLoop:
			// it has been started once more, and will end once more
			why = &corev1.ContainerStateWaiting{Reason: crashLooping}
		}
		if why == nil || why.Reason == "" {
			continue
		}
		p.Waiting, p.Message = why.Reason, why.Message
		if last := c.LastTerminationState.Terminated; last != nil && why.Reason == crashLooping {
			p.Message = terminated(last)
		}
	}
	return p
}
