package resources

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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
		ServiceAccountAnnotations: map[string]string{"cloud.example/role": "writer", AppliedAnnotation: "other"},
		Env: []v1alpha1.EnvVar{
			{Name: "GODEBUG", Value: "x"},
			{Name: "IP", ValueFrom: &v1alpha1.EnvVarSource{FieldRef: &v1alpha1.FieldRef{FieldPath: "status.podIP"}}},
		},
		SecurityContext: &v1alpha1.PodSecurityContext{
			RunAsUser: new(int64(1000650000)), RunAsGroup: new(int64(0)), FSGroup: new(int64(1000650001)), SupplementalGroups: []int64{7, 8},
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch), SELinuxOptions: &v1alpha1.SELinuxOptions{Level: "s0:c1,c2", Type: "container_t"},
			SeccompProfile: &v1alpha1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: new("node.json")},
		},
		InitContainers: []v1alpha1.Container{
			{Name: "first", Image: "first:v1", Command: []string{"a"}, Args: []string{"b"}},
			{Name: "proxy", Image: "proxy:v1", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
				StartupProbe: &v1alpha1.Probe{TCPSocket: &v1alpha1.TCPSocketAction{Port: intstr.FromInt32(15001)}}},
		},
		Containers: []v1alpha1.Container{{
			Name: "logs", Image: "logs:v1", Ports: []v1alpha1.ContainerPort{{ContainerPort: 2020, Name: "web", Protocol: corev1.ProtocolTCP}},
			EnvFrom:      []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.ObjectRef{Name: "logs"}}},
			Resources:    &v1alpha1.ContainerResources{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}},
			VolumeMounts: []v1alpha1.VolumeMount{{Name: "buffer", MountPath: "/buffer"}},
			SecurityContext: &v1alpha1.SecurityContext{RunAsUser: new(int64(7)), ReadOnlyRootFilesystem: new(true),
				Capabilities: &v1alpha1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}}},
			LivenessProbe: &v1alpha1.Probe{Action: v1alpha1.Action{HTTPGet: &v1alpha1.HTTPGetAction{Path: "/", Port: intstr.FromString("web")}}},
			Lifecycle:     &v1alpha1.Lifecycle{PreStop: &v1alpha1.Hook{Sleep: &v1alpha1.SleepAction{Seconds: 5}}},
		}},
		Volumes: []v1alpha1.Volume{
			{Name: "buffer", EmptyDir: &v1alpha1.EmptyDirVolume{SizeLimit: bytesOf(1 << 20)}},
			{Name: "ca", ConfigMap: &v1alpha1.ConfigMapVolume{ObjectRef: v1alpha1.ObjectRef{Name: "ca"}}},
		},
		VolumeMounts: []v1alpha1.VolumeMount{{Name: "ca", MountPath: "/etc/ssl/certs", ReadOnly: true}},
	}
	assigned := newNetwork("demo")
	assigned.Spec.PodTemplate.SecurityContext = &v1alpha1.PodSecurityContext{IDs: v1alpha1.PlatformIDs, SupplementalGroups: []int64{7}}
	return map[string]*v1alpha1.DiseqNetwork{"plain": plain, "full": full, "assigned": assigned, "closed": withAccess(closed())}
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
		if !*context.ReadOnlyRootFilesystem || *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks || !*context.RunAsNonRoot ||
			!*pod.SecurityContext.RunAsNonRoot || pod.Containers[0].Name != Container {
			t.Errorf("%s: %+v, %+v", name, pod.SecurityContext, context)
		}
		if policy := pod.Containers[0].TerminationMessagePolicy; policy != corev1.TerminationMessageFallbackToLogsOnError {
			t.Errorf("%s: termination message policy %q: the status could not say why a node ended", name, policy)
		}
		for _, mount := range pod.Containers[0].VolumeMounts {
			if mount.Name != "ca" && mount.SubPath != "" || mount.ReadOnly == (mount.Name == "data" || mount.Name == "scratch") {
				t.Errorf("%s: mount %+v", name, mount)
			}
		}
		for _, volume := range pod.Volumes {
			if volume.Name == "keys" && *volume.Secret.DefaultMode != 0o440 {
				t.Errorf("%s: keys with mode %o", name, *volume.Secret.DefaultMode)
			}
		}
		// The keys and the chain are the node's alone.
		for _, c := range append(pod.InitContainers, pod.Containers[1:]...) {
			for _, mount := range c.VolumeMounts {
				if mount.Name != "buffer" {
					t.Errorf("%s: container %s mounts %s", name, c.Name, mount.Name)
				}
			}
		}
		// The evaluator is awake.
		template.Spec.Containers[0].SecurityContext = nil
		if len(evaluate(template)) == 0 {
			t.Error("a container without a security context is allowed")
		}
	}
}

