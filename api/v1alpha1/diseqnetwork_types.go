package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DiseqNetworkSpec is the wanted state of a network.
//
// +kubebuilder:validation:XValidation:rule="!has(self.threshold) || self.threshold.policy != 'Fixed' || !has(self.threshold.value) || (2 * self.threshold.value > self.validators && self.threshold.value <= self.validators)",fieldPath=".threshold.value",message="the threshold must be more than half of spec.validators and at most all of them",messageExpression="'threshold %d with %d validators: it must be more than half of them, or two blocks could become final at one height, and at most all of them; allowed are %d to %d'.format([self.threshold.value, self.validators, self.validators / 2 + 1, self.validators])"
// +kubebuilder:validation:XValidation:rule="!has(self.messages) || self.validators < 1 || ![self.messages.maxBytes, self.messages.maxPoolBytes].all(q, isQuantity(string(q)) && quantity(string(q)).isInteger()) || quantity(string(self.messages.maxPoolBytes)).asInteger() / self.validators >= quantity(string(self.messages.maxBytes)).asInteger() + 4096",fieldPath=".messages.maxPoolBytes",message="each validator's share of the pool must hold a message of spec.messages.maxBytes: allowed is spec.validators x (maxBytes + 4Ki) or more",messageExpression="'each of the %d validators has an equal share of the pool, which must hold a message of spec.messages.maxBytes and 4Ki beside it: allowed are %d bytes or more'.format([self.validators, self.validators * (quantity(string(self.messages.maxBytes)).asInteger() + 4096)])"
// +kubebuilder:validation:XValidation:rule="!has(self.access) || !has(self.service) || self.service.type != 'LoadBalancer' || has(self.access.anonymous) && (!('Submit' in self.access.anonymous.allow) || has(self.access.anonymous.limits))",fieldPath=".access.anonymous",message="with service.type LoadBalancer, anonymous clients need limits before they may submit: set anonymous.limits, or leave Submit out of anonymous.allow"
type DiseqNetworkSpec struct {
	// Image of the nodes, such as registry.example.com/diseq:v1. The value of the operator's flag
	// --node-image if left out. The flag --allowed-node-images says which other images it takes.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || self.matches('^[a-zA-Z0-9][^ \\t\\r\\n]*$') && !self.contains('://')",message="must be an image reference such as registry.example.com/diseq:v1, without spaces and without a scheme"
	Image string `json:"image,omitempty"`

	// ImagePullPolicy of the nodes: Always, IfNotPresent or Never. IfNotPresent if left out.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	// +kubebuilder:default=IfNotPresent
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// ImagePullSecrets are the names of Secrets, in the namespace of the network, for pulling the
	// image. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// Validators is the number of validators of the network, 1 to 100. 4 if left out. `kubectl
	// scale` sets it as the number of replicas. It can change at any time: the validators agree on
	// the new set in a block.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:default=4
	Validators int32 `json:"validators,omitempty"`

	// Retire are the names of validators that have to leave, such as demo-v2 after its machine
	// broke. Another validator takes the place of each, as far as validators asks for it. A name
	// may stay in the list after its validator has left. None if left out.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?-v(0|[1-9][0-9]{0,8})$')",message="must be the name of a validator, such as demo-v2: status.members lists them"
	Retire []string `json:"retire,omitempty"`

	// Threshold is the number of validators that must sign before a block is final. More than half
	// of them if left out. It can change at any time, as validators can.
	// +optional
	// +kubebuilder:default={policy: Majority}
	Threshold Threshold `json:"threshold,omitempty"`

	// Consensus holds constants of the chain. They are part of its genesis document: once that
	// exists (status.genesisHash), they are immutable.
	// +optional
	// +kubebuilder:default={}
	Consensus Consensus `json:"consensus,omitempty"`

	// Messages bounds the messages of clients.
	// +optional
	// +kubebuilder:default={}
	Messages Messages `json:"messages,omitempty"`

	// Storage describes the volume on which each validator keeps the chain.
	// +optional
	// +kubebuilder:default={}
	Storage Storage `json:"storage,omitempty"`

	// Service describes how clients reach the network.
	// +optional
	// +kubebuilder:default={}
	Service Service `json:"service,omitempty"`

	// NetworkPolicy says what the network policies allow besides the traffic of the nodes.
	// +optional
	// +kubebuilder:default={}
	NetworkPolicy NetworkPolicy `json:"networkPolicy,omitempty"`

	// Access says from where clients may connect, how they prove who they are, and what they may
	// do. Everybody who reaches the clients' port may do everything if left out.
	// +optional
	Access *Access `json:"access,omitempty"`

	// Monitoring lets Prometheus read the nodes' metrics.
	// +optional
	// +kubebuilder:default={}
	Monitoring Monitoring `json:"monitoring,omitempty"`

	// Tracing sends traces of single messages to a collector. There are none if left out.
	// +optional
	Tracing *Tracing `json:"tracing,omitempty"`

	// PodTemplate describes how the nodes' pods run.
	// +optional
	// +kubebuilder:default={}
	PodTemplate PodTemplate `json:"podTemplate,omitempty"`

	// ExistingObjects says what becomes of key Secrets, claims and a genesis document that have the
	// names of this network and existed before it. With Refuse the operator leaves them alone and
	// reports NameConflict: whoever made a key Secret may know its key. With Adopt the network goes
	// on with them: with those of a deleted network of its name, or those that were restored or
	// moved here. status.adopted and an event name them. Refuse if left out.
	// +optional
	// +kubebuilder:validation:Enum=Refuse;Adopt
	// +kubebuilder:default=Refuse
	ExistingObjects ExistingObjects `json:"existingObjects,omitempty"`

	// Paused stops the operator from changing anything. It still reports the status. False if left
	// out.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// DeletionProtection refuses to delete the network. To set it back to false, or
	// storage.retention.onDelete to Delete while it is true, takes the verb unprotect on
	// diseqnetworks beside update. The role admin has it, and editor does not. The admission
	// policies of the operator's chart hold it; without them it has no effect. It does not hold
	// back the deletion of the namespace. False if left out.
	// +optional
	DeletionProtection bool `json:"deletionProtection,omitempty"`

	// Hibernated stops all nodes: no pod runs, nothing is final, and no client is served. Keys,
	// volumes and chain are kept. With false all nodes start at once, and the chain goes on. While
	// paused is true, neither happens. False if left out.
	// +optional
	Hibernated bool `json:"hibernated,omitempty"`
}

