package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// valueSets turn every switch of the chart at least once.
var valueSets = map[string]string{
	"defaults":       `{}`,
	"namespaced":     `{watchNamespaces: [team-a, team-b]}`,
	"confined":       confined,
	"no rbac":        `{rbac: {create: false, userRoles: false}}`,
	"crds removed":   `{crds: {keep: false}}`,
	"no crds":        `{crds: {install: false}}`,
	"own account":    `{serviceAccount: {create: false, name: mine}}`,
	"named account":  `{serviceAccount: {name: mine, annotations: {example.com/role: "1"}}}`,
	"digests":        `{image: {digest: "` + digest + `"}, nodeImage: {digest: "` + digest + `"}}`,
	"registry":       `{image: {repository: "localhost:5000/a/diseq-operator", tag: v1.2.3, pullPolicy: Always}, imagePullSecrets: [{name: registry}]}`,
	"monitored":      `{metrics: {serviceMonitor: {enabled: true, interval: 1m, labels: {prometheus: main}}, prometheusRules: {enabled: true, labels: {a: b}}}}`,
	"no metrics":     `{metrics: {enabled: false, serviceMonitor: {enabled: true}, prometheusRules: {enabled: true}}, networkPolicy: {enabled: true}}`,
	"dashboards":     `{metrics: {dashboards: {enabled: true, labels: {grafana: main}}}}`,
	"policy":         `{networkPolicy: {enabled: true}}`,
	"narrow policy":  narrowPolicy,
	"one":            `{replicas: 1}`,
	"no budget":      `{podDisruptionBudget: {enabled: false}}`,
	"long name":      `{fullnameOverride: ` + strings.Repeat("a", 40) + `}`,
	"as a subchart":  `{global: {region: here}}`,
	"unlimited":      `{resources: {}}`,
	"where it runs":  whereItRuns,
	"own labels":     `{commonLabels: {team: a}, commonAnnotations: {note: b}, podLabels: {pod: c}, podAnnotations: {pod-note: "d: e"}}`,
	"rival labels":   `{commonLabels: {app.kubernetes.io/name: other}, podLabels: {app.kubernetes.io/instance: other}}`,
	"text, debug":    `{log: {level: debug, format: text}}`,
	"certificate":    certificate,
	"platform's ids": `{ids: Platform}`,
	"no policies":    `{admissionPolicies: {enabled: false}}`,
	"restores":       `{admissionPolicies: {trusted: ["system:serviceaccount:velero:velero"]}}`,
	"wide open":      `{allowed: {nodeImages: ".*", sidecarImages: 'a\.b/"c":.*', annotations: ["*"], podLabels: [team, example.com/*]}}`,
}

const (
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	// confined is what README.md gives for an installation without an object outside of namespaces.
	confined    = `{watchNamespaces: [team-a], crds: {install: false}, metrics: {enabled: false}, rbac: {userRoles: false}, admissionPolicies: {enabled: false}}`
	certificate = `
metrics:
  certificateSecret: tls
  serviceMonitor: {enabled: true, tlsConfig: {serverName: a.b.svc, ca: {secret: {name: ca, key: ca.crt}}}}
`
	narrowPolicy = `
watchNamespaces: [team-a]
networkPolicy:
  enabled: true
  apiServerPorts: [8443]
  apiServerAddresses: [10.96.0.1/32]
  dns: [{ipBlock: {cidr: 192.0.2.53/32}}]
  metricsFrom:
    - {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}, podSelector: {matchExpressions: [{key: a, operator: Exists}]}}
    - {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}
`
	whereItRuns = `
priorityClassName: system-cluster-critical
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}]
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}]
topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}, matchLabelKeys: [a]}
`
)

// TestEveryValueSetRendersAsItsKindsAllow holds what must be so whatever the values are: render
// refuses unknown fields; names are unique and short enough, namespaced objects say where they
// belong, and all carry labels by which they are found.
func TestEveryValueSetRendersAsItsKindsAllow(t *testing.T) {
	t.Parallel()
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for _, object := range render(t, values) {
				id := fmt.Sprintf("%T %s/%s", object, object.GetNamespace(), object.GetName())
				if seen[id] {
					t.Errorf("%s is there twice", id)
				}
				seen[id] = true
				if n := len(object.GetName()); n == 0 || n > 63 {
					t.Errorf("%s: a name of %d characters", id, n)
				}
				clusterWide := false
				switch object.(type) {
				case *apiextensionsv1.CustomResourceDefinition, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding,
					*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
					clusterWide = true
				}
				if clusterWide != (object.GetNamespace() == "") {
					t.Errorf("%s: a wrong namespace", id)
				}
				for label, value := range map[string]string{
					"app.kubernetes.io/name": "diseq-operator", "app.kubernetes.io/instance": release, "app.kubernetes.io/version": "dev",
				} {
					if got := object.GetLabels()[label]; got != value {
						t.Errorf("%s: label %s is %q, want %q", id, label, got, value)
					}
				}
			}
		})
	}
}

