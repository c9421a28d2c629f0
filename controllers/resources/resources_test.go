package resources

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
)

var testOperator = Operator{
	NodeImage: "diseq:v1", Namespace: "diseq-system", PodLabels: map[string]string{"app.kubernetes.io/name": "diseq-operator"},
}

// newNetwork is a network as the API server would give it, but for the defaults.
func newNetwork(name string) *v1alpha1.DiseqNetwork {
	return &v1alpha1.DiseqNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("0a1b2c3d-0000-4000-8000-" + fmt.Sprintf("%012d", len(name)))},
		Spec:       v1alpha1.DiseqNetworkSpec{Validators: 4},
	}
}

func newMembers(n int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{Serial: i, Validator: chain.Validator{
			PublicKey: chain.PublicKeyOf(ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%032d", i)))), VRFKey: chain.VRFKey{31: byte(i + 1)},
		}}
	}
	return out
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// built is an object as the API server would read it.
type built struct {
	configuration any
	*unstructured.Unstructured
}

func read(t *testing.T, configuration any) built {
	t.Helper()
	raw, err := json.Marshal(configuration)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, u); err != nil {
		t.Fatal(err)
	}
	return built{configuration, u}
}

func (b built) String() string { return b.GetKind() + " " + b.GetName() }

// allObjects is everything that a network of members with those serial numbers has.
func allObjects(t *testing.T, network *v1alpha1.DiseqNetwork, members []Member) []built {
	t.Helper()
	config, err := ConfigMap(network)
	if err != nil {
		t.Fatal(err)
	}
	peers, err := PeersConfigMap(network, members)
	if err != nil {
		t.Fatal(err)
	}
	out := []built{
		read(t, GenesisConfigMap(network, "{}\n")), read(t, config), read(t, peers), read(t, PeersService(network)),
		read(t, ClientsService(network)), read(t, PodDisruptionBudget(network, 3, 3)), read(t, PodMonitor(network)),
	}
	for _, p := range NetworkPolicies(network, testOperator) {
		out = append(out, read(t, p))
	}
	for _, m := range members {
		secret := KeySecret(network, m.Serial, nil)
		secret.UID = "5ec2e700-0000-4000-8000-000000000000"
		metadata, err := KeySecretMetadata(network, secret, "70100000-0000-4000-8000-000000000000")
		if err != nil {
			t.Fatal(err)
		}
		set, err := StatefulSet(network, testOperator, m.Serial, true)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, read(t, metadata), read(t, ServiceAccount(network, m.Serial)), read(t, PersistentVolumeClaim(network, m.Serial)), read(t, set))
	}
	return out
}

// statefulSet is validator 0's as the API server would read it.
func statefulSet(t *testing.T, network *v1alpha1.DiseqNetwork) *appsv1.StatefulSet {
	t.Helper()
	configuration, err := StatefulSet(network, testOperator, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	out := &appsv1.StatefulSet{}
	raw := must[[]byte](t)(json.Marshal(configuration))
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNamesAndLabelsAreValidForTheLongestName(t *testing.T) {
	network := newNetwork(strings.Repeat("n", 40))
	objects := allObjects(t, network, []Member{{Serial: 9999, Validator: newMembers(1)[0].Validator}})
	if len(objects) != 16 {
		t.Errorf("%d objects", len(objects))
	}
	for _, o := range objects {
		var problems []string
		if o.GetKind() == "Service" {
			problems = validation.IsDNS1035Label(o.GetName())
		} else {
			problems = validation.IsDNS1123Label(o.GetName()) // 63 characters: some of the names become label values
		}
		for _, set := range []map[string]string{o.GetLabels(), o.GetAnnotations()} {
			for key := range set {
				problems = append(problems, validation.IsQualifiedName(key)...)
			}
		}
		for _, value := range o.GetLabels() {
			problems = append(problems, validation.IsValidLabelValue(value)...)
		}
		if o.GetNamespace() != "ns" || o.GetLabels()[NetworkLabel] != network.Name || len(problems) > 0 {
			t.Errorf("%v in %s with labels %v: %v", o, o.GetNamespace(), o.GetLabels(), problems)
		}
	}
	validator := ValidatorName(network.Name, 9999)
	// The pod's name, and the label that its StatefulSet gives it: a hash of ten digits behind its own name.
	for _, value := range []string{PodName(validator), validator + "-0123456789"} {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			t.Errorf("%s: %v", value, problems)
		}
	}
	for _, value := range statefulSet(t, network).Spec.Template.Labels {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			t.Errorf("%s: %v", value, problems)
		}
	}
}