// ThresholdPolicy says how the threshold follows from the number of validators.
type ThresholdPolicy string

const (
	// ThresholdMajority is floor(n/2)+1: the largest number of validators may be down.
	ThresholdMajority ThresholdPolicy = "Majority"
	// ThresholdTwoThirds is floor(2n/3)+1: safe with fewer than a third Byzantine on any network.
	ThresholdTwoThirds ThresholdPolicy = "TwoThirds"
	// ThresholdFixed is the given value.
	ThresholdFixed ThresholdPolicy = "Fixed"
)

// Threshold is the number of validators that must sign.
//
// +kubebuilder:validation:XValidation:rule="self.policy != 'Fixed' || has(self.value)",fieldPath=".value",reason=FieldValueRequired,message="policy Fixed needs a value: more than half of spec.validators, at most all of them"
// +kubebuilder:validation:XValidation:rule="self.policy == 'Fixed' || !has(self.value)",fieldPath=".value",reason=FieldValueForbidden,message="a value needs policy Fixed: set policy: Fixed, or leave the value out"
type Threshold struct {
	// Policy is Majority, TwoThirds or Fixed. Majority is floor(n/2)+1: the largest number of
	// validators may be down. TwoThirds is floor(2n/3)+1: fewer than a third may be Byzantine on
	// any network. Fixed is the value. Majority if left out.
	// +optional
	// +kubebuilder:validation:Enum=Majority;TwoThirds;Fixed
	// +kubebuilder:default=Majority
	Policy ThresholdPolicy `json:"policy,omitempty"`

	// Value is the threshold with policy Fixed: more than half of the validators, at most all of
	// them. No default.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Value *int32 `json:"value,omitempty"`
}

