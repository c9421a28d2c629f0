package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The conditions Ready, Reconciling and Stalled sum up the others for programs that know no others:
// kubectl wait, and what builds on kstatus, such as Flux. They have the reasons of the others.
//
//	                Ready   Reconciling   Stalled   kstatus
//	at its goal     True    False         False     Current
//	on its way      False   True          False     InProgress
//	needs a person  False   False         True      Failed
//	else            False   False         False     InProgress
//
// Else it is a trouble that may pass by itself, or the network is paused.

// ready: the network is as the spec asks for, and nothing is wrong with it. The reason is the most
// serious one that any condition has.
func ready(v view) verdict {
	available, wrong, going, stopped, admits := available(v), degraded(v), progressing(v), stalled(v), accessReady(v)
	switch {
	case going.reason == Hibernated && wrong.status == metav1.ConditionFalse && membershipChanging(v).status != metav1.ConditionTrue:
		return yes(Hibernated, "%s", going.message) // as the spec asks for, like a Deployment of no replicas
	case stopped.status == metav1.ConditionTrue && available.reason == Starting:
		return no(stopped.reason, "%s", stopped.message) // why it does not start
	case available.status != metav1.ConditionTrue:
		if wrong.status == metav1.ConditionTrue {
			return no(available.reason, "%s. %s", available.message, wrong.message)
		}
		return no(available.reason, "%s", available.message)
	case wrong.status == metav1.ConditionTrue:
		return no(wrong.reason, "%s", wrong.message)
	case going.status == metav1.ConditionTrue || going.reason != UpToDate:
		return no(going.reason, "%s", going.message)
	case admits.status != metav1.ConditionTrue && admits.reason != CertificateExpiring: // clients notice when it has ended
		return no(admits.reason, "%s", admits.message)
	case v.caughtUp < v.n: // for a moment: a pod that is not ready yet, a node that falls behind
		return no(available.reason, "%s", available.message)
	}
	return yes(available.reason, "%s", available.message)
}

// reconciling: the operator is on its way to what the spec asks for, or goes on by itself when
// validators are back.
func reconciling(v view) verdict {
	going := progressing(v)
	switch {
	case going.status == metav1.ConditionTrue, going.reason == WaitingForQuorum, going.reason == SetUnknown:
		return yes(going.reason, "%s", going.message)
	}
	return no(going.reason, "%s", going.message)
}

// stalled: a person has to act, because the operator cannot go on or a validator cannot run. It is
// never True together with Reconciling, so that no reader has to know which one counts.
func stalled(v view) verdict {
	if reconciling(v).status == metav1.ConditionTrue {
		return no(AsExpected, "the network is on its way")
	}
	going, wrong := progressing(v), degraded(v)
	stuck := v.Set.Stuck && !v.Network.Seen.Paused && going.reason == membershipChanging(v).reason
	switch stopped := stuck || going.reason == UpdateStuck || going.reason == RestartNeedsDowntime || len(v.Problems) > 0; {
	case wrong.status == metav1.ConditionTrue && (stopped || slices.Contains(needPerson, wrong.reason)):
		if going.reason == UpToDate || going.reason == Paused || len(v.Problems) > 0 { // whose messages it has
			return yes(wrong.reason, "%s", wrong.message)
		}
		return yes(wrong.reason, "%s. %s", wrong.message, going.message)
	case stopped:
		return yes(going.reason, "%s", going.message)
	}
	return no(AsExpected, "nothing that the operator sees needs a person")
}

// needPerson are the reasons of Degraded that do not end by themselves, besides problems.
var needPerson = []string{
	KeyMismatch, KeyMissing, WrongIdentity, WrongSet, VolumeBeingDeleted, ImagePullFailed, CrashLooping, Unschedulable, PodMissing,
	PodFailed, StorageLow, VoteStoresLost, StatefulSetIgnored, ResizeFailed,
}