func TestSerialNumbersAreReadBackFromNames(t *testing.T) {
	for _, serial := range []int{0, 1, 10, 9999} {
		if got, ok := SerialOf("a-v1", ValidatorName("a-v1", serial)); !ok || got != serial {
			t.Errorf("%d reads back as %d, %v", serial, got, ok)
		}
	}
	for _, name := range []string{"", "a", "a-v", "a-v01", "a-v+1", "a-v-1", "a-v1x", "b-v1", "a-b-v1", "a-v1-v0", "a-v99999999999999999999"} {
		if serial, ok := SerialOf("a", name); ok {
			t.Errorf("%q has serial number %d of a", name, serial)
		}
	}
}

// One network's name may be the beginning of another's.
func TestNetworksDoNotTouchEachOthersObjects(t *testing.T) {
	names := []string{"a", "a-v0", "a-v1", "a-v0-v0", "b", "a-genesis", "a-config", "a-default"}
	owners := map[string]string{}
	for _, name := range names {
		for _, o := range allObjects(t, newNetwork(name), newMembers(3)) {
			if other, ok := owners[o.String()]; ok {
				t.Errorf("networks %s and %s both have %v", other, name, o)
			}
			owners[o.String()] = name
		}
	}
	pods := map[string][]labels.Set{}
	for _, name := range names {
		for serial := range 2 {
			pods[name] = append(pods[name], podLabels(newNetwork(name), ValidatorName(name, serial)))
		}
	}
	for _, name := range names {
		text, err := labels.Parse(Selector(name))
		if err != nil {
			t.Fatal(err)
		}
		of := func(set map[string]string) labels.Selector { return labels.SelectorFromSet(set) }
		for _, other := range names {
			for serial, pod := range pods[other] {
				mine := name == other
				for _, selector := range []labels.Selector{of(NetworkSelector(name)), of(ValidatorsSelector(name)), text} {
					if selector.Matches(pod) != mine {
						t.Errorf("%s of %s and pod %d of %s: %v", selector, name, serial, other, !mine)
					}
				}
				one := of(ValidatorSelector(name, ValidatorName(name, 0)))
				if one.Matches(pod) != (mine && serial == 0) {
					t.Errorf("%s and pod %d of %s: %v", one, serial, other, one.Matches(pod))
				}
			}
		}
	}
}

// Every selector in every object is the network's own.
func TestEverySelectorNamesTheNetwork(t *testing.T) {
	network := newNetwork("demo")
	for _, o := range allObjects(t, network, newMembers(1)) {
		var selector map[string]string
		switch o.GetKind() {
		case "Service":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector")
		case "StatefulSet", "PodDisruptionBudget", "PodMonitor":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
		case "NetworkPolicy":
			selector, _, _ = unstructured.NestedStringMap(o.Object, "spec", "podSelector", "matchLabels")
		default:
			continue
		}
		if selector[NetworkLabel] != "demo" {
			t.Errorf("%v selects %v", o, selector)
		}
		if pod := labels.Set(podLabels(network, "demo-v0")); !labels.SelectorFromSet(selector).Matches(pod) {
			t.Errorf("%v selects %v, which no pod has", o, selector)
		}
	}
}

func TestOnlyWhatIsRetainedHasNoOwner(t *testing.T) {
	for policy, kept := range map[v1alpha1.RetentionPolicy][]string{
		"":                    {"ConfigMap demo-genesis", "PersistentVolumeClaim demo-v0", "Secret demo-v0"},
		v1alpha1.RetainPolicy: {"ConfigMap demo-genesis", "PersistentVolumeClaim demo-v0", "Secret demo-v0"},
		v1alpha1.DeletePolicy: nil,
	} {
		network := newNetwork("demo")
		network.Spec.Storage.Retention.OnDelete = policy
		var without []string
		for _, o := range allObjects(t, network, newMembers(1)) {
			references := o.GetOwnerReferences()
			if len(references) == 0 {
				without = append(without, o.String())
				continue
			}
			yes := true
			want := []metav1.OwnerReference{{
				APIVersion: "diseq.io/v1alpha1", Kind: "DiseqNetwork", Name: "demo", UID: network.UID, Controller: &yes, BlockOwnerDeletion: &yes,
			}}
			if !reflect.DeepEqual(references, want) {
				t.Errorf("%v is owned by %v", o, references)
			}
			if len(o.GetFinalizers()) > 0 {
				t.Errorf("%v has finalizers %v", o, o.GetFinalizers())
			}
		}
		if slices.Sort(without); !slices.Equal(without, kept) {
			t.Errorf("with %q no owner have %v, want %v", policy, without, kept)
		}
	}
}