// Consensus holds constants of the chain.
type Consensus struct {
	// MinBlockInterval is how long a leader waits for a block to fill. It waits for up to 15 ms
	// less above a block of few messages, and never for less than a quarter. It is a duration of
	// whole milliseconds from 0s to 1m, such as 20ms or 1.5s. 20ms if left out. Immutable once
	// there is a genesis document.
	// +optional
	// +kubebuilder:default="20ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+m)?([0-9]+([.][0-9]{1,3})?s)?([0-9]+ms)?)$') && self.size() > 0 && duration(self) <= duration('1m')",message="must be a duration of whole milliseconds from 0s to 1m, such as 20ms or 1.5s"
	MinBlockInterval *metav1.Duration `json:"minBlockInterval,omitempty"`

	// BeaconInterval is the length of a beacon epoch in heights, 1 to 1048576. The validators'
	// random numbers change the order of leaders once an epoch; with 1 they do so at every block.
	// 128 if left out. Immutable once there is a genesis document.
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1048576
	BeaconInterval *int64 `json:"beaconInterval,omitempty"`

	// Synchrony turns the synchrony wait on. Then no two blocks become final at a height with up to
	// threshold - 1 Byzantine validators, as long as messages between the others arrive within
	// delta. Every block takes more than twice delta longer. Off if left out. Immutable once there
	// is a genesis document.
	// +optional
	Synchrony *Synchrony `json:"synchrony,omitempty"`
}

// Synchrony is the synchrony wait.
type Synchrony struct {
	// Delta is the longest time that a message between two validators takes, with the fsync before
	// it is sent. It is a duration of whole milliseconds from 10ms to 1m, such as 100ms, or 0s for
	// no wait. No default. Immutable once there is a genesis document.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^(0|([0-9]+m)?([0-9]+([.][0-9]{1,3})?s)?([0-9]+ms)?)$') && self.size() > 0 && (duration(self) == duration('0s') || duration(self) >= duration('10ms') && duration(self) <= duration('1m'))",message="must be a duration of whole milliseconds from 10ms to 1m, such as 100ms, or 0s for no synchrony wait"
	Delta metav1.Duration `json:"delta"`
}

// Messages bounds the messages of clients.
//
// +kubebuilder:validation:XValidation:rule="!has(self.maxBytes) || ![self.maxBytes, self.maxBlockBytes].all(q, isQuantity(string(q))) || quantity(string(self.maxBlockBytes)).compareTo(quantity(string(self.maxBytes)).add(8)) >= 0",fieldPath=".maxBlockBytes",message="a block must hold the largest message and the 8 bytes beside it: allowed is maxBytes + 8 or more"
type Messages struct {
	// MaxBytes is the largest message in bytes, 1 to 4Mi. 65536 if left out. Immutable once there
	// is a genesis document.
	// +optional
	// +kubebuilder:default="65536"
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 1 && quantity(string(self)).asInteger() <= 4194304",message="must be a whole number of bytes from 1 to 4Mi, such as 65536 or 64Ki"
	MaxBytes *resource.Quantity `json:"maxBytes,omitempty"`

	// MaxBlockBytes is the largest block in bytes of encoded messages: at least maxBytes + 8, at
	// most 16Mi. 4Mi if left out. Immutable once there is a genesis document.
	// +optional
	// +kubebuilder:default="4Mi"
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 9 && quantity(string(self)).asInteger() <= 16777216",message="must be a whole number of bytes from 9 to 16Mi, such as 4Mi"
	MaxBlockBytes *resource.Quantity `json:"maxBlockBytes,omitempty"`

	// MaxPoolBytes is the size of each node's pool, in bytes of messages that wait to be ordered.
	// It is 1Mi to 64Gi, and at least spec.validators x (maxBytes + 4Ki). While the pool is full,
	// clients get 429. The pool is in memory: allow for it in podTemplate.resources. 256Mi if left
	// out.
	// +optional
	// +kubebuilder:default="256Mi"
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 1048576 && quantity(string(self)).asInteger() <= 68719476736",message="must be a whole number of bytes from 1Mi to 64Gi, such as 256Mi"
	MaxPoolBytes *resource.Quantity `json:"maxPoolBytes,omitempty"`
}

// RetentionPolicy says whether keys and volumes are kept when the network no longer uses them.
type RetentionPolicy string

const (
	// RetainPolicy keeps them: applying the network again resumes the same chain.
	RetainPolicy RetentionPolicy = "Retain"
	// DeletePolicy deletes them for good.
	DeletePolicy RetentionPolicy = "Delete"
)

