package integration

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/test/integration/harness"
)

var builtFor = resources.Operator{NodeImage: "diseq:dev", Namespace: "diseq-system", PodLabels: map[string]string{"app": "operator"}}

// createNetwork returns a network as the API server defaults it.
func createNetwork(t *testing.T, k client.Client, name string, spec v1alpha1.DiseqNetworkSpec) *v1alpha1.DiseqNetwork {
	t.Helper()
	network := &v1alpha1.DiseqNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: harness.Namespace(t)}, Spec: spec}
	if err := k.Create(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	return network
}

// createKeys makes validator 0's key Secret and returns its public half.
func createKeys(t *testing.T, k client.Client, network *v1alpha1.DiseqNetwork) (*corev1.Secret, resources.Member) {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	files, err := id.Files(resources.ValidatorName(network.Name, 0))
	if err != nil {
		t.Fatal(err)
	}
	secret := resources.KeySecret(network, 0, files)
	if err := k.Create(t.Context(), secret, client.FieldOwner(resources.FieldOwner)); err != nil {
		t.Fatal(err)
	}
	return secret, resources.Member{Serial: 0, Validator: id.Public()}
}

// objectsOf is everything that a network of one validator has, but for the PodMonitor, whose kind
// this API server does not know.
func objectsOf(t *testing.T, network *v1alpha1.DiseqNetwork, secret *corev1.Secret, member resources.Member) []runtime.ApplyConfiguration {
	t.Helper()
	var out []runtime.ApplyConfiguration
	add := func(o runtime.ApplyConfiguration, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	genesis, err := resources.Genesis(network, resources.ChainID(network), time.Now(), []resources.Member{member})
	if err != nil {
		t.Fatal(err)
	}
	document, err := resources.EncodeGenesis(genesis)
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := resources.KeySecretMetadata(network, secret, resources.Records{FirstVolume: "70100000-0000-4000-8000-000000000000", VoteStore: true, Retired: "Retain"})
	add(metadata, err)
	config, err := resources.ConfigMap(network)
	add(config, err)
	if resources.HasAccessFile(network) {
		file, err := resources.AccessConfigMap(network, &resources.ClusterIssuer{Issuer: "https://issuer", JWKS: []byte("{}")})
		add(file, err)
	}
	peers, err := resources.PeersConfigMap(network, []resources.Member{member}, nil, nil)
	add(peers, err)
	set, err := resources.StatefulSet(network, builtFor, 0, true)
	add(set, err)
	out = append(out, resources.GenesisConfigMap(network, string(document)), resources.ServiceAccount(network, 0),
		resources.PersistentVolumeClaim(network, 0), resources.PeersService(network), resources.ClientsService(network),
		resources.PodDisruptionBudget(network, 1, true))
	for _, p := range resources.NetworkPolicies(network, builtFor) {
		out = append(out, p)
	}
	return out
}

// live is the object that a configuration is about, as a client with types reads it.
func live(t *testing.T, k client.Client, configuration runtime.ApplyConfiguration) client.Object {
	t.Helper()
	raw, err := json.Marshal(configuration)
	if err != nil {
		t.Fatal(err)
	}
	named := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, named); err != nil {
		t.Fatal(err)
	}
	made, err := scheme.Scheme.New(named.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	o, ok := made.(client.Object)
	if !ok {
		t.Fatalf("%T is no object", made)
	}
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(named), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func apply(t *testing.T, k client.Client, configuration runtime.ApplyConfiguration) {
	t.Helper()
	if err := tryApply(t, k, configuration); err != nil {
		t.Fatal(err)
	}
}

// tryApply applies a copy: the client reads its answer into what it was given.
func tryApply(t *testing.T, k client.Client, configuration runtime.ApplyConfiguration) error {
	t.Helper()
	raw, err := json.Marshal(configuration)
	if err != nil {
		t.Fatal(err)
	}
	again := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, again); err != nil {
		t.Fatal(err)
	}
	return k.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(again), client.FieldOwner(resources.FieldOwner), client.ForceOwnership)
}