func TestKeySecretsAreMadeOnceAndOnlyTheirMetadataChanges(t *testing.T) {
	network := newNetwork("demo")
	network.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy
	id := must[*identity.Identity](t)(identity.New())
	files := must[map[string][]byte](t)(id.Files("demo-v0"))
	secret := KeySecret(network, 0, files)
	if secret.Immutable == nil || !*secret.Immutable || secret.Type != corev1.SecretTypeOpaque || len(secret.OwnerReferences) > 0 {
		t.Errorf("secret %+v", secret.ObjectMeta)
	}
	if again, err := identity.Parse(secret.Data); err != nil || again.Public() != id.Public() {
		t.Errorf("the identity reads back as %v, %v", again, err)
	}
	secret.UID = "s"
	for _, tt := range []struct {
		known, given, want string
		fails              bool
	}{
		{"", "", "", false}, {"", "u", "u", false}, {"u", "u", "u", false}, {"u", "", "u", false}, {"u", "w", "", true},
	} {
		secret.Annotations = map[string]string{FirstVolumeAnnotation: tt.known}
		configuration, err := KeySecretMetadata(network, secret, types.UID(tt.given))
		if (err != nil) != tt.fails {
			t.Errorf("%q, then %q: error %v", tt.known, tt.given, err)
		}
		if err != nil {
			continue
		}
		if got := configuration.Annotations[FirstVolumeAnnotation]; got != tt.want {
			t.Errorf("%q, then %q: annotation %q, want %q", tt.known, tt.given, got, tt.want)
		}
		if *configuration.UID != "s" || configuration.Data != nil || configuration.StringData != nil || configuration.Immutable != nil {
			t.Errorf("metadata of a secret applies %+v", configuration)
		}
	}
}

func TestNoSecretIsInWhatIsApplied(t *testing.T) {
	network := newNetwork("demo")
	id := must[*identity.Identity](t)(identity.New())
	files := must[map[string][]byte](t)(id.Files("demo-v0"))
	var secrets []string
	for _, file := range []string{identity.SigningKeyFile, identity.VRFKeyFile} {
		lines := strings.Split(strings.TrimSpace(string(files[file])), "\n")
		secrets = append(secrets, lines[len(lines)/2])
	}
	whole := must[[]byte](t)(json.Marshal(KeySecret(network, 0, files)))
	for _, o := range allObjects(t, network, []Member{{Serial: 0, Validator: id.Public()}}) {
		raw := string(must[[]byte](t)(json.Marshal(o.Object)))
		for _, s := range secrets {
			if len(s) < 40 || strings.Contains(raw, s) {
				t.Errorf("%v has %q", o, s)
			}
		}
		if o.GetKind() == "Secret" && (strings.Contains(raw, `"data"`) || !strings.Contains(string(whole), `"data"`)) {
			t.Errorf("%v has data: %s", o, raw)
		}
	}
}

// variants are networks that use what a spec can say of pods.
func variants() map[string]*v1alpha1.DiseqNetwork {
	plain, full := newNetwork("demo"), newNetwork("demo")
	full.Spec.Image, full.Spec.ImagePullPolicy = "registry.example/diseq:v9", corev1.PullAlways
	full.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	full.Spec.PodTemplate = v1alpha1.PodTemplate{
		Resources: &corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1000Mi"), corev1.ResourceCPU: resource.MustParse("1.5")},
			Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("0.5Gi")},
		},
		NodeSelector: map[string]string{"disk": "fast"},
		Tolerations:  []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{NetworkLabel: "demo"}},
		}}}},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{MaxSkew: 2, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule}},
		PriorityClassName:         "high",
		Labels:                    map[string]string{"team": "x", NetworkLabel: "other", "a": "1", "b": "2"},
		Annotations:               map[string]string{"note": "y", ConfigAnnotation: "other", TemplateAnnotation: "other"},
	}
	return map[string]*v1alpha1.DiseqNetwork{"plain": plain, "full": full}
}