// Storage describes the volume on which each validator keeps the chain. A change is for volumes
// that are made from then on, and for claims that were never bound to a volume. A volume that is
// there keeps its class and its access mode.
type Storage struct {
	// Size of each validator's volume in bytes, 1Gi or more. It can grow if the storage class
	// allows that. A volume never shrinks: the operator reports a size below that of a volume.
	// Nodes keep all blocks for ever. 10Gi if left out.
	// +optional
	// +kubebuilder:default="10Gi"
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isInteger() && quantity(string(self)).asInteger() >= 1073741824",message="must be a whole number of bytes from 1Gi on, such as 10Gi"
	Size *resource.Quantity `json:"size,omitempty"`

	// StorageClassName of the volumes. The cluster's default class if left out or empty. A claim
	// that was never bound is made anew with another class; a volume that is there keeps its own.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:default=""
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || !format.dns1123Subdomain().validate(self).hasValue()",message="must be the name of a StorageClass: lower-case letters, digits, '-' and '.'"
	StorageClassName string `json:"storageClassName,omitempty"`

	// AccessMode of the volumes: ReadWriteOnce or ReadWriteOncePod. If the storage offers
	// ReadWriteOncePod, no second pod can use a volume. The nodes lock their directories in any
	// case. ReadWriteOnce if left out. A change is for the same volumes as one of the class.
	// +optional
	// +kubebuilder:validation:Enum=ReadWriteOnce;ReadWriteOncePod
	// +kubebuilder:default=ReadWriteOnce
	AccessMode corev1.PersistentVolumeAccessMode `json:"accessMode,omitempty"`

	// Retention says whether volumes and keys are kept when the network no longer uses them. They
	// are kept if left out.
	// +optional
	// +kubebuilder:default={}
	Retention Retention `json:"retention,omitempty"`
}

// ExistingObjects says what becomes of objects that existed before the network.
type ExistingObjects string

// The operator leaves objects that existed before the network alone, or adopts them.
const (
	// RefuseExisting leaves them alone: NameConflict.
	RefuseExisting ExistingObjects = "Refuse"
	// AdoptExisting goes on with them.
	AdoptExisting ExistingObjects = "Adopt"
)

// Retention says whether unused volumes and keys are kept.
type Retention struct {
	// OnScaleDown is for the volume of a validator that left the set: Retain or Delete. Its keys
	// are always kept. Retain if left out.
	// +optional
	// +kubebuilder:validation:Enum=Retain;Delete
	// +kubebuilder:default=Retain
	OnScaleDown RetentionPolicy `json:"onScaleDown,omitempty"`

	// OnDelete is for the volumes, keys and genesis document of a deleted network. With Retain they
	// stay, and a network of the same name can resume the chain, see existingObjects. With Delete
	// they are lost for good. Retain if left out.
	// +optional
	// +kubebuilder:validation:Enum=Retain;Delete
	// +kubebuilder:default=Retain
	OnDelete RetentionPolicy `json:"onDelete,omitempty"`
}

// EgressPolicy says where the pods may connect to.
type EgressPolicy string

const (
	// RestrictedEgress is DNS and the pods of the network.
	RestrictedEgress EgressPolicy = "Restricted"
	// UnrestrictedEgress is everything.
	UnrestrictedEgress EgressPolicy = "Unrestricted"
)

// NetworkPolicy says what the network policies allow besides the traffic of the nodes.
type NetworkPolicy struct {
	// Egress says where the pods may connect to: Restricted or Unrestricted. A node connects to DNS
	// and to the pods of its network alone, which is Restricted; a sidecar, such as that of a mesh,
	// may need more. Instead of Unrestricted, a NetworkPolicy of your own can add what is needed.
	// Restricted if left out.
	// +optional
	// +kubebuilder:validation:Enum=Restricted;Unrestricted
	// +kubebuilder:default=Restricted
	Egress EgressPolicy `json:"egress,omitempty"`

	// DNS is where the pods ask for names, on the ports 53 and 5353, by the same forms as the peers
	// of a NetworkPolicy. At most 16. If left out: the pods of the namespaces kube-system and
	// openshift-dns, and the link-local addresses 169.254.0.0/16, where caches on the workers
	// listen.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	DNS []NetworkPeer `json:"dns,omitempty"`
}