func everyFieldOfAPod() v1alpha1.PodTemplate {
	return v1alpha1.PodTemplate{
		Resources: &corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1024Mi"), corev1.ResourceCPU: resource.MustParse("1.50")},
			Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("0.5Gi")},
		},
		NodeSelector: map[string]string{"disk": "fast"},
		Tolerations:  []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}, {Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
			{Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{}}},
		}}},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{MaxSkew: 2, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule}},
		PriorityClassName:         "high",
		Labels:                    map[string]string{"team": "x"},
		Annotations:               map[string]string{"note": ""},
		ServiceAccountAnnotations: map[string]string{"cloud.example/role": "writer", "empty": ""},
		Env: []v1alpha1.EnvVar{
			{Name: "EMPTY"}, {Name: "VALUE", Value: "$(EMPTY) x"}, {Name: "IP", ValueFrom: &v1alpha1.EnvVarSource{FieldRef: &v1alpha1.FieldRef{FieldPath: "status.podIP"}}},
			{Name: "CPU", ValueFrom: &v1alpha1.EnvVarSource{ResourceFieldRef: &v1alpha1.ResourceFieldRef{Resource: "limits.cpu", Divisor: new(resource.MustParse("1m"))}}},
			{Name: "SECRET", ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.KeyRef{Name: "s", Key: "k", Optional: new(true)}}},
		},
		SecurityContext: &v1alpha1.PodSecurityContext{
			RunAsUser: new(int64(1000650000)), RunAsGroup: new(int64(0)), FSGroup: new(int64(1000650000)), SupplementalGroups: []int64{8, 7},
			SELinuxOptions: &v1alpha1.SELinuxOptions{Level: "s0:c1,c2"}, SeccompProfile: &v1alpha1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		InitContainers: []v1alpha1.Container{
			{Name: "first", Image: "first:v1", Command: []string{"a", ""}, Args: []string{"b"}, WorkingDir: "/x", ImagePullPolicy: corev1.PullAlways},
			{Name: "proxy", Image: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
				StartupProbe: &v1alpha1.Probe{TCPSocket: &v1alpha1.TCPSocketAction{Port: intstr.FromInt32(15001)}},
				SecurityContext: &v1alpha1.SecurityContext{RunAsUser: new(int64(7)), RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false), Privileged: new(false),
					Capabilities: &v1alpha1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}}}},
		},
		Containers: []v1alpha1.Container{
			{Name: "logs", Image: "logs:v1", Ports: []v1alpha1.ContainerPort{{ContainerPort: 53}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP, Name: "dns"}},
				EnvFrom:   []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.ObjectRef{Name: "s", Optional: new(true)}}, {Prefix: "A_", ConfigMapRef: &v1alpha1.ObjectRef{Name: "c"}}},
				Resources: &v1alpha1.ContainerResources{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("0.5Gi")}},
				VolumeMounts: []v1alpha1.VolumeMount{
					{Name: "empty", MountPath: "/empty"}, {Name: "all", MountPath: "/all", ReadOnly: true, SubPath: "a/b"}, {Name: "secret", MountPath: "/secret"},
					{Name: "down", MountPath: "/down"}, {Name: "claim", MountPath: "/claim"}, {Name: "csi", MountPath: "/csi"},
				},
				ReadinessProbe: &v1alpha1.Probe{GRPC: &v1alpha1.GRPCAction{Port: 50051}},
				LivenessProbe:  &v1alpha1.Probe{Action: v1alpha1.Action{HTTPGet: &v1alpha1.HTTPGetAction{Path: "/", Port: intstr.FromString("dns")}}, PeriodSeconds: 3},
				Lifecycle:      &v1alpha1.Lifecycle{PreStop: &v1alpha1.Hook{Sleep: &v1alpha1.SleepAction{Seconds: 5}}}},
			{Name: "bare", Image: "bare:v1", LivenessProbe: &v1alpha1.Probe{Action: v1alpha1.Action{Exec: &v1alpha1.ExecAction{Command: []string{"true"}}}}},
		},
		Volumes: []v1alpha1.Volume{
			{Name: "empty", EmptyDir: &v1alpha1.EmptyDirVolume{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1024Ki"))}},
			{Name: "ca", ConfigMap: &v1alpha1.ConfigMapVolume{ObjectRef: v1alpha1.ObjectRef{Name: "ca"}, Files: v1alpha1.Files{Items: []v1alpha1.KeyToPath{{Key: "a", Path: "b"}}}}},
			{Name: "secret", Secret: &v1alpha1.SecretVolume{SecretName: "demo-vault", Files: v1alpha1.Files{DefaultMode: new(int32(0o400))}}},
			{Name: "all", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.Projection{
				{ConfigMap: &v1alpha1.ObjectProjection{ObjectRef: v1alpha1.ObjectRef{Name: "c"}}}, {Secret: &v1alpha1.ObjectProjection{ObjectRef: v1alpha1.ObjectRef{Name: "s"}}},
				{ServiceAccountToken: &v1alpha1.TokenProjection{Audience: "vault", Path: "token"}},
				{DownwardAPI: &v1alpha1.DownwardAPIItems{Items: []v1alpha1.DownwardAPIFile{{Path: "labels", FieldRef: &v1alpha1.FieldRef{FieldPath: "metadata.labels"}}}}},
			}}},
			{Name: "down", DownwardAPI: &v1alpha1.DownwardAPIVolume{DownwardAPIItems: v1alpha1.DownwardAPIItems{Items: []v1alpha1.DownwardAPIFile{
				{Path: "memory", ResourceFieldRef: &v1alpha1.ResourceFieldRef{ContainerName: "node", Resource: "limits.memory"}}}}}},
			{Name: "claim", PersistentVolumeClaim: &v1alpha1.ClaimVolume{ClaimName: "shared", ReadOnly: true}},
			{Name: "csi", CSI: &v1alpha1.CSIVolume{Driver: "secrets-store.csi.k8s.io", ReadOnly: new(true), VolumeAttributes: map[string]string{"secretProviderClass": "x"}}},
		},
		VolumeMounts: []v1alpha1.VolumeMount{{Name: "ca", MountPath: "/etc/ssl/certs", ReadOnly: true}},
	}
}

