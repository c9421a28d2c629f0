package status

// Ready, Reconciling and Stalled have the reasons of the other conditions.

// Reasons of the condition Available.
const (
	// AllValidatorsReady: every validator of the set is ready and caught up.
	AllValidatorsReady = "AllValidatorsReady"
	// ThresholdReady: at least the threshold of them are, not all.
	ThresholdReady = "ThresholdReady"
	// QuorumLost: fewer than the threshold are ready and caught up; nothing becomes final. Also of
	// QuorumHealthy.
	QuorumLost = "QuorumLost"
	// VoteStoresLost: so many validators of the set lost their vote stores that no block can become
	// final any more, so that none of them can rejoin. Also of QuorumHealthy and Degraded.
	VoteStoresLost = "VoteStoresLost"
	// SynchronyLost: enough are, but fewer than the threshold of them hear the others within the
	// Delta of the synchrony wait; nothing becomes final. Also of QuorumHealthy.
	SynchronyLost = "SynchronyLost"
	// SubmissionsRefused: enough are caught up, but none of them has room on its disk for messages.
	SubmissionsRefused = "SubmissionsRefused"
	// Starting: fewer than the threshold are ready, and the network never had a quorum. Also
	// of QuorumHealthy.
	Starting = "Starting"
)

// Hibernation.
const (
	// Hibernated: spec.hibernated is true and no node runs. Of Available, Progressing and
	// QuorumHealthy, and of MembershipChanging if the set is to change.
	Hibernated = "Hibernated"
	// Hibernating: spec.hibernated is true, and nodes are stopping. Of Progressing.
	Hibernating = "Hibernating"
)

// Problems that the operator cannot solve: reasons of Progressing and Degraded. Available follows
// the nodes alone.
const (
	// NameConflict: an object with a name that the network needs belongs to somebody else.
	NameConflict = "NameConflict"
	// RetainedGenesisMismatch: the genesis document is gone or not readable, or the document of an
	// earlier network has other constants than the spec.
	RetainedGenesisMismatch = "RetainedGenesisMismatch"
	// KeyMismatch: the key Secret of a validator holds another key than the chain.
	KeyMismatch = "KeyMismatch"
	// KeyMissing: the genesis document names a validator whose key Secret is gone.
	KeyMissing = "KeyMissing"
	// InvalidSpec: the API server accepted the spec, but the operator cannot make it.
	InvalidSpec = "InvalidSpec"
	// WriteRefused: the API server refuses a write of the operator, and would refuse it again: a
	// quota, an admission policy, a missing right.
	WriteRefused = "WriteRefused"
	// AccessFilesMissing: the Secret or the ConfigMap that the nodes need to serve clients over TLS
	// is not there. Also of AccessReady.
	AccessFilesMissing = "AccessFilesMissing"
	// ChangeContested: something else changes an object again whenever the operator puts it back.
	ChangeContested = "ChangeContested"
)

// Reasons of the condition Progressing.
const (
	// Creating: objects of the network are being made for the first time.
	Creating = "Creating"
	// StartingPods: pods are missing, stopping or starting; their StatefulSets make new ones.
	StartingPods = "StartingPods"
	// RollingUpdate: pods are being replaced by ones with the wanted template.
	RollingUpdate = "RollingUpdate"
	// WaitingForQuorum: the next restart would take the last votes that the chain needs.
	WaitingForQuorum = "WaitingForQuorum"
	// RestartNeedsDowntime: the threshold equals the number of validators, so that every restart
	// stops the chain; the annotation must allow it.
	RestartNeedsDowntime = "RestartNeedsDowntime"
	// UpdateStuck: the restarted pod does not run, or the next one would lose its volume; a person
	// must help.
	UpdateStuck = "UpdateStuck"
	// Paused: spec.paused is true.
	Paused = "Paused"
	// ChangingSet: the set of validators is being changed; MembershipChanging says how far.
	ChangingSet = "ChangingSet"
	// Resizing: volumes grow, or pods are resized in place.
	Resizing = "Resizing"
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
	// VolumeBeingDeleted: somebody deleted the volume claim of a running validator. The volume is
	// lost when the pod stops.
	VolumeBeingDeleted = "VolumeBeingDeleted"
	// ImagePullFailed: the image of a pod cannot be pulled.
	ImagePullFailed = "ImagePullFailed"
	// CrashLooping: a node exits again and again.
	CrashLooping = "CrashLooping"
	// Unschedulable: no Kubernetes node takes a pod.
	Unschedulable = "Unschedulable"
	// PodMissing: nobody has made the pod of a validator for longer than a start takes: a quota, an
	// admission policy or a webhook refuses it, or the StatefulSet's controller does not run.
	PodMissing = "PodMissing"
	// StatefulSetIgnored: the controller of StatefulSets does not look at the change of one.
	StatefulSetIgnored = "StatefulSetIgnored"
	// PodFailed: a pod does not run for another reason that Kubernetes gives.
	PodFailed = "PodFailed"
	// ResizeFailed: a volume cannot grow, or a pod cannot be resized in place.
	ResizeFailed = "ResizeFailed"
	// StorageLow: a validator has no room on its disk for messages.
	StorageLow = "StorageLow"
	// VolumeCannotGrow: spec.storage.size is larger than a volume whose class cannot grow. It is a
	// problem.
	VolumeCannotGrow = "VolumeCannotGrow"
	// Rejoining: a validator lost its vote store and does not vote until that is safe.
	Rejoining = "Rejoining"
	// NotAnswering: the pod of a validator is ready, and the operator gets no answer from its node.
	NotAnswering = "NotAnswering"
	// NotReady: a validator has not been ready for longer than a start takes.
	NotReady = "NotReady"
	// Behind: a node that believes itself ready is behind the others.
	Behind = "Behind"
	// Abstaining: a validator does not hear enough others within the Delta of the synchrony wait,
	// so it does not vote.
	Abstaining = "Abstaining"
	// NotVoting: a node is well and does not vote.
	NotVoting = "NotVoting"
	// AsExpected: there are no problems.
	AsExpected = "AsExpected"
)