func TestPodsKeepToTheRestrictedStandard(t *testing.T) {
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	evaluate := func(template corev1.PodTemplateSpec) (forbidden []string) {
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for _, result := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
			if !result.Allowed {
				forbidden = append(forbidden, result.ForbiddenReason+": "+result.ForbiddenDetail)
			}
		}
		return forbidden
	}
	for name, network := range variants() {
		template := statefulSet(t, network).Spec.Template
		if forbidden := evaluate(template); len(forbidden) > 0 {
			t.Errorf("%s: %v", name, forbidden)
		}
		pod, context := template.Spec, template.Spec.Containers[0].SecurityContext
		if !*context.ReadOnlyRootFilesystem || *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks || *pod.SecurityContext.FSGroup != 65532 ||
			*pod.SecurityContext.FSGroupChangePolicy != corev1.FSGroupChangeOnRootMismatch || *context.RunAsUser != 65532 || len(pod.Containers) != 1 {
			t.Errorf("%s: %+v, %+v", name, pod.SecurityContext, context)
		}
		for _, mount := range pod.Containers[0].VolumeMounts {
			if mount.SubPath != "" || mount.ReadOnly == (mount.Name == "data" || mount.Name == "scratch") {
				t.Errorf("%s: mount %+v", name, mount)
			}
		}
		for _, volume := range pod.Volumes {
			if volume.Name == "keys" && *volume.Secret.DefaultMode != 0o440 {
				t.Errorf("%s: keys with mode %o", name, *volume.Secret.DefaultMode)
			}
		}
		// The evaluator is awake.
		template.Spec.Containers[0].SecurityContext = nil
		if len(evaluate(template)) == 0 {
			t.Error("a container without a security context is allowed")
		}
	}
}

func TestANodeIsStartedWithItsNameAndToldOfItsFirstVolume(t *testing.T) {
	network := newNetwork("demo")
	for first, want := range map[bool][]string{
		true:  {"node", "--config", "/etc/diseq/config/node.yaml", "--name", "demo-v7", "--create-vote-store"},
		false: {"node", "--config", "/etc/diseq/config/node.yaml", "--name", "demo-v7"},
	} {
		set, err := StatefulSet(network, testOperator, 7, first)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Spec.Template.Spec.Containers[0].Args; !slices.Equal(got, want) {
			t.Errorf("first volume %v: %q", first, got)
		}
	}
}

func TestPodsAreWhatTheTemplateOfTheSpecSays(t *testing.T) {
	plain, full := statefulSet(t, variants()["plain"]).Spec.Template, statefulSet(t, variants()["full"]).Spec.Template
	spread := plain.Spec.TopologySpreadConstraints
	if len(spread) != 1 || spread[0].TopologyKey != "kubernetes.io/hostname" || spread[0].WhenUnsatisfiable != corev1.ScheduleAnyway || spread[0].MaxSkew != 1 {
		t.Errorf("default spread %+v", spread)
	}
	node := plain.Spec.Containers[0]
	if node.Image != "diseq:v1" || node.ImagePullPolicy != corev1.PullIfNotPresent || node.Resources.Requests.Cpu().String() != "100m" ||
		node.Resources.Requests.Memory().String() != "256Mi" || len(node.Resources.Limits) > 0 || len(node.Env) > 0 {
		t.Errorf("default container %+v", node)
	}
	want := variants()["full"].Spec
	node = full.Spec.Containers[0]
	if node.Image != want.Image || node.ImagePullPolicy != want.ImagePullPolicy || !reflect.DeepEqual(full.Spec.ImagePullSecrets, want.ImagePullSecrets) {
		t.Errorf("image %s, %s, %v", node.Image, node.ImagePullPolicy, full.Spec.ImagePullSecrets)
	}
	if node.Resources.Limits.Memory().Cmp(resource.MustParse("1000Mi")) != 0 || node.Resources.Requests.Memory().Cmp(resource.MustParse("512Mi")) != 0 ||
		!reflect.DeepEqual(node.Env, []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "943718400"}}) {
		t.Errorf("resources %+v, environment %v", node.Resources, node.Env)
	}
	if !reflect.DeepEqual(full.Spec.NodeSelector, want.PodTemplate.NodeSelector) || !reflect.DeepEqual(full.Spec.Tolerations, want.PodTemplate.Tolerations) ||
		!reflect.DeepEqual(full.Spec.Affinity, want.PodTemplate.Affinity) || full.Spec.PriorityClassName != "high" ||
		!reflect.DeepEqual(full.Spec.TopologySpreadConstraints, want.PodTemplate.TopologySpreadConstraints) {
		t.Errorf("pod %+v", full.Spec)
	}
	// The operator's own labels and annotations win over the user's.
	if full.Labels["team"] != "x" || full.Labels[NetworkLabel] != "demo" || full.Annotations["note"] != "y" ||
		full.Annotations[ConfigAnnotation] == "other" || full.Annotations[TemplateAnnotation] == "other" {
		t.Errorf("labels %v, annotations %v", full.Labels, full.Annotations)
	}
}

