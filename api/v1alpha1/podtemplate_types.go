package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodTemplate describes how the nodes' pods run.
//
// +kubebuilder:validation:XValidation:rule="!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",fieldPath=".volumeMounts",message="every volumeMount must name a volume of spec.podTemplate.volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.containers) || self.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name)))",fieldPath=".containers",message="every volumeMount must name a volume of spec.podTemplate.volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.initContainers) || self.initContainers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name)))",fieldPath=".initContainers",message="every volumeMount must name a volume of spec.podTemplate.volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.containers) || !has(self.initContainers) || self.containers.all(c, !self.initContainers.exists(i, i.name == c.name))",fieldPath=".initContainers",message="a name is taken by one of spec.podTemplate.containers: choose another"
// +kubebuilder:validation:XValidation:rule="!has(self.containers) || self.containers.all(c, !has(c.restartPolicy))",fieldPath=".containers",message="restartPolicy is for initContainers: a container is always restarted. Leave it out"
type PodTemplate struct {
	// Resources of the node's container. If left out: requests of 100m CPU and 256Mi of memory, and
	// a memory limit of messages.maxPoolBytes and 768Mi beside it. If resources are given, their
	// missing parts have no default.
	// +optional
	// +kubebuilder:validation:XValidation:rule="['cpu', 'memory'].all(r, !(r in self.?requests.orValue({})) || !(r in self.?limits.orValue({})) || ![self.requests[r], self.limits[r]].all(q, isQuantity(string(q))) || quantity(string(self.requests[r])).compareTo(quantity(string(self.limits[r]))) <= 0)",message="a request must not be more than its limit"
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// NodeSelector of the pods: the labels of nodes that they may run on. Any node if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue() && self[k].size() <= 63)",message="a label has a name such as team or example.com/team and a value of at most 63 characters"
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// Tolerations of the pods. None if left out.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// Affinity of the pods. None if left out.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// TopologySpreadConstraints of the pods. The pods are spread over hostnames, as far as
	// possible, if left out.
	// +optional
	// +listType=atomic
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// PriorityClassName of the pods. The classes that begin with system- are for the cluster's own
	// pods. The cluster's default if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('system-')",message="classes that begin with system- are for the cluster's own pods: choose another PriorityClass"
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// Labels are added to the pods. Those under diseq.io/ and app.kubernetes.io/ belong to the
	// operator, and its flag --allowed-pod-labels says which others it takes. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('diseq.io/') && !k.startsWith('app.kubernetes.io/'))",message="labels under diseq.io/ and app.kubernetes.io/ belong to the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue() && self[k].size() <= 63)",message="a label has a name such as team or example.com/team and a value of at most 63 characters"
	Labels map[string]string `json:"labels,omitempty"`

	// Annotations are added to the pods. Those under diseq.io/ belong to the operator, and its flag
	// --allowed-annotations says which others with a prefix it takes. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('diseq.io/'))",message="annotations under diseq.io/ belong to the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="an annotation has a name such as team or example.com/team"
	Annotations map[string]string `json:"annotations,omitempty"`

	// ServiceAccountAnnotations are added to the account of each validator, such as the role that a
	// cloud gives to its pods. The account has no rights in the cluster. Those under diseq.io/
	// belong to the operator, and its flag --allowed-annotations says which others with a prefix it
	// takes. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('diseq.io/'))",message="annotations under diseq.io/ belong to the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="an annotation has a name such as team or example.com/team"
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations,omitempty"`

	// Env are environment variables of the node's container. Names that begin with DISEQ_ belong to
	// the operator. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(e, !e.name.startsWith('DISEQ_'))",message="variables that begin with DISEQ_ belong to the operator: choose another name"
	Env []EnvVar `json:"env,omitempty"`

	// SecurityContext of the pods. They keep to the restricted Pod Security Standard, whatever it
	// says. User and group 65532 if left out.
	// +optional
	SecurityContext *PodSecurityContext `json:"securityContext,omitempty"`

	// InitContainers run before the node, one after the other. One with restartPolicy: Always is a
	// native sidecar: it runs beside the node, starts before it and stops after it. The operator's
	// flag --allowed-sidecar-images says which images it takes. At most 8. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	InitContainers []Container `json:"initContainers,omitempty"`

	// Containers run beside the node, such as a proxy or a shipper of logs. A validator counts as
	// ready only while all its containers are. The operator's flag --allowed-sidecar-images says
	// which images it takes. At most 8. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	Containers []Container `json:"containers,omitempty"`

	// Volumes are added to the pods, for volumeMounts here and in containers. At most 16. None if
	// left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Volumes []Volume `json:"volumes,omitempty"`

	// VolumeMounts are added to the node's container, such as the certificates of an authority.
	// They must not hide files of the node. At most 16. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=mountPath
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(m, m.mountPath != '/etc' && m.mountPath != '/diseq' && !['/data', '/etc/diseq', '/tmp', '/dev', '/proc', '/sys'].exists(p, m.mountPath == p || m.mountPath.startsWith(p + '/')))",message="/diseq, /data, /etc/diseq, /tmp, /dev, /proc and /sys, and /etc as a whole, belong to the node: mount at another path"
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty"`
}