// TestProductionIsNarrow holds values-production.yaml, with what README.md adds to it, to rights in
// namespaces alone, exact images, and a closed network.
func TestProductionIsNarrow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(chart + "/values-production.yaml")
	if err != nil {
		t.Fatal(err)
	}
	values := string(text) + "\nwatchNamespaces: [sequencing]\nimage: {digest: \"" + digest + "\"}\nnodeImage: {digest: \"" + digest + "\"}\n"
	objects := render(t, values)
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		for _, rule := range role.Rules {
			if slices.Contains(rule.Resources, "secrets") {
				t.Errorf("ClusterRole %s is about Secrets", role.Name)
			}
		}
	}
	for _, binding := range all[*rbacv1.ClusterRoleBinding](objects) {
		if !strings.HasSuffix(binding.Name, "-metrics-auth") {
			t.Errorf("ClusterRoleBinding %s", binding.Name)
		}
	}
	if n := len(all[*networkingv1.NetworkPolicy](objects)); n != 1 {
		t.Errorf("%d network policies", n)
	}
	if n := len(all[*admissionv1.ValidatingAdmissionPolicyBinding](objects)); n != 4 {
		t.Errorf("%d admission policies", n)
	}
	d := only[*appsv1.Deployment](t, objects)
	container := d.Spec.Template.Spec.Containers[0]
	for _, want := range []string{
		"--node-image=diseq@" + digest, "--allowed-node-images=-", "--allowed-sidecar-images=-", "--watch-namespace=sequencing",
	} {
		if !slices.Contains(container.Args, want) {
			t.Errorf("the operator is started with %q, without %s", container.Args, want)
		}
	}
	if container.Image != "diseq-operator@"+digest || *d.Spec.Replicas != 2 || container.Resources.Limits.Memory().IsZero() {
		t.Errorf("%d replicas of %s with %v", *d.Spec.Replicas, container.Image, container.Resources)
	}
}

// TestOperatorsPodIsRestricted holds the pods to the strictest Pod Security standard, of the latest
// version, and to a file system that cannot be written.
func TestOperatorsPodIsRestricted(t *testing.T) {
	t.Parallel()
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := only[*appsv1.Deployment](t, render(t, values)).Spec.Template
			for _, result := range checks.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
			for _, container := range pod.Spec.Containers {
				if readOnly := container.SecurityContext.ReadOnlyRootFilesystem; readOnly == nil || !*readOnly {
					t.Errorf("container %s may write its file system", container.Name)
				}
			}
		})
	}
}

// TestSelectorsMeetTheOperatorsPod holds everything that selects the operator's pods to selecting
// them, also when labels are added that the chart has itself.
// A platform that assigns ids refuses others.
func TestTheOperatorsPodHasNoIdsIfThePlatformAssignsThem(t *testing.T) {
	t.Parallel()
	for values, ids := range map[string]bool{`{}`: true, `{ids: Fixed}`: true, `{ids: Platform}`: false} {
		pod := only[*appsv1.Deployment](t, render(t, values)).Spec.Template.Spec
		of, container := pod.SecurityContext, pod.Containers[0].SecurityContext
		if (of.RunAsUser != nil) != ids || (of.RunAsGroup != nil) != ids || (of.FSGroup != nil) != ids || container.RunAsUser != nil {
			t.Errorf("%s: %+v, %+v", values, of, container)
		}
	}
}