// The ids are the image's, those of the spec, or none: a platform that assigns them refuses others.
func TestUserAndGroupAreThoseOfTheImageOfTheSpecOrOfThePlatform(t *testing.T) {
	for name, tt := range map[string]struct {
		user, group, fsGroup *int64
		policy               corev1.PodFSGroupChangePolicy
		groups               []int64
	}{
		"plain":    {new(int64(65532)), new(int64(65532)), new(int64(65532)), corev1.FSGroupChangeAlways, nil},
		"full":     {new(int64(1000650000)), new(int64(0)), new(int64(1000650001)), corev1.FSGroupChangeOnRootMismatch, []int64{7, 8}},
		"assigned": {nil, nil, nil, corev1.FSGroupChangeAlways, []int64{7}},
	} {
		pod := statefulSet(t, variants()[name]).Spec.Template.Spec
		of, node := pod.SecurityContext, pod.Containers[0].SecurityContext
		for what, got := range map[string][2]*int64{
			"user of the pod": {of.RunAsUser, tt.user}, "user of the node": {node.RunAsUser, tt.user}, "group of the pod": {of.RunAsGroup, tt.group},
			"group of the node": {node.RunAsGroup, tt.group}, "group of the volumes": {of.FSGroup, tt.fsGroup},
		} {
			if !reflect.DeepEqual(got[0], got[1]) {
				t.Errorf("%s: %s is %v, want %v", name, what, text(got[0]), text(got[1]))
			}
		}
		if *of.FSGroupChangePolicy != tt.policy || !slices.Equal(of.SupplementalGroups, tt.groups) {
			t.Errorf("%s: %+v", name, of)
		}
	}
}

func text(id *int64) string {
	if id == nil {
		return "none"
	}
	return strconv.FormatInt(*id, 10)
}

func TestContainersOfTheUserRunBesideTheNode(t *testing.T) {
	pod := statefulSet(t, variants()["full"]).Spec.Template.Spec
	if len(pod.Containers) != 2 || pod.Containers[0].Name != Container || pod.Containers[1].Name != "logs" ||
		len(pod.InitContainers) != 2 || *pod.InitContainers[1].RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Fatalf("containers %+v, %+v", pod.InitContainers, pod.Containers)
	}
	logs := pod.Containers[1]
	if logs.Image != "logs:v1" || logs.EnvFrom[0].SecretRef.Name != "logs" || logs.Resources.Limits.Memory().String() != "64Mi" ||
		logs.Ports[0].ContainerPort != 2020 || logs.VolumeMounts[0].MountPath != "/buffer" || logs.LivenessProbe.HTTPGet.Port.StrVal != "web" ||
		logs.Lifecycle.PreStop.Sleep.Seconds != 5 || pod.InitContainers[1].StartupProbe.TCPSocket.Port.IntVal != 15001 {
		t.Errorf("%+v", logs)
	}
	context := logs.SecurityContext
	if *context.AllowPrivilegeEscalation || *context.RunAsUser != 7 || !*context.ReadOnlyRootFilesystem ||
		!slices.Equal(context.Capabilities.Add, []corev1.Capability{"NET_BIND_SERVICE"}) || !slices.Equal(context.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("security context %+v", context)
	}
	names := map[string]bool{}
	for _, v := range pod.Volumes {
		names[v.Name] = true
	}
	if len(names) != 8 || !names["buffer"] || !names["ca"] {
		t.Errorf("volumes %v", names)
	}
}