// Monitoring lets Prometheus read the nodes' metrics.
type Monitoring struct {
	// Enabled makes a PodMonitor, if the cluster knows that kind, and admits Prometheus to the
	// operations port. True if left out.
	// +optional
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`
}

// Tracing sends traces of single messages to a collector, by OpenTelemetry.
type Tracing struct {
	// Endpoint is the collector's URL for OTLP over HTTP, such as
	// http://otel-collector.observability.svc:4318. Nodes post to /v1/traces below it. No default.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && self.matches('^https?://([a-zA-Z0-9][-a-zA-Z0-9.]*|[[][0-9a-fA-F:.]+[]])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[-a-zA-Z0-9._~/]*)?$')",message="must be the URL of a collector such as http://otel-collector.observability.svc:4318, without user, query and fragment"
	Endpoint string `json:"endpoint"`

	// SamplingRatePerMillion is how many of a million submissions are traced by a draw, 0 to
	// 1000000. A client gets a trace at any rate if it asks for one. 0 if left out.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	SamplingRatePerMillion int32 `json:"samplingRatePerMillion,omitempty"`

	// Networks is where the collector's pods are, by the same forms as the peers of a
	// NetworkPolicy. The network policies let the nodes connect there at the port of the endpoint.
	// At most 16. If left out: the namespace that the endpoint names as a Service, or its address.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Networks []NetworkPeer `json:"networks,omitempty"`
}

// Conditions of a DiseqNetwork.
const (
	// ConditionAvailable: at least threshold validators are ready and caught up, so that messages
	// become final.
	ConditionAvailable = "Available"
	// ConditionProgressing: the operator is changing something. False when it is done, or when it
	// cannot go on.
	ConditionProgressing = "Progressing"
	// ConditionDegraded: the network has a problem. It may be available all the same.
	ConditionDegraded = "Degraded"
	// ConditionQuorumHealthy: one more validator may fail, and messages still become final.
	ConditionQuorumHealthy = "QuorumHealthy"
	// ConditionMembershipChanging: the set of validators is being changed.
	ConditionMembershipChanging = "MembershipChanging"
	// ConditionEvidenceFound: nodes hold evidence that a validator broke the voting rules. It stays
	// True, because evidence is kept for ever.
	ConditionEvidenceFound = "EvidenceFound"
	// ConditionAccessReady: clients are admitted as spec.access has it.
	ConditionAccessReady = "AccessReady"
	// ConditionReady: the network is as the spec asks for, and nothing is wrong with it. It sums up
	// the others, with the most serious reason that any of them has.
	ConditionReady = "Ready"
	// ConditionReconciling: the operator is on its way to what the spec asks for. It and the next
	// one follow the convention of kstatus.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: a person has to act.
	ConditionStalled = "Stalled"
)

// MemberPhase is a phase in the life of a validator.
type MemberPhase string

const (
	// MemberJoining is not in the set, and has not caught up or made its vote store yet.
	MemberJoining MemberPhase = "Joining"
	// MemberReady is not in the set, has caught up, and may vote as soon as it is.
	MemberReady MemberPhase = "Ready"
	// MemberValidator is in the set and votes.
	MemberValidator MemberPhase = "Validator"
	// MemberRejoining is in the set, lost its vote store, and votes again as soon as that is safe.
	MemberRejoining MemberPhase = "Rejoining"
	// MemberLeaving is to leave, or has left the set and is not stopped yet.
	MemberLeaving MemberPhase = "Leaving"
	// MemberRetired has left for good: no validator has its name or key again.
	MemberRetired MemberPhase = "Retired"
)

// Member is a validator of the network.
type Member struct {
	// Name of the validator, its StatefulSet, its volume and its key Secret.
	Name string `json:"name"`

	// PublicKey is the validator's Ed25519 key, in hex.
	// +optional
	PublicKey string `json:"publicKey,omitempty"`

	// VolumeUID is the UID of the validator's first volume, the only one on which its node may make
	// its vote store.
	// +optional
	VolumeUID string `json:"volumeUID,omitempty"`

	// VoteStore says that the node made its vote store. It never makes another one, even if the
	// volume is lost.
	// +optional
	VoteStore bool `json:"voteStore,omitempty"`

	// Phase is the validator's phase: Joining, Ready, Validator, Rejoining, Leaving or Retired.
	// +optional
	// +kubebuilder:validation:Enum=Joining;Ready;Validator;Rejoining;Leaving;Retired
	Phase MemberPhase `json:"phase,omitempty"`

	// Height is the last final height that the node reported, at about the time of
	// status.finalizedTime.
	// +optional
	Height int64 `json:"height,omitempty"`

	// Ready says that the validator counts for the quorum: its pod is ready, and its node has
	// caught up and votes.
	// +optional
	Ready bool `json:"ready,omitempty"`

	// Reason says why the validator is not ready.
	// +optional
	Reason string `json:"reason,omitempty"`

	// VolumeSize is what its volume holds, in bytes. It is missing before the volume is bound.
	// +optional
	VolumeSize *resource.Quantity `json:"volumeSize,omitempty"`

	// Resizes say how far a growth of its volume is, and a resize of its pod in place. They are
	// missing if there is none.
	// +optional
	// +listType=atomic
	Resizes []string `json:"resizes,omitempty"`
}

// Checkpoint names the block of the last change of the set.
type Checkpoint struct {
	// Height of the block.
	Height int64 `json:"height"`

	// Hash of its header, in hex.
	Hash string `json:"hash"`
}

// Tolerance is how many validators may fail.
type Tolerance struct {
	// Crash is how many validators may be down while messages still become final: n - t.
	Crash int32 `json:"crash"`

	// Byzantine is how many validators may do anything while, on any network, no two blocks become
	// final at a height: 2t - n - 1.
	Byzantine int32 `json:"byzantine"`

	// ByzantineWithSynchrony is the same with the synchrony wait, while messages arrive within its
	// delta: t - 1. It holds for this network if status.synchronyDelta is present. Without the wait
	// it holds for readers that require the signatures of all validators.
	ByzantineWithSynchrony int32 `json:"byzantineWithSynchrony"`
}

// FailureDomains are the machines and zones that carry the validators which count for the quorum.
type FailureDomains struct {
	// Machines are the nodes of the cluster.
	// +optional
	Machines *FailureDomain `json:"machines,omitempty"`

	// Zones are those that the pods' label topology.kubernetes.io/zone names. It is missing unless
	// each of the pods has the label; Kubernetes sets it from version 1.35 on.
	// +optional
	Zones *FailureDomain `json:"zones,omitempty"`
}

// FailureDomain is one kind of failure domain.
type FailureDomain struct {
	// InUse is how many of them carry a validator that counts.
	InUse int32 `json:"inUse"`

	// MayFail is how many of them may fail now, whichever they are, while messages still become
	// final.
	MayFail int32 `json:"mayFail"`

	// Critical are the names of those whose loss alone would stop the chain.
	// +optional
	// +listType=set
	Critical []string `json:"critical,omitempty"`
}

// DiseqNetworkStatus is the state of a network that the operator saw last.
type DiseqNetworkStatus struct {
	// ObservedGeneration is the metadata.generation that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// LastObserved is when the operator observed what this status says. It is renewed with every
	// other change, and else once a minute.
	// +optional
	LastObserved *metav1.Time `json:"lastObserved,omitempty"`

	// Conditions: Available, Progressing, Degraded, QuorumHealthy, MembershipChanging,
	// EvidenceFound, AccessReady, Ready, Reconciling, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ChainID names the chain. Receipts and signatures contain it.
	// +optional
	ChainID string `json:"chainID,omitempty"`

	// GenesisHash is the hash of the genesis document, in hex.
	// +optional
	GenesisHash string `json:"genesisHash,omitempty"`

	// Adopted are the objects that existed before the network, and that it took over because
	// spec.existingObjects asked for it, such as "Secret demo-v0". It is missing if there are none.
	// +optional
	// +listType=atomic
	Adopted []string `json:"adopted,omitempty"`

	// Height is the last final height. It is at most 10 seconds old while it moves; the nodes'
	// metrics are exact.
	// +optional
	// +kubebuilder:default=0
	Height int64 `json:"height,omitempty"`

	// FinalizedTime is when the block at status.height became final.
	// +optional
	FinalizedTime *metav1.Time `json:"finalizedTime,omitempty"`

	// Threshold is the number of validators that must sign.
	// +optional
	Threshold int32 `json:"threshold,omitempty"`

	// Validators is the number of validators in the set.
	// +optional
	Validators int32 `json:"validators,omitempty"`

	// SetGeneration is the generation of the set: 0 for that of the genesis document, and one more
	// with each change.
	// +optional
	// +kubebuilder:default=0
	SetGeneration int64 `json:"setGeneration,omitempty"`

	// Checkpoint is the block of the last change of the set, as the operator verified it from the
	// genesis document on. It is missing before the first change.
	// +optional
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`

	// Restarted is the value of the annotation diseq.io/restart of this resource once every pod was
	// started after it. A value that is empty or longer than 63 characters is shown as its hash. It
	// is missing without the annotation.
	// +optional
	Restarted string `json:"restarted,omitempty"`

	// Change says in a few words how far a change of the set is. It is missing if the set is the
	// one that the spec asks for.
	// +optional
	Change string `json:"change,omitempty"`

	// ReadyValidators is the number of validators that are ready and caught up.
	// +optional
	// +kubebuilder:default=0
	ReadyValidators int32 `json:"readyValidators,omitempty"`

	// Tolerance is how many validators may fail.
	// +optional
	Tolerance *Tolerance `json:"tolerance,omitempty"`

	// SynchronyDelta is the delta of the network's synchrony wait. tolerance.byzantineWithSynchrony
	// depends on it. It is missing if the network has no wait.
	// +optional
	SynchronyDelta *metav1.Duration `json:"synchronyDelta,omitempty"`

	// DisruptionsAllowed is how many more validators may fail now while messages still become
	// final.
	// +optional
	// +kubebuilder:default=0
	DisruptionsAllowed int32 `json:"disruptionsAllowed,omitempty"`

	// FailureDomains say how many machines and zones may fail now. One that carries several
	// validators takes all of them with it.
	// +optional
	FailureDomains *FailureDomains `json:"failureDomains,omitempty"`

	// Selector selects the validators' pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// Members are the validators, those that are to join, and those that have left and whose volume
	// is kept.
	// +optional
	// +listType=map
	// +listMapKey=name
	Members []Member `json:"members,omitempty"`
}