// No field of the spec's pod template may be forgotten: each changes the pods.
func TestEveryFieldOfThePodTemplateChangesThePods(t *testing.T) {
	full := variants()["full"].Spec.PodTemplate
	fields := reflect.TypeFor[v1alpha1.PodTemplate]()
	for i := range fields.NumField() {
		network := newNetwork("demo")
		before := statefulSet(t, network).Spec.Template.Annotations[TemplateAnnotation]
		value := reflect.ValueOf(full).Field(i)
		if value.IsZero() {
			t.Errorf("the test has no value for %s", fields.Field(i).Name)
		}
		reflect.ValueOf(&network.Spec.PodTemplate).Elem().Field(i).Set(value)
		if after := statefulSet(t, network).Spec.Template.Annotations[TemplateAnnotation]; after == before {
			t.Errorf("%s changes nothing", fields.Field(i).Name)
		}
	}
}

func TestTemplateHashChangesWithThePodAndWithNothingElse(t *testing.T) {
	hash := func(change func(n *v1alpha1.DiseqNetwork, o *Operator), first bool) string {
		network, operator := variants()["full"], testOperator
		change(network, &operator)
		set, err := StatefulSet(network, operator, 0, first)
		if err != nil {
			t.Fatal(err)
		}
		if got := TemplateHash(set.Spec.Template); got != TemplateOf(set) || len(got) != 32 {
			t.Errorf("stamped with %q, the hash is %q", TemplateOf(set), got)
		}
		return TemplateOf(set)
	}
	same := func(*v1alpha1.DiseqNetwork, *Operator) {}
	base := hash(same, false)
	for range 50 {
		if got := hash(same, false); got != base {
			t.Fatalf("built again the hash is %s, it was %s", got, base)
		}
	}
	if hash(same, true) == base {
		t.Error("the statement of the first volume changes nothing")
	}
	for name, tt := range map[string]struct {
		change  func(*v1alpha1.DiseqNetwork, *Operator)
		changes bool
	}{
		"image":              {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Image = "other" }, true},
		"operator's image":   {func(_ *v1alpha1.DiseqNetwork, o *Operator) { o.NodeImage = "other" }, false},
		"pool size":          {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Messages.MaxPoolBytes = bytesOf(1 << 30) }, true},
		"validators":         {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Validators = 7 }, false},
		"volume size":        {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Storage.Size = bytesOf(1 << 40) }, false},
		"service":            {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Service.Type = corev1.ServiceTypeNodePort }, false},
		"monitoring":         {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Monitoring.Enabled = new(bool) }, false},
		"retention":          {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy }, false},
		"paused":             {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Spec.Paused = true }, false},
		"generation":         {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.Generation++ }, false},
		"the resource's UID": {func(n *v1alpha1.DiseqNetwork, _ *Operator) { n.UID = "other" }, false},
		"operator's place":   {func(_ *v1alpha1.DiseqNetwork, o *Operator) { o.Namespace = "other" }, false},
	} {
		if got := hash(tt.change, false); (got != base) != tt.changes {
			t.Errorf("%s: changes %v, want %v", name, got != base, tt.changes)
		}
	}
}

