package resources

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/diseq/diseq/api/v1alpha1"
)

// FieldOwner is the manager of all fields that the operator applies.
const FieldOwner = "diseq-operator"

// Labels of the objects and pods of a network.
const (
	// NetworkLabel is on everything; its value is the network's name.
	NetworkLabel = "diseq.io/network"
	// ValidatorLabel is on the objects of one validator; its value is the validator's name.
	ValidatorLabel = "diseq.io/validator"
	// RoleLabel is on pods; its value is RoleValidator.
	RoleLabel     = "diseq.io/role"
	RoleValidator = "validator"

	nameLabel      = "app.kubernetes.io/name"
	instanceLabel  = "app.kubernetes.io/instance"
	managedByLabel = "app.kubernetes.io/managed-by"
	componentLabel = "app.kubernetes.io/component"
)

// RetiredLabel is on no object that a deleted network may leave behind. These have no owner. An
// Argo CD that tracks objects by this label deletes those without an owner whose label has the name
// of an application, if the application's sources do not have them.
const RetiredLabel = instanceLabel

// Values of the label app.kubernetes.io/component: the purpose of the object.
const (
	networkComponent   = "network"
	validatorComponent = "validator"
)

// Annotations.
const (
	// AppliedAnnotation is on every applied object: the hash of the apply configuration, see Hash.
	AppliedAnnotation = "diseq.io/applied"
	// TemplateAnnotation is on pods: the hash of the template that they are made from, see
	// TemplateHash.
	TemplateAnnotation = "diseq.io/template"
	// ConfigAnnotation is on pods: the hash of node.yaml, which a node reads at its start only.
	ConfigAnnotation = "diseq.io/config"
	// AccountAnnotation is on pods if their account has annotations of the spec: the hash of those.
	// They take effect when a pod is made.
	AccountAnnotation = "diseq.io/account"
	// PeersAnnotation is on the ConfigMap of the peers file and on pods: the hash of the file. When
	// it changes on a pod, its kubelet looks at the file at once.
	PeersAnnotation = "diseq.io/peers"
	// AccessAnnotation is on the ConfigMap of the access file and on pods, as PeersAnnotation is.
	AccessAnnotation = "diseq.io/access"
	// FirstVolumeAnnotation is on key Secrets: the UID of the validator's first volume claim, the
	// only one on which its node may make a vote store. Once set it never changes.
	FirstVolumeAnnotation = "diseq.io/first-volume"
	// VoteStoreAnnotation is on key Secrets once the validator's node was seen with its vote store,
	// with the value VoteStoreMade. From then on the node makes no other one, on any volume.
	VoteStoreAnnotation = "diseq.io/vote-store"
	// VoteStoreMade is the one value of VoteStoreAnnotation.
	VoteStoreMade = "made"
	// RestartAnnotation is on a network, a StatefulSet or a pod: a person asks for a restart. Any
	// value is a request, and a new value is a new request.
	RestartAnnotation = "diseq.io/restart"
	// NetworkRestartAnnotation and ValidatorRestartAnnotation are on templates and pods: the
	// request on the network, and the one on the StatefulSet, that the pod was made after.
	NetworkRestartAnnotation   = "diseq.io/restart-of-network"
	ValidatorRestartAnnotation = "diseq.io/restart-of-validator"
	// NetworkUIDAnnotation is on claims: the UID of the network whose operator made or adopted the
	// claim. A retained claim has no owner that would say so.
	NetworkUIDAnnotation = "diseq.io/network-uid"
	// MadeAnnotation is on the key Secrets of newcomers: the proof that the operator made the
	// Secret, from the secret key of a validator of the network.
	MadeAnnotation = "diseq.io/made"
	// UnusedVolumeAnnotation is on the key Secret of a validator whose first claim was not bound
	// when the operator decided to replace it: the UID of that claim. No node ever ran on it.
	UnusedVolumeAnnotation = "diseq.io/unused-volume"
	// VotesWhenRecordedAnnotation is on key Secrets that were made by an operator whose nodes wait
	// with their first vote until VoteStoreAnnotation is there.
	VotesWhenRecordedAnnotation = "diseq.io/votes-when-recorded"
	// RetiredAnnotation is on the key Secret of a validator that has left for good. Its value is
	// what becomes of the volume: Retain or Delete.
	RetiredAnnotation = "diseq.io/retired"
)

// Ports of a node's pod, and their names.
const (
	PublicPort     = 8080
	PeerPort       = 7700
	OperationsPort = 9090
	ProbesPort     = 9091

	PublicPortName     = "http"
	PeerPortName       = "peer"
	OperationsPortName = "operations"
	ProbesPortName     = "probes"
)

// Container is the name of the node's container; the others of a pod are the user's.
const Container = "node"