func TestSelectorsMeetTheOperatorsPod(t *testing.T) {
	t.Parallel()
	for _, values := range []string{
		`{networkPolicy: {enabled: true}, metrics: {serviceMonitor: {enabled: true}}}`,
		`{commonLabels: {app.kubernetes.io/name: other}, podLabels: {app.kubernetes.io/instance: other}}`,
	} {
		objects := render(t, values)
		pod := labels.Set(only[*appsv1.Deployment](t, objects).Spec.Template.Labels)
		meets := func(what string, selector *metav1.LabelSelector, set labels.Set) {
			t.Helper()
			s, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if s.Empty() || !s.Matches(set) {
				t.Errorf("%s selects %v, which is not %v", what, s, set)
			}
		}
		meets("Deployment", only[*appsv1.Deployment](t, objects).Spec.Selector, pod)
		service := only[*corev1.Service](t, objects)
		meets("Service", &metav1.LabelSelector{MatchLabels: service.Spec.Selector}, pod)
		for _, o := range all[*policyv1.PodDisruptionBudget](objects) {
			meets("PodDisruptionBudget", o.Spec.Selector, pod)
		}
		for _, o := range all[*networkingv1.NetworkPolicy](objects) {
			meets("NetworkPolicy", &o.Spec.PodSelector, pod)
		}
		for _, o := range all[*serviceMonitor](objects) {
			meets("ServiceMonitor", &o.Spec.Selector, service.Labels)
			if o.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name {
				t.Errorf("ServiceMonitor asks port %s, the Service has %s", o.Spec.Endpoints[0].Port, service.Spec.Ports[0].Name)
			}
		}
	}
}

// TestAlertsAreThoseOfConfig holds the PrometheusRules to config/prometheus/rules: braces of
// Prometheus' templates included. Without its metrics there are no alerts about the operator.
func TestAlertsAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	for values, want := range map[string][]string{
		`{}`: nil,
		`{metrics: {prometheusRules: {enabled: true, labels: {prometheus: main}}}}`:                 {"nodes", "operator"},
		`{metrics: {enabled: false, prometheusRules: {enabled: true, labels: {prometheus: main}}}}`: {"nodes"},
	} {
		var names []string
		for _, o := range all[*prometheusRule](render(t, values)) {
			name := strings.TrimPrefix(o.Name, release+"-")
			names = append(names, name)
			if o.Labels["prometheus"] != "main" {
				t.Errorf("%s: labels %v", values, o.Labels)
			}
			if config := read[map[string]any](t, "config/prometheus/rules/"+name+".yaml"); !reflect.DeepEqual(o.Spec, config) {
				t.Errorf("%s: the alerts %s differ from those of config; run: make generate", values, name)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%s: alerts %q, want %q", values, names, want)
		}
	}
}

