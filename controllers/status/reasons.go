package status

// Reasons of the condition Available.
const (
	// AllValidatorsReady: every validator of the set is ready and caught up.
	AllValidatorsReady = "AllValidatorsReady"
	// ThresholdReady: at least the threshold of them are, not all.
	ThresholdReady = "ThresholdReady"
	// QuorumLost: fewer than the threshold are ready and caught up; nothing becomes final. Also of
	// QuorumHealthy.
	QuorumLost = "QuorumLost"
	// SynchronyLost: enough are, and fewer than the threshold of them hear the others within the
	// Delta of the synchrony wait; nothing becomes final. Also of QuorumHealthy.
	SynchronyLost = "SynchronyLost"
	// Starting: fewer than the threshold are ready, as they have been ever since the network was
	// made. Also of QuorumHealthy.
	Starting = "Starting"
)

// Problems: reasons why the operator cannot go on, of Progressing, Degraded, and Available unless a
// quorum is there all the same.
const (
	// NameConflict: an object that the network needs exists and belongs to somebody else.
	NameConflict = "NameConflict"
	// RetainedSetMismatch: what an earlier network of the name left behind has another number of
	// validators or another threshold.
	RetainedSetMismatch = "RetainedSetMismatch"
	// RetainedGenesisMismatch: the genesis document is gone or not readable, or one that was left
	// behind has other constants than the spec.
	RetainedGenesisMismatch = "RetainedGenesisMismatch"
	// KeyMismatch: the key Secret of a validator holds another key than the genesis document.
	KeyMismatch = "KeyMismatch"
	// KeyMissing: the genesis document names a validator whose key Secret is gone.
	KeyMissing = "KeyMissing"
	// InvalidSpec: the spec asks for what the API server lets pass and the operator cannot make.
	InvalidSpec = "InvalidSpec"
	// WriteRefused: the API server refuses what the operator writes, for more than a moment: a
	// quota, an admission policy, a right.
	WriteRefused = "WriteRefused"
)

// Reasons of the condition Progressing.
const (
	// Creating: objects of the network are being made for the first time.
	Creating = "Creating"
	// StartingPods: pods are missing, stopping or starting; their StatefulSets make them again.
	StartingPods = "StartingPods"
	// RollingUpdate: pods are being made anew with the wanted template.
	RollingUpdate = "RollingUpdate"
	// WaitingForQuorum: the next restart would take the last votes that the chain needs.
	WaitingForQuorum = "WaitingForQuorum"
	// RestartNeedsDowntime: every restart stops the chain, with t = n; the annotation has to allow
	// it.
	RestartNeedsDowntime = "RestartNeedsDowntime"
	// UpdateStuck: the pod that was made anew does not run, or the next one would lose its volume;
	// somebody has to look.
	UpdateStuck = "UpdateStuck"
	// Paused: spec.paused is set.
	Paused = "Paused"
	// UpToDate: all pods run the wanted template.
	UpToDate = "UpToDate"
)

// Reasons of the condition Degraded, besides the problems above.
const (
	// WrongIdentity: another node answers where a validator should.
	WrongIdentity = "WrongIdentity"
	// WrongSet: a node runs with another number of validators, another threshold or another Delta
	// than the genesis document has.
	WrongSet = "WrongSet"
	// VolumeBeingDeleted: somebody deleted the volume claim of a running validator; it goes with
	// the pod.
	VolumeBeingDeleted = "VolumeBeingDeleted"
	// ImagePullFailed: the image of a pod cannot be pulled.
	ImagePullFailed = "ImagePullFailed"
	// CrashLooping: a node ends again and again.
	CrashLooping = "CrashLooping"
	// Unschedulable: no Kubernetes node takes a pod.
	Unschedulable = "Unschedulable"
	// PodFailed: a pod does not run for another reason that Kubernetes gives.
	PodFailed = "PodFailed"
	// Rejoining: a validator lost its volume and does not vote until that is safe.
	Rejoining = "Rejoining"
	// NotAnswering: the pod of a validator is ready, and the operator gets no answer from its node.
	NotAnswering = "NotAnswering"
	// NotReady: a validator has not been ready for longer than a start takes.
	NotReady = "NotReady"
	// Behind: a node that believes itself ready is behind the others.
	Behind = "Behind"
	// Abstaining: a validator does not hear the others within the Delta of the synchrony wait, and
	// does not vote for that.
	Abstaining = "Abstaining"
	// NotVoting: a node is well and does not vote.
	NotVoting = "NotVoting"
	// AsExpected: nothing of all this.
	AsExpected = "AsExpected"
)

// Reasons of the condition QuorumHealthy, besides QuorumLost, SynchronyLost and Starting.
const (
	// SpareValidators: more than the threshold are ready and caught up.
	SpareValidators = "SpareValidators"
	// NoSpareValidator: exactly the threshold are. One more may not be lost.
	NoSpareValidator = "NoSpareValidator"
)

// Reasons of the condition MembershipChanging.
const (
	// NoChainYet: there is no genesis document yet, and so no set to change.
	NoChainYet = "NoChainYet"
	// SetAsSpecified: the set in force is the one that the spec asks for.
	SetAsSpecified = "SetAsSpecified"
	// ScalingNotSupported: the spec asks for another set; this version cannot change it. Also of
	// Progressing, when there is nothing else to be done.
	ScalingNotSupported = "ScalingNotSupported"
)

// Reasons of the condition EvidenceFound.
const (
	// ValidatorsMisbehaved: nodes hold evidence that a validator broke the rules of voting.
	ValidatorsMisbehaved = "ValidatorsMisbehaved"
	// NoEvidence: none of those that answer does.
	NoEvidence = "NoEvidence"
)