// IDPolicy says who chooses the user and group ids of the pods.
type IDPolicy string

const (
	// FixedIDs are those of the security context, by default 65532.
	FixedIDs IDPolicy = "Fixed"
	// PlatformIDs are left out of the pods: admission assigns them, as on OpenShift.
	PlatformIDs IDPolicy = "Platform"
)

// PodSecurityContext is the part of a pod's security context that may be chosen.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ids) || self.ids != 'Platform' || !has(self.runAsUser) && !has(self.runAsGroup) && !has(self.fsGroup)",message="with ids: Platform the platform assigns the ids: leave runAsUser, runAsGroup and fsGroup out, or set ids: Fixed"
type PodSecurityContext struct {
	// IDs says who chooses the user and group ids: Fixed or Platform. With Platform the pods have
	// none, and a platform such as OpenShift must assign the user and fsGroup; without fsGroup the
	// node cannot read its keys. Fixed if left out.
	// +optional
	// +kubebuilder:validation:Enum=Fixed;Platform
	// +kubebuilder:default=Fixed
	IDs IDPolicy `json:"ids,omitempty"`

	// RunAsUser is the user id of the containers, 1 to 2147483647. 65532 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	RunAsUser *int64 `json:"runAsUser,omitempty"`

	// RunAsGroup is the primary group id of the containers, 0 to 2147483647. 65532 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`

	// FSGroup is the group id of the volumes and of the key files, 0 to 2147483647. All containers
	// are in the group. 65532 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	FSGroup *int64 `json:"fsGroup,omitempty"`

	// FSGroupChangePolicy says when the kubelet gives the files of a volume to the group: Always,
	// at every start of a pod, or OnRootMismatch. A volume has few files, and with Always the ids
	// may change. Always if left out.
	// +optional
	// +kubebuilder:validation:Enum=Always;OnRootMismatch
	FSGroupChangePolicy *corev1.PodFSGroupChangePolicy `json:"fsGroupChangePolicy,omitempty"`

	// SupplementalGroups are more groups of the containers. At most 16. None if left out.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=2147483647
	SupplementalGroups []int64 `json:"supplementalGroups,omitempty"`

	// SELinuxOptions of the containers. The container runtime chooses them if left out.
	// +optional
	SELinuxOptions *SELinuxOptions `json:"seLinuxOptions,omitempty"`

	// SeccompProfile of the containers. RuntimeDefault if left out.
	// +optional
	SeccompProfile *SeccompProfile `json:"seccompProfile,omitempty"`

	// RunAsNonRoot is always true. True if left out.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self",message="must be true: the pods keep to the restricted Pod Security Standard"
	RunAsNonRoot *bool `json:"runAsNonRoot,omitempty"`
}

// SELinuxOptions are the SELinux labels that the restricted Pod Security Standard allows.
type SELinuxOptions struct {
	// Level is the SELinux level, such as s0:c123,c456. The container runtime chooses it if left
	// out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Level string `json:"level,omitempty"`

	// Type is the SELinux type: container_t, container_init_t, container_kvm_t or
	// container_engine_t. The container runtime chooses it if left out.
	// +optional
	// +kubebuilder:validation:Enum=container_t;container_init_t;container_kvm_t;container_engine_t
	Type string `json:"type,omitempty"`
}