// everyAccess has a client of each kind, so that the pods have every volume that access needs.
func everyAccess() *v1alpha1.Access {
	may := []v1alpha1.ClientRight{v1alpha1.SubmitRight}
	return &v1alpha1.Access{
		TLS: &v1alpha1.AccessTLS{SecretName: "t", ClientCA: &v1alpha1.ClientCA{SecretName: "ca"}},
		Networks: []v1alpha1.NetworkPeer{
			{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "a", Operator: metav1.LabelSelectorOpExists}, {Key: "b", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"c"}}}}},
			{IPBlock: &v1alpha1.IPBlock{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.128/25"}}},
		},
		Anonymous: &v1alpha1.AnonymousClients{Allow: []v1alpha1.ClientRight{}},
		Issuers: []v1alpha1.TokenIssuer{
			{Name: "cluster", Kubernetes: &v1alpha1.KubernetesIssuer{}},
			{Name: "corp", Issuer: "https://idp", JWKS: &v1alpha1.ConfigMapFile{ConfigMap: "corp"}},
			{Name: "more", Issuer: "https://more", JWKS: &v1alpha1.ConfigMapFile{ConfigMap: "corp", Key: "more"}},
		},
		Clients: []v1alpha1.AccessClient{
			{Name: "a", ServiceAccount: &v1alpha1.ClientServiceAccount{Namespace: "n", Name: "a"}, Allow: may},
			{Name: "b", Certificate: &v1alpha1.ClientCertificate{CommonName: "b"}, Allow: may},
			{Name: "c", JWT: &v1alpha1.ClientJWT{Issuer: "corp", Subject: "c"}, Allow: may},
			{Name: "d", Token: &v1alpha1.ClientToken{SecretName: "d"}, Allow: may},
			{Name: "e", Token: &v1alpha1.ClientToken{SecretName: "d", Key: "e"}, Allow: may},
		},
	}
}

// Applied objects come back in a form in which the comparison that spares a second write finds
// nothing to do. It has to: applied again, some objects get a new version though nothing in them
// changed.
func TestAppliedObjectsAreCurrent(t *testing.T) {
	k := harness.Client(t)
	for name, spec := range map[string]v1alpha1.DiseqNetworkSpec{
		"plain": {Validators: 1},
		"full": {
			Validators: 1, Image: "example.org/diseq:v1", ImagePullPolicy: corev1.PullAlways, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "p"}},
			Storage: v1alpha1.Storage{StorageClassName: "fast", AccessMode: corev1.ReadWriteOncePod, Retention: v1alpha1.Retention{OnDelete: v1alpha1.DeletePolicy}},
			Service: v1alpha1.Service{
				Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"lb": "x", "empty": ""}, Labels: map[string]string{"team": "x"},
				LoadBalancerClass: new("example.com/lb"), LoadBalancerSourceRanges: []string{"192.0.2.0/24", "198.51.100.0/24"}, AllocateLoadBalancerNodePorts: new(false),
				ExternalTrafficPolicy: new(corev1.ServiceExternalTrafficPolicyLocal), SessionAffinity: new(corev1.ServiceAffinityClientIP),
				IPFamilyPolicy: new(corev1.IPFamilyPolicyPreferDualStack), IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			},
			NetworkPolicy: v1alpha1.NetworkPolicy{Egress: v1alpha1.UnrestrictedEgress},
			Tracing:       &v1alpha1.Tracing{Endpoint: "http://otel-collector.observability.svc:4318", SamplingRatePerMillion: 10_000},
			PodTemplate:   everyFieldOfAPod(),
		},
		"closed": {Validators: 1, Access: everyAccess()},
		"node port": {
			Validators: 1, Service: v1alpha1.Service{Type: corev1.ServiceTypeNodePort, NodePort: new(int32(30987))},
			PodTemplate: v1alpha1.PodTemplate{SecurityContext: &v1alpha1.PodSecurityContext{IDs: v1alpha1.PlatformIDs}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			network := createNetwork(t, k, strings.ReplaceAll(name, " ", "-"), spec)
			secret, member := createKeys(t, k, network)
			for _, configuration := range objectsOf(t, network, secret, member) {
				apply(t, k, configuration)
				o := live(t, k, configuration)
				if d := resources.Compare(o, configuration); !d.Current() {
					t.Errorf("%T %s is not current as it was applied: %v: %+v", o, o.GetName(), d, o)
				} else if len(d.Rewritten) > 0 {
					t.Errorf("%T %s: these look as if admission rewrote them: %v", o, o.GetName(), d.Rewritten)
				}
				// Even if somebody else owned all of it, defaults included.
				o.SetManagedFields(nil)
				if d := resources.Compare(o, configuration); !d.Current() {
					t.Errorf("%T %s is not current without managed fields: %v", o, o.GetName(), d)
				}
			}
		})
	}
}