// DiseqNetwork is a network of validators that agree on one order of messages.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=dsq
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.validators,statuspath=.status.validators,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Wanted",type=integer,JSONPath=".spec.validators",description="How many validators the spec asks for"
// +kubebuilder:printcolumn:name="Validators",type=integer,JSONPath=".status.validators",description="How many validators are in the set"
// +kubebuilder:printcolumn:name="Threshold",type=integer,JSONPath=".status.threshold"
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=".status.readyValidators"
// +kubebuilder:printcolumn:name="Height",type=integer,JSONPath=".status.height"
// +kubebuilder:printcolumn:name="Tolerates",type=integer,JSONPath=".status.tolerance.crash",description="How many validators may be down while messages still become final"
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.conditions[?(@.type=="Available")].status`
// +kubebuilder:printcolumn:name="Change",type=string,JSONPath=".status.change",description="How far a change of the set is; empty if there is none"
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="The most serious reason that any condition has"
// +kubebuilder:printcolumn:name="Degraded",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Degraded")].reason`,description="The most serious trouble of the validators and the operator"
// +kubebuilder:printcolumn:name="Machines",type=integer,priority=1,JSONPath=".status.failureDomains.machines.mayFail",description="How many machines may fail now, whichever they are, while messages still become final"
// +kubebuilder:printcolumn:name="Observed",type=date,priority=1,JSONPath=".status.lastObserved",description="When the operator last observed the network"
// +kubebuilder:printcolumn:name="Synchrony",type=string,priority=1,JSONPath=".status.synchronyDelta",description="Delta of the synchrony wait, if the network has one"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=".metadata.creationTimestamp"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40",message="metadata.name must have at most 40 characters: the names of pods and volumes are made from it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS-1035 label: lower-case letters, digits and '-', a letter first, no '-' at the end"
// +kubebuilder:validation:XValidation:rule="!self.metadata.name.endsWith('-peers')",message="metadata.name must not end in -peers: another network's Service could have that name"
// +kubebuilder:validation:XValidation:rule="!has(self.spec) || !has(self.spec.podTemplate) || !has(self.spec.podTemplate.volumes) || self.spec.podTemplate.volumes.all(v, (!has(v.secret) || (!v.secret.secretName.startsWith(self.metadata.name + '-v') || v.secret.secretName.lastIndexOf('-v') != self.metadata.name.size() || !v.secret.secretName.matches('-v[0-9]+$'))) && (!has(v.projected) || v.projected.sources.all(s, !has(s.secret) || (!s.secret.name.startsWith(self.metadata.name + '-v') || s.secret.name.lastIndexOf('-v') != self.metadata.name.size() || !s.secret.name.matches('-v[0-9]+$')))))",fieldPath=".spec.podTemplate.volumes",message="the Secrets of validators hold their keys, which only the node of that validator may read"
// +kubebuilder:validation:XValidation:rule="!has(self.spec) || !has(self.spec.podTemplate) || !has(self.spec.podTemplate.volumes) || self.spec.podTemplate.volumes.all(v, !has(v.persistentVolumeClaim) || (!v.persistentVolumeClaim.claimName.startsWith(self.metadata.name + '-v') || v.persistentVolumeClaim.claimName.lastIndexOf('-v') != self.metadata.name.size() || !v.persistentVolumeClaim.claimName.matches('-v[0-9]+$')))",fieldPath=".spec.podTemplate.volumes",message="the claims of validators hold their votes, which only the node of that validator may change"
// +kubebuilder:validation:XValidation:rule="!has(self.spec) || !has(self.spec.retire) || self.spec.retire.all(v, v.startsWith(self.metadata.name + '-v'))",fieldPath=".spec.retire",message="must name validators of this network, such as those that status.members lists"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.genesisHash) || [self, oldSelf].exists(o, !has(o.spec) || !has(o.spec.consensus)) || [self, oldSelf].exists(o, !has(o.spec.consensus.beaconInterval)) || self.spec.consensus.beaconInterval == oldSelf.spec.consensus.beaconInterval",fieldPath=".spec.consensus.beaconInterval",message="cannot be changed: it is part of the genesis document. Other constants make another chain, see docs/operations.md"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.genesisHash) || [self, oldSelf].exists(o, !has(o.spec) || !has(o.spec.consensus)) || [self, oldSelf].exists(o, !has(o.spec.consensus.minBlockInterval) || !o.spec.consensus.minBlockInterval.matches('^0$|^([0-9]+([.][0-9]+)?(m|s|ms))+$')) || duration(self.spec.consensus.minBlockInterval) == duration(oldSelf.spec.consensus.minBlockInterval)",fieldPath=".spec.consensus.minBlockInterval",message="cannot be changed: it is part of the genesis document. Other constants make another chain, see docs/operations.md"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.genesisHash) || [self, oldSelf].exists(o, !has(o.spec) || !has(o.spec.consensus)) || [self, oldSelf].exists(o, has(o.spec.consensus.synchrony) && !o.spec.consensus.synchrony.delta.matches('^0$|^([0-9]+([.][0-9]+)?(m|s|ms))+$')) || (has(self.spec.consensus.synchrony) ? duration(self.spec.consensus.synchrony.delta) : duration('0s')) == (has(oldSelf.spec.consensus.synchrony) ? duration(oldSelf.spec.consensus.synchrony.delta) : duration('0s'))",fieldPath=".spec.consensus.synchrony",message="cannot be changed: it is part of the genesis document. Other constants make another chain, see docs/operations.md"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.genesisHash) || [self, oldSelf].exists(o, !has(o.spec) || !has(o.spec.messages)) || [self, oldSelf].exists(o, !has(o.spec.messages.maxBytes) || !isQuantity(string(o.spec.messages.maxBytes))) || quantity(string(self.spec.messages.maxBytes)).compareTo(quantity(string(oldSelf.spec.messages.maxBytes))) == 0",fieldPath=".spec.messages.maxBytes",message="cannot be changed: it is part of the genesis document. Other constants make another chain, see docs/operations.md"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.genesisHash) || [self, oldSelf].exists(o, !has(o.spec) || !has(o.spec.messages)) || [self, oldSelf].exists(o, !has(o.spec.messages.maxBlockBytes) || !isQuantity(string(o.spec.messages.maxBlockBytes))) || quantity(string(self.spec.messages.maxBlockBytes)).compareTo(quantity(string(oldSelf.spec.messages.maxBlockBytes))) == 0",fieldPath=".spec.messages.maxBlockBytes",message="cannot be changed: it is part of the genesis document. Other constants make another chain, see docs/operations.md"
type DiseqNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the wanted state of the network.
	// +optional
	// +kubebuilder:default={}
	Spec DiseqNetworkSpec `json:"spec,omitempty"`

	// Status is the state of the network that the operator saw last.
	// +optional
	// +kubebuilder:default={"observedGeneration":-1}
	Status DiseqNetworkStatus `json:"status,omitempty"`
}

// DiseqNetworkList is a list of networks.
//
// +kubebuilder:object:root=true
type DiseqNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DiseqNetwork `json:"items"`
}

// ThresholdOf returns the number of n validators that must sign.
func (t Threshold) ThresholdOf(n int32) int32 {
	switch t.Policy {
	case ThresholdTwoThirds:
		return 2*n/3 + 1
	case ThresholdFixed:
		if t.Value != nil {
			return *t.Value
		}
	}
	return n/2 + 1
}
