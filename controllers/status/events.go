package status

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// Reasons of events that are about no condition.
const (
	// GenesisMade: the genesis document of a new chain is made.
	GenesisMade = "GenesisMade"
	// ChainAdopted: the network goes on with the chain of an earlier network of its name.
	ChainAdopted = "ChainAdopted"
	// ObjectsAdopted: the network took over objects that existed before it, as its spec asks for.
	ObjectsAdopted = "ObjectsAdopted"
	// Restarting: the operator deletes the pod of a validator that votes, for an update.
	Restarting = "Restarting"
	// Replacing: the operator deletes pods with an outdated template that are not ready.
	Replacing = "Replacing"
	// TargetDeclared: the operator has written the next set to the peers file.
	TargetDeclared = "TargetDeclared"
	// SetChanged: the chain has another validator set.
	SetChanged = "SetChanged"
	// NewcomerStopped: a validator that was not in the set yet is not needed any more.
	NewcomerStopped = "NewcomerStopped"
	// ValidatorLeft: a validator that has left the set is stopped.
	ValidatorLeft = "ValidatorLeft"
	// VolumeDeleted: the volume claim of a validator that has left is deleted.
	VolumeDeleted = "VolumeDeleted"
	// ClaimReplaced: a claim that was never bound is made anew.
	ClaimReplaced = "ClaimReplaced"
	// ReconcileFailed: the operator has not been able to look at the network for a minute.
	ReconcileFailed = "ReconcileFailed"
	// Reverted: the operator has put back a change of an object by somebody else.
	Reverted = "Reverted"
	// Resolved: a problem is over, and others are not.
	Resolved = "Resolved"
)

// A Warning is an event that a person has to look at. All others are Normal: what was asked for,
// what passes by itself, and the end of a problem.
const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// eventTypes are the types of events, by their reasons. [EventType] has the few exceptions.
var eventTypes = map[string]string{
	// Available
	AllValidatorsReady: normal,
	ThresholdReady:     normal, // Degraded says what is wrong with the others
	QuorumLost:         warning,
	VoteStoresLost:     warning,
	SynchronyLost:      warning,
	SubmissionsRefused: warning,
	Starting:           normal,
	// hibernation
	Hibernated:  normal, // somebody has asked for it
	Hibernating: normal,
	// problems
	NameConflict:            warning,
	RetainedGenesisMismatch: warning,
	KeyMismatch:             warning,
	KeyMissing:              warning,
	InvalidSpec:             warning,
	WriteRefused:            warning,
	AccessFilesMissing:      warning,
	ChangeContested:         warning,
	VolumeCannotGrow:        warning,
	// Progressing
	Creating:             normal,
	StartingPods:         normal,
	RollingUpdate:        normal,
	WaitingForQuorum:     warning,
	RestartNeedsDowntime: warning,
	UpdateStuck:          warning,
	Paused:               normal, // somebody has asked for it
	ChangingSet:          normal,
	Resizing:             normal,
	UpToDate:             normal,
	// Degraded
	WrongIdentity:      warning,
	WrongSet:           warning,
	VolumeBeingDeleted: warning,
	ImagePullFailed:    warning,
	CrashLooping:       warning,
	Unschedulable:      warning,
	PodMissing:         warning,
	StatefulSetIgnored: warning,
	PodFailed:          warning,
	ResizeFailed:       warning,
	StorageLow:         warning,
	Rejoining:          warning, // nobody must lose another volume now
	NotAnswering:       warning,
	NotReady:           warning,
	Behind:             warning,
	Abstaining:         warning,
	NotVoting:          warning,
	AsExpected:         normal,
	// QuorumHealthy
	SpareValidators:  normal,
	SharedMachine:    normal, // a small cluster has no other place
	NoSpareValidator: warning,
	// MembershipChanging
	NoChainYet:          normal,
	SetAsSpecified:      normal,
	SetUnknown:          normal, // QuorumLost says it if nodes do not answer that did before
	WaitingForNewcomers: normal,
	WaitingForVotes:     warning,
	WaitingForUpdate:    normal,
	WaitingForBlock:     normal,
	WaitingForLeavers:   normal,
	// EvidenceFound
	ValidatorsMisbehaved: warning,
	NoEvidence:           normal,
	// AccessReady
	AccessOpen:          normal,
	AccessAsSpecified:   normal,
	AccessStarting:      normal,
	AccessRefused:       warning,
	CertificateExpiring: warning,
	ClientsRefused:      warning,
	ClusterKeysMissing:  warning,
	ClusterKeysOld:      warning,
	// of no condition
	GenesisMade:     normal,
	ChainAdopted:    normal,
	ObjectsAdopted:  normal, // somebody has asked for it
	Restarting:      normal,
	Replacing:       normal,
	TargetDeclared:  normal,
	Reverted:        normal,
	SetChanged:      normal,
	NewcomerStopped: normal,
	ValidatorLeft:   normal,
	VolumeDeleted:   normal,
	ClaimReplaced:   normal,
	ReconcileFailed: warning,
	Resolved:        normal,
}

// EventTypeOf is the type of the event of a trouble, or of an event of no condition.
func EventTypeOf(reason string) string {
	if kind, ok := eventTypes[reason]; ok {
		return kind
	}
	return warning // a test has every reason in the table
}

// EventType is the type of the event for a condition of a status. With downtimeAllowed the chain
// may stop for an update.
func EventType(c metav1.Condition, s v1alpha1.DiseqNetworkStatus, downtimeAllowed bool) string {
	switch {
	case c.Type == v1alpha1.ConditionMembershipChanging && c.Status == metav1.ConditionTrue && (c.Reason == Paused || c.Reason == Hibernated):
		return warning // somebody has asked for a set that does not come
	case c.Type == v1alpha1.ConditionProgressing && c.Status == metav1.ConditionFalse && slices.Contains(changeWaits, c.Reason):
		return warning // the change goes on only if a person helps
	case c.Reason == NoSpareValidator && s.Threshold == s.Validators:
		return normal // the spec has asked for it
	case downtimeAllowed && (rolling(s) || starting(s)) && (c.Reason == QuorumLost || c.Reason == SynchronyLost):
		return normal
	}
	return EventTypeOf(c.Reason)
}

// changeWaits are reasons of a change of the set that waits. Progressing has them if a person must
// help.
var changeWaits = []string{WaitingForNewcomers, WaitingForUpdate, WaitingForBlock, WaitingForLeavers}

// Passes says that a change of a condition needs no event, because pods are being started or
// restarted: a validator is away, and the quorum stands. If it lasts, Progressing has another
// reason, and there is an event.
func Passes(last, c metav1.Condition, s v1alpha1.DiseqNetworkStatus) bool {
	if !rolling(s) && !starting(s) {
		return false
	}
	switch c.Type {
	case v1alpha1.ConditionAvailable:
		return c.Status == metav1.ConditionTrue && last.Status == c.Status
	case v1alpha1.ConditionQuorumHealthy:
		return c.Reason == SpareValidators || c.Reason == SharedMachine || c.Reason == NoSpareValidator
	}
	return false
}

// rolling says that pods are being restarted for an update.
func rolling(s v1alpha1.DiseqNetworkStatus) bool {
	c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionProgressing)
	return c != nil && c.Status == metav1.ConditionTrue && c.Reason == RollingUpdate
}

// starting says that pods are missing or on their way.
func starting(s v1alpha1.DiseqNetworkStatus) bool {
	c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionProgressing)
	return c != nil && c.Status == metav1.ConditionTrue && (c.Reason == Creating || c.Reason == StartingPods)
}