func TestTheApiServerTakesThePodsInARestrictedNamespace(t *testing.T) {
	k := harness.Client(t)
	network := createNetwork(t, k, "demo", v1alpha1.DiseqNetworkSpec{Validators: 1, PodTemplate: everyFieldOfAPod(), Access: everyAccess()})
	if err := k.Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1}); err != nil {
		t.Fatal(err)
	}
	apply(t, k, resources.ServiceAccount(network, 0))
	set, err := resources.StatefulSet(network, builtFor, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(set.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	var template corev1.PodTemplateSpec
	if err := json.Unmarshal(raw, &template); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name, pod.Namespace = "demo-v0-0", network.Namespace
	if err := k.Create(t.Context(), pod); err != nil {
		t.Error(err)
	}
	loose := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	loose.Name, loose.Namespace = "loose", network.Namespace
	loose.Spec.Containers = []corev1.Container{*template.Spec.Containers[0].DeepCopy()}
	loose.Spec.Containers[0].SecurityContext = nil
	if err := k.Create(t.Context(), loose); !apierrors.IsForbidden(err) {
		t.Errorf("a pod without a security context: %v", err)
	}
}

// The Secret is named by its UID: one that was deleted meanwhile does not come back empty.
func TestMetadataNeverMakesASecretWithoutKeys(t *testing.T) {
	k := harness.Client(t)
	network := createNetwork(t, k, "demo", v1alpha1.DiseqNetworkSpec{Validators: 1})
	secret, _ := createKeys(t, k, network)
	metadata, err := resources.KeySecretMetadata(network, secret, resources.Records{VoteStore: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := k.Apply(t.Context(), metadata, client.FieldOwner(resources.FieldOwner), client.ForceOwnership); !apierrors.IsConflict(err) {
		t.Errorf("applied to a Secret that is gone: %v", err)
	}
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret is there: %v", err)
	}
}

func TestOwnersFollowTheRetentionPolicyBothWays(t *testing.T) {
	k := harness.Client(t)
	network := createNetwork(t, k, "demo", v1alpha1.DiseqNetworkSpec{Validators: 1})
	secret, _ := createKeys(t, k, network)
	keys := secret.DeepCopy().Data
	for _, policy := range []v1alpha1.RetentionPolicy{v1alpha1.RetainPolicy, v1alpha1.DeletePolicy, v1alpha1.RetainPolicy} {
		network.Spec.Storage.Retention.OnDelete = policy
		metadata, err := resources.KeySecretMetadata(network, secret, resources.Records{VoteStore: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, configuration := range []runtime.ApplyConfiguration{
			metadata, resources.PersistentVolumeClaim(network, 0), resources.GenesisConfigMap(network, "{}\n"),
		} {
			apply(t, k, configuration)
			o := live(t, k, configuration)
			if owned := len(o.GetOwnerReferences()) == 1; owned != (policy == v1alpha1.DeletePolicy) {
				t.Errorf("%T with %s: owners %v", o, policy, o.GetOwnerReferences())
			}
			if s, ok := o.(*corev1.Secret); ok && !reflect.DeepEqual(s.Data, keys) {
				t.Errorf("the keys changed with %s", policy)
			}
		}
	}
}