// Keys of the ConfigMaps' data.
const (
	GenesisKey = "genesis.json"
	ConfigKey  = "node.yaml"
	PeersKey   = "peers.json"
	AccessKey  = "access.json"
	// ClusterKeysKey has the keys of the tokens of the cluster's ServiceAccounts.
	ClusterKeysKey = "cluster.jwks.json"
)

// ValidatorName is the name of a validator: of its key Secret, ServiceAccount, volume claim and
// StatefulSet. A serial number is never used again.
func ValidatorName(network string, serial int) string { return fmt.Sprintf("%s-v%d", network, serial) }

// maxSerial has as many digits as spec.retire takes: the names of the longest network and the
// labels that Kubernetes makes of them have room for no more.
const maxSerial = 999_999_999

// SerialOf is the inverse of ValidatorName; ok is false for any other name.
func SerialOf(network, validator string) (serial int, ok bool) {
	digits, found := strings.CutPrefix(validator, network+"-v")
	serial, err := strconv.Atoi(digits)
	// "+1" and "01" are numbers too, but not in names.
	if !found || err != nil || serial < 0 || serial > maxSerial || validator != ValidatorName(network, serial) {
		return 0, false
	}
	return serial, true
}

// PodName is the name of a validator's pod.
func PodName(validator string) string { return validator + "-0" }

// GenesisName is the name of the ConfigMap with the genesis document.
func GenesisName(network string) string { return network + "-genesis" }

// ConfigName is the name of the ConfigMap with node.yaml.
func ConfigName(network string) string { return network + "-config" }

// AccessName is the name of the ConfigMap with the access file.
func AccessName(network string) string { return network + "-access" }

// PeersName is the name of the ConfigMap with the peers file, and of the headless Service by which
// pods find each other.
func PeersName(network string) string { return network + "-peers" }

// ClientsName is the name of the Service for clients.
func ClientsName(network string) string { return network }

// BudgetName is the name of the PodDisruptionBudget.
func BudgetName(network string) string { return network }

// MonitorName is the name of the PodMonitor.
func MonitorName(network string) string { return network }

// Named says whether the operator gives a name to an object of a network, of any kind.
func Named(network, name string) bool {
	rest, ok := strings.CutPrefix(name, network)
	if !ok || network == "" {
		return false
	}
	switch rest {
	case "", "-genesis", "-config", "-peers", "-access", "-default-deny", "-dns", "-clients", "-operations":
		return true
	}
	_, validator := SerialOf(network, strings.TrimSuffix(name, "-0"))
	return validator
}

// PeerAddress is where a validator's node listens for the other nodes: host:port, the host by the
// headless Service.
func PeerAddress(network, namespace, validator string) string {
	return fmt.Sprintf("%s.%s.%s.svc:%d", PodName(validator), PeersName(network), namespace, PeerPort)
}

// ChainID is the name of the chain of a new network: the network's name and the first 8 digits of
// its UID, so that a later network of the same name has another chain.
func ChainID(network *v1alpha1.DiseqNetwork) string {
	uid := string(network.UID)
	return network.Name + "-" + uid[:min(8, len(uid))]
}

// NetworkSelector selects the pods of a network.
func NetworkSelector(network string) map[string]string {
	return map[string]string{NetworkLabel: network}
}

// ValidatorsSelector selects the pods of a network's validators, observers left out.
func ValidatorsSelector(network string) map[string]string {
	return map[string]string{NetworkLabel: network, RoleLabel: RoleValidator}
}

// ValidatorSelector selects the pod of one validator.
func ValidatorSelector(network, validator string) map[string]string {
	return map[string]string{NetworkLabel: network, ValidatorLabel: validator}
}

// Selector is ValidatorsSelector as text, for the scale subresource.
func Selector(network string) string {
	return labels.SelectorFromSet(ValidatorsSelector(network)).String()
}

// networkLabels are the labels of an object that all validators share.
func networkLabels(network string) map[string]string {
	return map[string]string{
		nameLabel: "diseq", instanceLabel: network, managedByLabel: FieldOwner, componentLabel: networkComponent, NetworkLabel: network,
	}
}

// validatorLabels are the labels of an object of one validator.
func validatorLabels(network, validator string) map[string]string {
	out := networkLabels(network)
	out[componentLabel], out[ValidatorLabel] = validatorComponent, validator
	return out
}

// withoutInstance are the labels of an object without an owner, see RetiredLabel.
func withoutInstance(labels map[string]string) map[string]string {
	delete(labels, RetiredLabel)
	return labels
}

// PodLabels are the operator's own labels of a validator's pod.
func PodLabels(network, validator string) map[string]string {
	out := validatorLabels(network, validator)
	out[RoleLabel] = RoleValidator
	return out
}

// podLabels are the labels of a validator's pod; the operator's override the user's.
func podLabels(network *v1alpha1.DiseqNetwork, validator string) map[string]string {
	out := maps.Clone(network.Spec.PodTemplate.Labels)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, PodLabels(network.Name, validator))
	return out
}