// Reasons of the condition QuorumHealthy, besides QuorumLost, SynchronyLost and Starting.
const (
	// SpareValidators: more than the threshold are ready and caught up.
	SpareValidators = "SpareValidators"
	// SharedMachine: the same, but the loss of one machine or zone would stop the chain, because it
	// carries several validators.
	SharedMachine = "SharedMachine"
	// NoSpareValidator: exactly the threshold are. One more failure stops the chain.
	NoSpareValidator = "NoSpareValidator"
)

// Reasons of the condition MembershipChanging.
const (
	// NoChainYet: there is no genesis document yet.
	NoChainYet = "NoChainYet"
	// SetAsSpecified: the set in force is the one that the spec asks for.
	SetAsSpecified = "SetAsSpecified"
	// SetUnknown: the operator has been started and has not learned the set from the nodes yet.
	// Also of Progressing.
	SetUnknown = "SetUnknown"
	// WaitingForNewcomers: newcomers are started, and catch up as observers.
	WaitingForNewcomers = "WaitingForNewcomers"
	// WaitingForVotes: too few validators vote for a change to be possible.
	WaitingForVotes = "WaitingForVotes"
	// WaitingForUpdate: the change begins when the pods are updated.
	WaitingForUpdate = "WaitingForUpdate"
	// WaitingForBlock: the next set is declared, and waits for endorsements and a block.
	WaitingForBlock = "WaitingForBlock"
	// WaitingForLeavers: the set has changed, and validators that left are not stopped yet.
	WaitingForLeavers = "WaitingForLeavers"
)

// Reasons of the condition EvidenceFound.
const (
	// ValidatorsMisbehaved: nodes hold evidence that a validator broke the voting rules.
	ValidatorsMisbehaved = "ValidatorsMisbehaved"
	// NoEvidence: no node that answers holds evidence.
	NoEvidence = "NoEvidence"
)

// Reasons of the condition AccessReady, besides AccessFilesMissing, InvalidSpec and Hibernated.
const (
	// AccessOpen: the spec has no access, and everybody is admitted.
	AccessOpen = "AccessOpen"
	// AccessAsSpecified: all nodes admit clients as the spec has it.
	AccessAsSpecified = "AccessAsSpecified"
	// AccessStarting: nodes have not read the access file yet.
	AccessStarting = "AccessStarting"
	// AccessRefused: nodes cannot use the new access file or certificate, and go on with the old
	// one.
	AccessRefused = "AccessRefused"
	// CertificateExpiring: the certificate of nodes has ended, or will soon.
	CertificateExpiring = "CertificateExpiring"
	// ClientsRefused: nodes cannot use the token of a client or the keys of an issuer.
	ClientsRefused = "ClientsRefused"
	// ClusterKeysMissing: the API server does not show the keys of the cluster's tokens, and the
	// nodes have none.
	ClusterKeysMissing = "ClusterKeysMissing"
	// ClusterKeysOld: the API server has not shown these keys for long.
	ClusterKeysOld = "ClusterKeysOld"
)