// SeccompProfile is a seccomp profile.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'Localhost') == has(self.localhostProfile)",message="type Localhost needs localhostProfile, and no other type has one"
type SeccompProfile struct {
	// Type is RuntimeDefault or Localhost. No default.
	// +kubebuilder:validation:Enum=RuntimeDefault;Localhost
	Type corev1.SeccompProfileType `json:"type"`

	// LocalhostProfile is the path of a profile below the kubelet's directory of profiles. No
	// default.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	LocalhostProfile *string `json:"localhostProfile,omitempty"`
}

// Container is a container of the user in a validator's pod. Its fields are those of a container of
// Kubernetes that the restricted Pod Security Standard allows.
type Container struct {
	// Name of the container. No default.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self != 'node'",message="the name node belongs to the operator: choose another"
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be a DNS label: lower-case letters, digits and '-'"
	Name string `json:"name"`

	// Image of the container. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9][^ \\t\\r\\n]*$') && !self.contains('://')",message="must be an image reference such as registry.example.com/proxy:v1, without spaces and without a scheme"
	Image string `json:"image"`

	// ImagePullPolicy is Always, IfNotPresent or Never. By the tag of the image, as Kubernetes does
	// it, if left out.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// RestartPolicy makes one of initContainers a native sidecar: Always. An init container runs
	// once if left out.
	// +optional
	// +kubebuilder:validation:Enum=Always
	RestartPolicy *corev1.ContainerRestartPolicy `json:"restartPolicy,omitempty"`

	// Command overrides the image's entrypoint. The image's if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=16384
	Command []string `json:"command,omitempty"`

	// Args are the arguments of the command. The image's if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=16384
	Args []string `json:"args,omitempty"`

	// WorkingDir of the command. The image's if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	WorkingDir string `json:"workingDir,omitempty"`

	// Ports of the container. They document it; all containers of a pod share their ports. The
	// network policies still admit clients to 8080 alone. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=containerPort
	// +listMapKey=protocol
	// +kubebuilder:validation:MaxItems=16
	Ports []ContainerPort `json:"ports,omitempty"`

	// Env are environment variables. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`

	// EnvFrom takes environment variables from ConfigMaps and Secrets. None if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	EnvFrom []EnvFromSource `json:"envFrom,omitempty"`

	// Resources of the container. None if left out: a LimitRange of the namespace may give some.
	// +optional
	Resources *ContainerResources `json:"resources,omitempty"`

	// VolumeMounts of volumes of spec.podTemplate.volumes. None if left out.
	// +optional
	// +listType=map
	// +listMapKey=mountPath
	// +kubebuilder:validation:MaxItems=16
	VolumeMounts []VolumeMount `json:"volumeMounts,omitempty"`

	// StartupProbe holds the other probes back until it succeeds. None if left out.
	// +optional
	StartupProbe *Probe `json:"startupProbe,omitempty"`

	// LivenessProbe restarts the container if it fails. None if left out.
	// +optional
	LivenessProbe *Probe `json:"livenessProbe,omitempty"`

	// ReadinessProbe makes the validator count as not ready while it fails. None if left out.
	// +optional
	ReadinessProbe *Probe `json:"readinessProbe,omitempty"`

	// Lifecycle has what runs before the container is stopped. None if left out.
	// +optional
	Lifecycle *Lifecycle `json:"lifecycle,omitempty"`

	// SecurityContext of the container. That of the pod, without capabilities and privilege
	// escalation, if left out.
	// +optional
	SecurityContext *SecurityContext `json:"securityContext,omitempty"`
}

// SecurityContext is the part of a container's security context that may be chosen. The other
// fields are there so that a usual one is accepted.
type SecurityContext struct {
	// RunAsUser is the user id, 1 to 2147483647. That of the pod if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2147483647
	RunAsUser *int64 `json:"runAsUser,omitempty"`

	// RunAsGroup is the primary group id, 0 to 2147483647. That of the pod if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`

	// ReadOnlyRootFilesystem makes the image's files unchangeable. False if left out.
	// +optional
	ReadOnlyRootFilesystem *bool `json:"readOnlyRootFilesystem,omitempty"`

	// Capabilities of the container. All are dropped if left out.
	// +optional
	Capabilities *Capabilities `json:"capabilities,omitempty"`

	// SeccompProfile of the container. That of the pod if left out.
	// +optional
	SeccompProfile *SeccompProfile `json:"seccompProfile,omitempty"`

	// AllowPrivilegeEscalation is always false. False if left out.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self",message="must be false: the pods keep to the restricted Pod Security Standard"
	AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation,omitempty"`

	// Privileged is always false. False if left out.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self",message="must be false: the pods keep to the restricted Pod Security Standard"
	Privileged *bool `json:"privileged,omitempty"`

	// RunAsNonRoot is always true. True if left out.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self",message="must be true: the pods keep to the restricted Pod Security Standard"
	RunAsNonRoot *bool `json:"runAsNonRoot,omitempty"`
}