func TestAPodIsNotKilledWhileItStartsOrCatchesUp(t *testing.T) {
	node := statefulSet(t, newNetwork("demo")).Spec.Template.Spec.Containers[0]
	for name, tt := range map[string]struct {
		probe   *corev1.Probe
		path    string
		atLeast time.Duration
	}{
		"startup":   {node.StartupProbe, "/healthz", time.Hour},
		"liveness":  {node.LivenessProbe, "/healthz", 5 * time.Minute},
		"readiness": {node.ReadinessProbe, "/readyz", 0},
	} {
		port := tt.probe.HTTPGet.Port.StrVal
		i := slices.IndexFunc(node.Ports, func(p corev1.ContainerPort) bool { return p.Name == port })
		if tt.probe.HTTPGet.Path != tt.path || i < 0 || node.Ports[i].ContainerPort != 9090 {
			t.Errorf("%s asks %+v", name, tt.probe.HTTPGet)
		}
		if got := time.Duration(tt.probe.PeriodSeconds*tt.probe.FailureThreshold) * time.Second; got < tt.atLeast {
			t.Errorf("%s gives up after %v", name, got)
		}
	}
}

func TestEveryObjectIsStampedWithItsHash(t *testing.T) {
	for _, network := range variants() {
		first, second := allObjects(t, network, newMembers(2)), allObjects(t, network, newMembers(2))
		for i, o := range first {
			stamp := o.GetAnnotations()[AppliedAnnotation]
			if stamp == "" || stamp != Hash(o.configuration) || stamp != Hash(second[i].configuration) || stamp != Hash(o.Object) {
				t.Errorf("%v is stamped with %q, its hash is %q, built again %q", o, stamp, Hash(o.configuration), Hash(second[i].configuration))
			}
		}
	}
}

func TestALiveObjectIsCurrentUntilItOrTheSpecChanges(t *testing.T) {
	network := variants()["full"]
	network.Spec.Storage.Retention.OnDelete = v1alpha1.DeletePolicy
	for _, o := range allObjects(t, network, newMembers(1)) {
		live := o.DeepCopy()
		live.SetResourceVersion("17")
		live.SetUID(cmpUID(o.GetUID()))
		annotations := live.GetAnnotations()
		annotations["someone.else/note"] = "x"
		live.SetAnnotations(annotations)
		live.SetFinalizers([]string{"someone.else/finalizer"})
		if !Current(live, o.configuration) {
			t.Errorf("%v is not current as it was made", o)
		}
		for change, apply := range map[string]func(*unstructured.Unstructured){
			"without its hash": func(u *unstructured.Unstructured) { u.SetAnnotations(nil) },
			"of another hash":  func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{AppliedAnnotation: "x"}) },
			"without a label": func(u *unstructured.Unstructured) {
				l := u.GetLabels()
				delete(l, NetworkLabel)
				u.SetLabels(l)
			},
			"without its owner": func(u *unstructured.Unstructured) { u.SetOwnerReferences(nil) },
		} {
			changed := live.DeepCopy()
			if apply(changed); Current(changed, o.configuration) {
				t.Errorf("%v is current %s", o, change)
			}
		}
	}
	set := statefulSet(t, network)
	configuration, err := StatefulSet(network, testOperator, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	for change, apply := range map[string]func(*appsv1.StatefulSet){
		"scaled to nothing":   func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32) },
		"of another strategy": func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType },
		"of another image":    func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "other" },
		"with other arguments": func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].Args = append(s.Spec.Template.Spec.Containers[0].Args, "--x")
		},
		"without a volume": func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Volumes = s.Spec.Template.Spec.Volumes[1:] },
		"with a writable root": func(s *appsv1.StatefulSet) {
			s.Spec.Template.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = new(bool)
		},
	} {
		changed := set.DeepCopy()
		if apply(changed); Current(changed, configuration) {
			t.Errorf("the StatefulSet is current %s", change)
		}
	}
	policies := NetworkPolicies(network, testOperator)
	for i, opened := range policiesOf(t, network, testOperator) {
		if !Current(&opened, policies[i]) {
			t.Errorf("%s is not current as it was made", opened.Name)
		}
		if len(opened.Spec.Ingress) == 0 {
			continue
		}
		opened.Spec.Ingress = append(opened.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{})
		if Current(&opened, policies[i]) {
			t.Errorf("%s is current with a rule that allows everything", opened.Name)
		}
	}
	// What the API server and others add does not matter.
	defaulted := set.DeepCopy()
	defaulted.Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	defaulted.Spec.Template.Spec.SchedulerName, defaulted.Spec.Template.Spec.RestartPolicy = "default-scheduler", corev1.RestartPolicyAlways
	defaulted.Spec.Template.Spec.Volumes = append(slices.Clone(set.Spec.Template.Spec.Volumes), corev1.Volume{Name: "more"})
	defaulted.Status.ReadyReplicas = 1
	if !Current(defaulted, configuration) {
		t.Error("the StatefulSet is not current with the defaults of the API server")
	}
}

