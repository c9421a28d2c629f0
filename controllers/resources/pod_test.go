package resources

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"

	"github.com/diseq/diseq/api/v1alpha1"
)

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
		if policy := pod.Containers[0].TerminationMessagePolicy; policy != corev1.TerminationMessageFallbackToLogsOnError {
			t.Errorf("%s: termination message policy %q: the status could not say why a node ended", name, policy)
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

func TestUserLabelsAreNotChanged(t *testing.T) {
	network := variants()["full"]
	before := maps.Clone(network.Spec.PodTemplate.Labels)
	statefulSet(t, network)
	if !maps.Equal(network.Spec.PodTemplate.Labels, before) {
		t.Errorf("the spec's labels became %v", network.Spec.PodTemplate.Labels)
	}
}