// Capabilities of a container. All but those added are dropped.
type Capabilities struct {
	// Add may have NET_BIND_SERVICE alone. None if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1
	// +kubebuilder:validation:items:Enum=NET_BIND_SERVICE
	Add []corev1.Capability `json:"add,omitempty"`

	// Drop is always ALL. ALL if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1
	// +kubebuilder:validation:items:Enum=ALL
	Drop []corev1.Capability `json:"drop,omitempty"`
}

// ContainerResources are requests and limits of a container.
type ContainerResources struct {
	// Requests of the container. The limits if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// Limits of the container. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// ContainerPort is a port of a container.
type ContainerPort struct {
	// ContainerPort is the number, 1 to 65535. 8080, 7700, 9090 and 9091 belong to the node. No
	// default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="!(self in [8080, 7700, 9090, 9091])",message="8080, 7700, 9090 and 9091 belong to the node, and all containers of a pod share their ports: choose another"
	ContainerPort int32 `json:"containerPort"`

	// Name of the port. None if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="!(self in ['http', 'peer', 'operations', 'probes'])",message="http, peer, operations and probes are the node's ports: choose another name"
	Name string `json:"name,omitempty"`

	// Protocol is TCP, UDP or SCTP. TCP if left out.
	// +optional
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	Protocol corev1.Protocol `json:"protocol,omitempty"`
}

// EnvVar is an environment variable.
//
// +kubebuilder:validation:XValidation:rule="!has(self.value) || !has(self.valueFrom)",message="a variable has a value or valueFrom, not both"
type EnvVar struct {
	// Name of the variable. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$')",message="must consist of letters, digits, '_', '-' and '.', and not begin with a digit"
	Name string `json:"name"`

	// Value of the variable. $(NAME) stands for the value of a variable before it. Empty if left
	// out.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Value string `json:"value,omitempty"`

	// ValueFrom is where the value comes from. None if left out.
	// +optional
	ValueFrom *EnvVarSource `json:"valueFrom,omitempty"`
}

// EnvVarSource is where the value of a variable comes from.
//
// +kubebuilder:validation:XValidation:rule="[has(self.fieldRef), has(self.resourceFieldRef), has(self.configMapKeyRef), has(self.secretKeyRef)].filter(x, x).size() == 1",message="must have exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef"
type EnvVarSource struct {
	// FieldRef is a field of the pod. None if left out.
	// +optional
	FieldRef *FieldRef `json:"fieldRef,omitempty"`

	// ResourceFieldRef is a request or limit of a container. None if left out.
	// +optional
	ResourceFieldRef *ResourceFieldRef `json:"resourceFieldRef,omitempty"`

	// ConfigMapKeyRef is a key of a ConfigMap of the namespace. None if left out.
	// +optional
	ConfigMapKeyRef *KeyRef `json:"configMapKeyRef,omitempty"`

	// SecretKeyRef is a key of a Secret of the namespace. None if left out.
	// +optional
	SecretKeyRef *KeyRef `json:"secretKeyRef,omitempty"`
}

// FieldRef is a field of the pod.
type FieldRef struct {
	// APIVersion of the path. v1 if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	APIVersion string `json:"apiVersion,omitempty"`

	// FieldPath is the path, such as metadata.name. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	FieldPath string `json:"fieldPath"`
}

// ResourceFieldRef is a request or limit of a container.
type ResourceFieldRef struct {
	// ContainerName is the container. The one with the variable if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	ContainerName string `json:"containerName,omitempty"`

	// Resource is the resource, such as limits.memory. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Resource string `json:"resource"`

	// Divisor is the unit of the value: of bytes or processors, such as 1Mi or 1m. 1 if left out.
	// +optional
	Divisor *resource.Quantity `json:"divisor,omitempty"`
}

// KeyRef is a key of a ConfigMap or Secret.
type KeyRef struct {
	// Name of the ConfigMap or Secret. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Key of its data. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// Optional lets the pod start without it. False if left out.
	// +optional
	Optional *bool `json:"optional,omitempty"`
}

// EnvFromSource takes environment variables from a ConfigMap or Secret.
//
// +kubebuilder:validation:XValidation:rule="has(self.configMapRef) != has(self.secretRef)",message="must have exactly one of configMapRef and secretRef"
type EnvFromSource struct {
	// Prefix of the names of the variables. None if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Prefix string `json:"prefix,omitempty"`

	// ConfigMapRef is a ConfigMap of the namespace. None if left out.
	// +optional
	ConfigMapRef *ObjectRef `json:"configMapRef,omitempty"`

	// SecretRef is a Secret of the namespace. None if left out.
	// +optional
	SecretRef *ObjectRef `json:"secretRef,omitempty"`
}

// ObjectRef is a ConfigMap or Secret.
type ObjectRef struct {
	// Name of the ConfigMap or Secret. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Optional lets the pod start without it. False if left out.
	// +optional
	Optional *bool `json:"optional,omitempty"`
}

// Action is what a probe or a hook does.
type Action struct {
	// Exec runs a command in the container. None if left out.
	// +optional
	Exec *ExecAction `json:"exec,omitempty"`

	// HTTPGet sends a GET request to the pod. None if left out.
	// +optional
	HTTPGet *HTTPGetAction `json:"httpGet,omitempty"`
}

// ExecAction runs a command.
type ExecAction struct {
	// Command and its arguments, without a shell. No default.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	Command []string `json:"command"`
}

// HTTPGetAction sends a GET request to the pod.
type HTTPGetAction struct {
	// Path of the request. / if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`

	// Port is a number or the name of a port of the container. No default.
	// +kubebuilder:validation:XIntOrString
	Port intstr.IntOrString `json:"port"`

	// Scheme is HTTP or HTTPS. HTTP if left out.
	// +optional
	// +kubebuilder:validation:Enum=HTTP;HTTPS
	Scheme corev1.URIScheme `json:"scheme,omitempty"`
}

// TCPSocketAction opens a connection to the pod.
type TCPSocketAction struct {
	// Port is a number or the name of a port of the container. No default.
	// +kubebuilder:validation:XIntOrString
	Port intstr.IntOrString `json:"port"`
}

// GRPCAction asks the pod by the gRPC health protocol.
type GRPCAction struct {
	// Port is a number, 1 to 65535. No default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// Service is the name in the request. Empty if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Service *string `json:"service,omitempty"`
}

// Probe asks a container how it is.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exec), has(self.httpGet), has(self.tcpSocket), has(self.grpc)].filter(x, x).size() == 1",message="must have exactly one of exec, httpGet, tcpSocket and grpc"
type Probe struct {
	Action `json:",inline"`

	// TCPSocket opens a connection to the pod. None if left out.
	// +optional
	TCPSocket *TCPSocketAction `json:"tcpSocket,omitempty"`

	// GRPC asks by the gRPC health protocol. None if left out.
	// +optional
	GRPC *GRPCAction `json:"grpc,omitempty"`

	// InitialDelaySeconds before the first probe. 0 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	InitialDelaySeconds int32 `json:"initialDelaySeconds,omitempty"`

	// PeriodSeconds between probes. 10 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PeriodSeconds int32 `json:"periodSeconds,omitempty"`

	// TimeoutSeconds of a probe. 1 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// SuccessThreshold is how many probes must succeed in a row. 1 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	SuccessThreshold int32 `json:"successThreshold,omitempty"`

	// FailureThreshold is how many probes must fail in a row. 3 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=1
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
}

// Lifecycle has what runs before a container is stopped.
type Lifecycle struct {
	// PreStop runs before the container is stopped. None if left out.
	// +optional
	PreStop *Hook `json:"preStop,omitempty"`
}

// Hook runs before a container is stopped.
//
// +kubebuilder:validation:XValidation:rule="[has(self.exec), has(self.httpGet), has(self.sleep)].filter(x, x).size() == 1",message="must have exactly one of exec, httpGet and sleep"
type Hook struct {
	Action `json:",inline"`

	// Sleep waits. None if left out.
	// +optional
	Sleep *SleepAction `json:"sleep,omitempty"`
}

// SleepAction waits.
type SleepAction struct {
	// Seconds to wait, 1 to 60. A pod has 60 seconds to stop. No default.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	Seconds int64 `json:"seconds"`
}

// VolumeMount is a volume of spec.podTemplate.volumes in a container.
type VolumeMount struct {
	// Name of the volume. No default.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!(self in ['data', 'keys', 'genesis', 'config', 'peers', 'scratch']) && !self.startsWith('diseq-')",message="data, keys, genesis, config, peers, scratch and names that begin with diseq- are volumes of the node, which no other container may mount"
	Name string `json:"name"`

	// MountPath is the path in the container, such as /etc/proxy. No default.
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/[.]?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$')",message="must be an absolute path such as /etc/proxy, without . and .. and without / at the end"
	MountPath string `json:"mountPath"`

	// ReadOnly keeps the container from writing. False if left out.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`

	// SubPath is a path within the volume. The whole volume if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('/') && !self.split('/').exists(p, p == '..')",message="must be a relative path without .."
	SubPath string `json:"subPath,omitempty"`
}

// Volume is added to the pods. Its kinds are those of Kubernetes that the restricted Pod Security
// Standard allows.
//
// +kubebuilder:validation:XValidation:rule="[has(self.configMap), has(self.secret), has(self.emptyDir), has(self.projected), has(self.downwardAPI), has(self.persistentVolumeClaim), has(self.csi)].filter(x, x).size() == 1",message="must have exactly one of configMap, secret, emptyDir, projected, downwardAPI, persistentVolumeClaim and csi"
type Volume struct {
	// Name of the volume. No default.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!(self in ['data', 'keys', 'genesis', 'config', 'peers', 'scratch']) && !self.startsWith('diseq-')",message="data, keys, genesis, config, peers, scratch and names that begin with diseq- are volumes of the node: choose another name"
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be a DNS label: lower-case letters, digits and '-'"
	Name string `json:"name"`

	// ConfigMap is a ConfigMap of the namespace. None if left out.
	// +optional
	ConfigMap *ConfigMapVolume `json:"configMap,omitempty"`

	// Secret is a Secret of the namespace, not one with the keys of a validator. None if left out.
	// +optional
	Secret *SecretVolume `json:"secret,omitempty"`

	// EmptyDir is an empty directory that lives as long as the pod. None if left out.
	// +optional
	EmptyDir *EmptyDirVolume `json:"emptyDir,omitempty"`

	// Projected joins several sources in one directory. None if left out.
	// +optional
	Projected *ProjectedVolume `json:"projected,omitempty"`

	// DownwardAPI has fields of the pod as files. None if left out.
	// +optional
	DownwardAPI *DownwardAPIVolume `json:"downwardAPI,omitempty"`

	// PersistentVolumeClaim is a claim of the namespace that all validators share, not the claim of
	// a validator. None if left out.
	// +optional
	PersistentVolumeClaim *ClaimVolume `json:"persistentVolumeClaim,omitempty"`

	// CSI is an ephemeral volume of a CSI driver, such as one that fetches secrets. None if left
	// out.
	// +optional
	CSI *CSIVolume `json:"csi,omitempty"`
}

// KeyToPath is a key as a file.
type KeyToPath struct {
	// Key of the data. No default.
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key"`

	// Path of the file in the volume. No default.
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`

	// Mode bits of the file, 0 to 511. The volume's defaultMode if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	Mode *int32 `json:"mode,omitempty"`
}

// ConfigMapVolume has the data of a ConfigMap as files.
type ConfigMapVolume struct {
	ObjectRef `json:",inline"`
	Files     `json:",inline"`
}

// SecretVolume has the data of a Secret as files.
type SecretVolume struct {
	// SecretName is the Secret. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName"`

	// Optional lets the pod start without it. False if left out.
	// +optional
	Optional *bool `json:"optional,omitempty"`

	Files `json:",inline"`
}

// Files are the files of a volume.
type Files struct {
	// Items are the keys that become files. All keys if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Items []KeyToPath `json:"items,omitempty"`

	// DefaultMode are the mode bits of the files, 0 to 511. 420, which is 0644, if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
}

// EmptyDirVolume is an empty directory.
type EmptyDirVolume struct {
	// Medium is Memory, or empty for the disk of the Kubernetes node. Empty if left out.
	// +optional
	// +kubebuilder:validation:Enum="";Memory
	Medium corev1.StorageMedium `json:"medium,omitempty"`

	// SizeLimit is the most that it may hold, in bytes. No limit if left out.
	// +optional
	SizeLimit *resource.Quantity `json:"sizeLimit,omitempty"`
}

// ProjectedVolume joins several sources in one directory.
type ProjectedVolume struct {
	// Sources of the files. No default.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Sources []Projection `json:"sources"`

	// DefaultMode are the mode bits of the files, 0 to 511. 420, which is 0644, if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
}

// Projection is a source of a projected volume.
//
// +kubebuilder:validation:XValidation:rule="[has(self.configMap), has(self.secret), has(self.downwardAPI), has(self.serviceAccountToken)].filter(x, x).size() == 1",message="must have exactly one of configMap, secret, downwardAPI and serviceAccountToken"
type Projection struct {
	// ConfigMap is a ConfigMap of the namespace. None if left out.
	// +optional
	ConfigMap *ObjectProjection `json:"configMap,omitempty"`

	// Secret is a Secret of the namespace, not one with the keys of a validator. None if left out.
	// +optional
	Secret *ObjectProjection `json:"secret,omitempty"`

	// DownwardAPI has fields of the pod. None if left out.
	// +optional
	DownwardAPI *DownwardAPIItems `json:"downwardAPI,omitempty"`

	// ServiceAccountToken is a token of the validator's ServiceAccount, which has no rights in the
	// cluster. None if left out.
	// +optional
	ServiceAccountToken *TokenProjection `json:"serviceAccountToken,omitempty"`
}

// ObjectProjection is a ConfigMap or Secret in a projected volume.
type ObjectProjection struct {
	ObjectRef `json:",inline"`

	// Items are the keys that become files. All keys if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Items []KeyToPath `json:"items,omitempty"`
}

// TokenProjection is a token of the validator's ServiceAccount.
type TokenProjection struct {
	// Audience of the token. The API server if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Audience string `json:"audience,omitempty"`

	// ExpirationSeconds is how long the token is good, 600 to 4294967296. 3600 if left out.
	// +optional
	// +kubebuilder:validation:Minimum=600
	// +kubebuilder:validation:Maximum=4294967296
	ExpirationSeconds *int64 `json:"expirationSeconds,omitempty"`

	// Path of the file in the volume. No default.
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`
}

// DownwardAPIItems are fields of the pod as files.
type DownwardAPIItems struct {
	// Items are the files. None if left out.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Items []DownwardAPIFile `json:"items,omitempty"`
}

// DownwardAPIVolume has fields of the pod as files.
type DownwardAPIVolume struct {
	DownwardAPIItems `json:",inline"`

	// DefaultMode are the mode bits of the files, 0 to 511. 420, which is 0644, if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	DefaultMode *int32 `json:"defaultMode,omitempty"`
}

// DownwardAPIFile is a field of the pod as a file.
//
// +kubebuilder:validation:XValidation:rule="has(self.fieldRef) != has(self.resourceFieldRef)",message="must have exactly one of fieldRef and resourceFieldRef"
type DownwardAPIFile struct {
	// Path of the file in the volume. No default.
	// +kubebuilder:validation:MaxLength=512
	Path string `json:"path"`

	// FieldRef is a field of the pod. None if left out.
	// +optional
	FieldRef *FieldRef `json:"fieldRef,omitempty"`

	// ResourceFieldRef is a request or limit of a container. None if left out.
	// +optional
	ResourceFieldRef *ResourceFieldRef `json:"resourceFieldRef,omitempty"`

	// Mode bits of the file, 0 to 511. The volume's defaultMode if left out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=511
	Mode *int32 `json:"mode,omitempty"`
}

// ClaimVolume is a claim that all validators share.
type ClaimVolume struct {
	// ClaimName is the claim. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClaimName string `json:"claimName"`

	// ReadOnly keeps the pods from writing. False if left out.
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// CSIVolume is an ephemeral volume of a CSI driver.
type CSIVolume struct {
	// Driver is the name of the driver. No default.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Driver string `json:"driver"`

	// ReadOnly keeps the pod from writing. False if left out.
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`

	// FSType is the file system. The driver chooses it if left out.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	FSType *string `json:"fsType,omitempty"`

	// VolumeAttributes are settings of the driver. None if left out.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	VolumeAttributes map[string]string `json:"volumeAttributes,omitempty"`
}