// cmpUID is the UID that an object gets: the one that it names, or a new one.
func cmpUID(uid types.UID) types.UID {
	if uid == "" {
		return "made"
	}
	return uid
}

func TestTheBudgetIsTheLargerThreshold(t *testing.T) {
	for _, tt := range []struct{ live, target, want int64 }{{3, 3, 3}, {5, 3, 5}, {3, 5, 5}, {0, 3, 3}} {
		budget := read(t, PodDisruptionBudget(newNetwork("demo"), int(tt.live), int(tt.target)))
		spec := budget.Object["spec"].(map[string]any)
		if spec["minAvailable"] != tt.want || spec["unhealthyPodEvictionPolicy"] != "AlwaysAllow" || spec["maxUnavailable"] != nil {
			t.Errorf("live %d, target %d: %v", tt.live, tt.target, spec)
		}
	}
}

func TestServicesAreForPeersAndForClients(t *testing.T) {
	network := newNetwork("demo")
	network.Spec.Service = v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer, Annotations: map[string]string{"lb": "x", AppliedAnnotation: "other"}}
	peers, clients := PeersService(network), ClientsService(network)
	if *peers.Name != "demo-peers" || *peers.Spec.ClusterIP != "None" || !*peers.Spec.PublishNotReadyAddresses || *peers.Spec.Ports[0].Port != 7700 {
		t.Errorf("peers %+v", peers.Spec)
	}
	if *clients.Name != "demo" || clients.Spec.PublishNotReadyAddresses != nil || *clients.Spec.Ports[0].Port != 8080 || len(clients.Spec.Ports) != 1 ||
		*clients.Spec.Type != corev1.ServiceTypeLoadBalancer || clients.Annotations["lb"] != "x" || clients.Annotations[AppliedAnnotation] != Hash(clients) {
		t.Errorf("clients %+v, %v", clients.Spec, clients.Annotations)
	}
	if got := *ClientsService(newNetwork("demo")).Spec.Type; got != corev1.ServiceTypeClusterIP {
		t.Errorf("default type %s", got)
	}
	set := statefulSet(t, network)
	host := set.Name + "-0." + set.Spec.ServiceName + ".ns.svc:7700"
	if got := PeerAddress("demo", "ns", "demo-v0"); got != host {
		t.Errorf("peer address %s, the pod is %s", got, host)
	}
}

func TestVolumesAreAsTheSpecSays(t *testing.T) {
	network := newNetwork("demo")
	plain := PersistentVolumeClaim(network, 0).Spec
	if plain.StorageClassName != nil || plain.AccessModes[0] != corev1.ReadWriteOnce || plain.Resources.Requests.Storage().String() != "10Gi" {
		t.Errorf("default volume %+v", plain)
	}
	network.Spec.Storage = v1alpha1.Storage{Size: bytesOf(1 << 30), StorageClassName: "fast", AccessMode: corev1.ReadWriteOncePod}
	given := PersistentVolumeClaim(network, 0).Spec
	if *given.StorageClassName != "fast" || !slices.Equal(given.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}) ||
		given.Resources.Requests.Storage().String() != "1Gi" {
		t.Errorf("volume %+v", given)
	}
}

func TestMonitoringIsOnUnlessTurnedOff(t *testing.T) {
	network := newNetwork("demo")
	if !Monitored(network) {
		t.Error("off by default")
	}
	network.Spec.Monitoring.Enabled = new(bool)
	if Monitored(network) {
		t.Error("on though turned off")
	}
	o := read(t, PodMonitor(network))
	endpoints, _, _ := unstructured.NestedSlice(o.Object, "spec", "podMetricsEndpoints")
	if o.GetAPIVersion() != "monitoring.coreos.com/v1" || len(endpoints) != 1 || endpoints[0].(map[string]any)["port"] != OperationsPortName {
		t.Errorf("%+v", o.Object)
	}
}

func TestUserLabelsAreNotChanged(t *testing.T) {
	network := variants()["full"]
	before := maps.Clone(network.Spec.PodTemplate.Labels)
	statefulSet(t, network)
	if !maps.Equal(network.Spec.PodTemplate.Labels, before) {
		t.Errorf("the spec's labels became %v", network.Spec.PodTemplate.Labels)
	}
}