// TestDashboardsAreThoseOfConfig holds the ConfigMaps to config/grafana: braces of Grafana's
// legends included. Without its metrics there is no dashboard about the operator.
func TestDashboardsAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	for values, want := range map[string][]string{
		`{}`: nil,
		`{metrics: {dashboards: {enabled: true}}}`:                 {"network", "node", "operator"},
		`{metrics: {enabled: false, dashboards: {enabled: true}}}`: {"network", "node"},
	} {
		var names []string
		for _, o := range all[*corev1.ConfigMap](render(t, values)) {
			name := strings.TrimPrefix(o.Name, release+"-dashboard-")
			names = append(names, name)
			if o.Labels["grafana_dashboard"] != "1" {
				t.Errorf("%s: labels %v: Grafana's sidecar does not find it", values, o.Labels)
			}
			config, err := os.ReadFile(filepath.Join(root, "config/grafana", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if file := "diseq-" + name + ".json"; len(o.Data) != 1 || strings.TrimSpace(o.Data[file]) != strings.TrimSpace(string(config)) {
				t.Errorf("%s: %s differs from that of config; run: make generate", values, file)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("%s: dashboards %q, want %q", values, names, want)
		}
	}
	own := `{metrics: {dashboards: {enabled: true, labels: {grafana_dashboard: null, mine: a}}}}`
	for _, o := range all[*corev1.ConfigMap](render(t, own)) {
		if _, ok := o.Labels["grafana_dashboard"]; ok || o.Labels["mine"] != "a" {
			t.Errorf("%s: labels %v", own, o.Labels)
		}
	}
}

// A metric of a network has labels of its own, namespace and name, which Prometheus would rename.
func TestTheLabelsOfNetworksStay(t *testing.T) {
	t.Parallel()
	if m := only[*serviceMonitor](t, render(t, `{metrics: {serviceMonitor: {enabled: true}}}`)); !m.Spec.Endpoints[0].HonorLabels {
		t.Error("the ServiceMonitor does not honor labels")
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ values, image, nodeImage string }{
		{`{}`, "diseq-operator:dev", "diseq:dev"},
		{`{image: {tag: a}, nodeImage: {tag: b}}`, "diseq-operator:a", "diseq:b"},
		{`{image: {repository: "h:5000/o"}, nodeImage: {repository: "h:5000/n"}}`, "h:5000/o:dev", "h:5000/n:dev"},
		{
			`{image: {tag: a, digest: "` + digest + `"}, nodeImage: {tag: b, digest: "` + digest + `"}}`,
			"diseq-operator@" + digest, "diseq@" + digest,
		},
	} {
		container := only[*appsv1.Deployment](t, render(t, c.values)).Spec.Template.Spec.Containers[0]
		if container.Image != c.image {
			t.Errorf("%s: image %s, want %s", c.values, container.Image, c.image)
		}
		if got := flag(container.Args, "node-image"); got != c.nodeImage {
			t.Errorf("%s: node image %s, want %s", c.values, got, c.nodeImage)
		}
	}
}

// flag returns the value of a flag, or "" without it.
func flag(args []string, name string) string {
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

func TestCRDIsThatOfConfig(t *testing.T) {
	t.Parallel()
	want := read[apiextensionsv1.CustomResourceDefinition](t, "config/crd/bases/diseq.io_diseqnetworks.yaml")
	for values, keep := range map[string]string{`{}`: "keep", `{crds: {keep: false}}`: ""} {
		got := only[*apiextensionsv1.CustomResourceDefinition](t, render(t, values))
		if got.Name != want.Name || !reflect.DeepEqual(got.Spec, want.Spec) {
			t.Errorf("%s: the CRD differs from that of config; run: make generate", values)
		}
		if policy := got.Annotations["helm.sh/resource-policy"]; policy != keep {
			t.Errorf("%s: resource policy %q, want %q", values, policy, keep)
		}
		for key, value := range want.Annotations {
			if got.Annotations[key] != value {
				t.Errorf("%s: annotation %s is %q, want %q", values, key, got.Annotations[key], value)
			}
		}
	}
	if crds := all[*apiextensionsv1.CustomResourceDefinition](render(t, `{crds: {install: false}}`)); len(crds) != 0 {
		t.Error("the CRD is there with crds.install=false")
	}
}

// TestNetworkPolicyLetsTheOperatorWork holds the policy to what the operator needs and no more.
func TestNetworkPolicyLetsTheOperatorWork(t *testing.T) {
	t.Parallel()
	ports := func(ports []networkingv1.NetworkPolicyPort) string {
		var s []string
		for _, p := range ports {
			s = append(s, fmt.Sprintf("%s/%s", *p.Protocol, p.Port))
		}
		return strings.Join(s, " ")
	}
	for _, c := range []struct{ values, apiServer, nodesIn, ingress string }{
		{`{networkPolicy: {enabled: true}}`, "TCP/443 TCP/6443", "", "TCP/metrics"},
		{narrowPolicy, "TCP/8443", "kubernetes.io/metadata.name in (team-a)", "TCP/metrics"},
		{`{networkPolicy: {enabled: true}, metrics: {enabled: false}}`, "TCP/443 TCP/6443", "", ""},
	} {
		spec := only[*networkingv1.NetworkPolicy](t, render(t, c.values)).Spec
		if !reflect.DeepEqual(spec.PolicyTypes, []networkingv1.PolicyType{"Ingress", "Egress"}) {
			t.Errorf("%s: policy types %v", c.values, spec.PolicyTypes)
		}
		if len(spec.Egress) != 3 {
			t.Fatalf("%s: %d rules for egress, want DNS, API server and nodes", c.values, len(spec.Egress))
		}
		for i, want := range []string{"UDP/53 TCP/53 UDP/5353 TCP/5353", c.apiServer, "TCP/9090"} {
			if got := ports(spec.Egress[i].Ports); got != want {
				t.Errorf("%s: egress %d to %s, want %s", c.values, i, got, want)
			}
		}
		nodes := spec.Egress[2].To
		if len(nodes) != 1 || nodes[0].PodSelector.MatchLabels["app.kubernetes.io/name"] != "diseq" {
			t.Errorf("%s: nodes are %v", c.values, nodes)
		} else if in, err := metav1.LabelSelectorAsSelector(nodes[0].NamespaceSelector); err != nil || in.String() != c.nodesIn {
			t.Errorf("%s: nodes in namespaces %q, want %q: %v", c.values, in, c.nodesIn, err)
		}
		got := ""
		for _, rule := range spec.Ingress {
			got += ports(rule.Ports)
			if len(rule.From) == 0 {
				t.Errorf("%s: ingress from the whole world", c.values)
			}
		}
		if got != c.ingress {
			t.Errorf("%s: ingress to %q, want %q", c.values, got, c.ingress)
		}
	}
}