// Keys and votes of a validator are for its own node, whichever way the spec names them.
//
// Promise 80.
func TestAPodTemplateCannotNameTheKeysOrTheClaimOfAValidator(t *testing.T) {
	secret := func(name string) []v1alpha1.EnvVar {
		return []v1alpha1.EnvVar{{Name: "A", ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.KeyRef{Name: name, Key: "k"}}}}
	}
	of := func(name string) map[string]v1alpha1.PodTemplate {
		return map[string]v1alpha1.PodTemplate{
			"env":                 {Env: secret(name)},
			"containers.c":        {Containers: []v1alpha1.Container{{Name: "c", Env: secret(name)}}},
			"containers.i":        {InitContainers: []v1alpha1.Container{{Name: "i", EnvFrom: []v1alpha1.EnvFromSource{{SecretRef: &v1alpha1.ObjectRef{Name: name}}}}}},
			"volumes.secret":      {Volumes: []v1alpha1.Volume{{Name: "secret", Secret: &v1alpha1.SecretVolume{SecretName: name}}}},
			"volumes.claim":       {Volumes: []v1alpha1.Volume{{Name: "claim", PersistentVolumeClaim: &v1alpha1.ClaimVolume{ClaimName: name}}}},
			"volumes.projected":   {Volumes: []v1alpha1.Volume{{Name: "projected", Projected: &v1alpha1.ProjectedVolume{Sources: []v1alpha1.Projection{{Secret: &v1alpha1.ObjectProjection{ObjectRef: v1alpha1.ObjectRef{Name: name}}}}}}}},
			"volumes.secretOther": {Volumes: []v1alpha1.Volume{{Name: "ok", EmptyDir: &v1alpha1.EmptyDirVolume{}}, {Name: "secretOther", Secret: &v1alpha1.SecretVolume{SecretName: name}}}},
		}
	}
	for name, refused := range map[string]bool{"demo-v0": true, "demo-v12": true, "other-v3": true, "demo-v01": false, "demo-vault": false, "demo-v": false, "x-v1": false, "demo": false} {
		for field, template := range of(name) {
			network := newNetwork("demo")
			network.Spec.PodTemplate = template
			if !References(network) {
				t.Errorf("%s: no reference found", field)
			}
			err := CheckReferences(network, []string{"demo", "other"})
			if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "spec.podTemplate."+field+" names the ") {
				t.Errorf("%s names %s: %v", field, name, err)
			}
			if _, err := StatefulSet(network, testOperator, 0, true); (err != nil) != (refused && name != "other-v3") {
				t.Errorf("%s names %s: the StatefulSet is made with the error %v", field, name, err)
			}
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
		node.Resources.Requests.Memory().String() != "256Mi" || len(node.Resources.Limits) != 1 || node.Resources.Limits.Memory().String() != "1Gi" ||
		len(node.Env) > 0 {
		t.Errorf("default container %+v", node)
	}
	large := newNetwork("demo")
	large.Spec.Messages.MaxPoolBytes = new(resource.MustParse("4Gi"))
	if limit := statefulSet(t, large).Spec.Template.Spec.Containers[0].Resources.Limits.Memory().String(); limit != "4864Mi" {
		t.Errorf("the default limit with a pool of 4Gi is %s", limit)
	}
	want := variants()["full"].Spec
	node = full.Spec.Containers[0]
	if node.Image != want.Image || node.ImagePullPolicy != want.ImagePullPolicy || !reflect.DeepEqual(full.Spec.ImagePullSecrets, want.ImagePullSecrets) {
		t.Errorf("image %s, %s, %v", node.Image, node.ImagePullPolicy, full.Spec.ImagePullSecrets)
	}
	if node.Resources.Limits.Memory().Cmp(resource.MustParse("1000Mi")) != 0 || node.Resources.Requests.Memory().Cmp(resource.MustParse("512Mi")) != 0 ||
		len(node.Env) != 2 || node.Env[0] != (corev1.EnvVar{Name: "GODEBUG", Value: "x"}) || node.Env[1].ValueFrom.FieldRef.FieldPath != "status.podIP" {
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

func TestTheAccountOfAPodHasTheAnnotationsOfTheSpec(t *testing.T) {
	account := ServiceAccount(variants()["full"], 0)
	if account.Annotations["cloud.example/role"] != "writer" || account.Annotations[AppliedAnnotation] != Hash(account) || *account.AutomountServiceAccountToken {
		t.Errorf("%+v", account)
	}
}

func TestAPodIsNotKilledWhileItStartsOrCatchesUp(t *testing.T) {
	node := statefulSet(t, newNetwork("demo")).Spec.Template.Spec.Containers[0]
	for name, tt := range map[string]struct {
		probe   *corev1.Probe
		path    string
		atLeast time.Duration
	}{
		"startup":   {node.StartupProbe, "/livez", time.Hour},
		"liveness":  {node.LivenessProbe, "/livez", 5 * time.Minute},
		"readiness": {node.ReadinessProbe, "/readyz", 0},
	} {
		port := tt.probe.HTTPGet.Port.StrVal
		i := slices.IndexFunc(node.Ports, func(p corev1.ContainerPort) bool { return p.Name == port })
		if tt.probe.HTTPGet.Path != tt.path || i < 0 || node.Ports[i].ContainerPort != ProbesPort {
			t.Errorf("%s asks %+v", name, tt.probe.HTTPGet)
		}
		if got := time.Duration(tt.probe.PeriodSeconds*tt.probe.FailureThreshold) * time.Second; got < tt.atLeast {
			t.Errorf("%s gives up after %v", name, got)
		}
	}
}

// The kubelet waits for the drain, for requests that are open then, and for the last writes.
//
// Promise 78.
func TestAPodHasTheTimeToDrain(t *testing.T) {
	for name, tt := range map[string]struct {
		drain *metav1.Duration
		text  string
		grace int64
	}{
		"by default": {nil, "drain: 10s\n", 70}, "none": {new(metav1.Duration), "drain: 0s\n", 60},
		"long": {&metav1.Duration{Duration: 90 * time.Second}, "drain: 1m30s\n", 150},
	} {
		network := newNetwork("demo")
		network.Spec.Service.Drain = tt.drain
		text, err := NodeConfig(network)
		grace := statefulSet(t, network).Spec.Template.Spec.TerminationGracePeriodSeconds
		if err != nil || !strings.Contains(text, tt.text) || *grace != tt.grace {
			t.Errorf("%s: %d s to stop, node.yaml\n%s%v", name, *grace, text, err)
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
