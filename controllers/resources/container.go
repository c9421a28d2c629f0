package resources

import (
	"cmp"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// container runs the node. It writes to /data, and now and then a temporary file.
func container(
	network *v1alpha1.DiseqNetwork, operator Operator, validator string, createVoteStore bool,
) (*corev1ac.ContainerApplyConfiguration, error) {
	args := []string{"node", "--config", path.Join(configDir, ConfigKey), "--name", validator}
	if createVoteStore {
		args = append(args, "--create-vote-store")
	}
	limits, err := resources(network)
	if err != nil {
		return nil, err
	}
	port := func(name string, number int32) *corev1ac.ContainerPortApplyConfiguration {
		return corev1ac.ContainerPort().WithName(name).WithContainerPort(number).WithProtocol(corev1.ProtocolTCP)
	}
	readOnly := func(name, at string) *corev1ac.VolumeMountApplyConfiguration {
		return corev1ac.VolumeMount().WithName(name).WithMountPath(at).WithReadOnly(true)
	}
	out := corev1ac.Container().WithName(Container).
		WithImage(cmp.Or(network.Spec.Image, operator.NodeImage)).
		WithImagePullPolicy(cmp.Or(network.Spec.ImagePullPolicy, corev1.PullIfNotPresent)).
		WithArgs(args...).
		WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError). // the status shows the last line
		WithPorts(port(PublicPortName, PublicPort), port(PeerPortName, PeerPort),
			port(OperationsPortName, OperationsPort), port(ProbesPortName, ProbesPort)).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("data").WithMountPath(dataDir),
			readOnly("keys", keysDir), readOnly("genesis", genesisDir), readOnly("config", configDir), readOnly("peers", peersDir),
			corev1ac.VolumeMount().WithName("scratch").WithMountPath(scratchDir)).
		WithVolumeMounts(accessMounts(network)...).
		WithResources(limits).
		WithSecurityContext(nodeSecurity(network.Spec.PodTemplate.SecurityContext))
	if err := addEnvironment(out, network.Spec.PodTemplate); err != nil {
		return nil, err
	}
	probes(out)
	return out, nil
}

// probes ask a port that nobody else does: clients cannot fill it. A node opens its listeners after
// it has read its store. After a crash that may take long, so it has an hour. From then on it
// always answers, also while it catches up: a node without an answer for five minutes hangs.
// Readiness says whether it serves clients.
func probes(c *corev1ac.ContainerApplyConfiguration) {
	probe := func(route string, period, timeout, failures int32) *corev1ac.ProbeApplyConfiguration {
		return corev1ac.Probe().
			WithHTTPGet(corev1ac.HTTPGetAction().WithPath(route).WithPort(intstr.FromString(ProbesPortName)).WithScheme(corev1.URISchemeHTTP)).
			WithPeriodSeconds(period).WithTimeoutSeconds(timeout).WithFailureThreshold(failures)
	}
	c.WithStartupProbe(probe("/livez", 1, 2, 3600)).
		WithLivenessProbe(probe("/livez", 10, 10, 30)).
		WithReadinessProbe(probe("/readyz", 2, 2, 3))
}

// Resources of a node if the spec has none. A node needs the memory of its pool, and beside it that
// of blocks, answers, peers and proofs, which have bounds of their own: besidesPoolBytes is enough
// for those. The limit is for neighbours: a node that outgrows it is at fault, and is restarted
// alone.
const (
	defaultMilliCPU     = 100
	defaultMemoryBytes  = 256 << 20
	defaultMaxPoolBytes = 256 << 20
	besidesPoolBytes    = 768 << 20
)

func resources(network *v1alpha1.DiseqNetwork) (*corev1ac.ResourceRequirementsApplyConfiguration, error) {
	if from := network.Spec.PodTemplate.Resources; from != nil {
		return converted[corev1ac.ResourceRequirementsApplyConfiguration]("resources", from)
	}
	pool := int64(defaultMaxPoolBytes)
	if q := network.Spec.Messages.MaxPoolBytes; q != nil {
		pool = q.Value()
	}
	return corev1ac.ResourceRequirements().
		WithRequests(corev1.ResourceList{
			corev1.ResourceCPU: *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI), corev1.ResourceMemory: *bytesOf(defaultMemoryBytes),
		}).
		WithLimits(corev1.ResourceList{corev1.ResourceMemory: *bytesOf(pool + besidesPoolBytes)}), nil
}

// nodeSecurity is the security context of the node's container.
func nodeSecurity(given *v1alpha1.PodSecurityContext) *corev1ac.SecurityContextApplyConfiguration {
	out := restricted().WithPrivileged(false).WithReadOnlyRootFilesystem(true).WithSeccompProfile(runtimeDefault())
	if given != nil && given.SeccompProfile != nil {
		out.WithSeccompProfile(seccomp(given.SeccompProfile))
	}
	if !assigned(given) {
		user, group := userAndGroup(given)
		out.WithRunAsUser(user).WithRunAsGroup(group)
	}
	return out
}

// addEnvironment adds the variables and mounts of the spec to the node's container. The operator
// itself sets no variable: the node finds the memory limit that holds by itself.
func addEnvironment(c *corev1ac.ContainerApplyConfiguration, t v1alpha1.PodTemplate) error {
	for _, from := range t.Env {
		to, err := converted[corev1ac.EnvVarApplyConfiguration]("env", from)
		if err != nil {
			return err
		}
		c.WithEnv(to)
	}
	for _, from := range t.VolumeMounts {
		to, err := converted[corev1ac.VolumeMountApplyConfiguration]("volumeMounts", from)
		if err != nil {
			return err
		}
		c.WithVolumeMounts(to)
	}
	return nil
}

func bytesOf(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }
