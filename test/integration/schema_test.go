package integration

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/test/integration/harness"
)

const crdFile = "config/crd/bases/diseq.io_diseqnetworks.yaml"

// schemaOf returns the schema of the one version, and the whole definition.
func schemaOf(t *testing.T) (*apiextensionsv1.CustomResourceDefinition, apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	text, err := os.ReadFile(harness.Path(t, crdFile))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		t.Fatal(err)
	}
	if len(crd.Spec.Versions) != 1 {
		t.Fatalf("%d versions, want 1", len(crd.Spec.Versions))
	}
	return crd, *crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// walk visits every field below path, parents first.
func walk(path string, schema apiextensionsv1.JSONSchemaProps, visit func(path string, schema apiextensionsv1.JSONSchemaProps)) {
	visit(path, schema)
	for name, p := range schema.Properties {
		walk(path+"."+name, p, visit)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		walk(path+"[]", *schema.Items.Schema, visit)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		walk(path+"{}", *schema.AdditionalProperties.Schema, visit)
	}
}

// ofKubernetes are the fields whose insides are types of Kubernetes.
var ofKubernetes = []string{
	".spec.imagePullSecrets[]", ".spec.podTemplate.affinity", ".spec.podTemplate.tolerations", ".spec.podTemplate.resources.",
	".spec.podTemplate.topologySpreadConstraints", ".status.conditions[]", ".spec.access.networks[].namespaceSelector.",
	".spec.tracing.networks[].namespaceSelector.", ".spec.tracing.networks[].podSelector.",
	".spec.access.networks[].podSelector.", ".spec.networkPolicy.dns[].namespaceSelector.", ".spec.networkPolicy.dns[].podSelector.",
}

func ours(path string) bool {
	return !slices.ContainsFunc(ofKubernetes, func(prefix string) bool { return strings.HasPrefix(path, prefix) && path != prefix })
}

func TestEveryFieldIsDescribed(t *testing.T) {
	_, schema := schemaOf(t)
	seen := 0
	walk("", schema, func(path string, s apiextensionsv1.JSONSchemaProps) {
		if path == "" || path == ".metadata" || strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "{}") || !ours(path) {
			return
		}
		seen++
		if len(s.Description) < 10 {
			t.Errorf("%s is described as %q", path, s.Description)
		}
	})
	if seen < 50 {
		t.Errorf("saw %d fields of ours: is the walk right?", seen)
	}
}

func TestEveryFieldOfTheSpecSaysItsDefaultAndSizesTheirUnit(t *testing.T) {
	_, schema := schemaOf(t)
	walk(".spec", schema.Properties["spec"], func(path string, s apiextensionsv1.JSONSchemaProps) {
		if !ours(path) || strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "{}") {
			return
		}
		text := strings.Join(strings.Fields(s.Description), " ")
		parent := s.Type == "object" && s.Properties != nil && path != ".spec.podTemplate.resources"
		if !parent && !strings.Contains(strings.ToLower(text), "if left out") && !strings.Contains(text, "No default") {
			t.Errorf("%s does not say what holds if it is left out: %q", path, text)
		}
		if s.XIntOrString && !strings.HasSuffix(path, ".port") && !strings.Contains(text, "bytes") {
			t.Errorf("%s is a quantity and does not say of what: %q", path, text)
		}
		if s.Maximum != nil && path != ".spec.threshold.value" && !regexp.MustCompile(`\d+ to \d+`).MatchString(text) {
			t.Errorf("%s does not say its range: %q", path, text)
		}
		if s.Default == nil {
			return
		}
		if value := strings.Trim(string(s.Default.Raw), `"`); !parent && path != ".spec.podTemplate.resources" && value != "" &&
			!strings.Contains(strings.ToLower(text), strings.ToLower(value)+" if left out") {
			t.Errorf("%s has the default %s and says: %q", path, value, text)
		}
	})
}

// A default of an object replaces that of its fields where the object is absent, so that two could
// contradict each other.
func TestNoDefaultContradictsAnother(t *testing.T) {
	_, schema := schemaOf(t)
	walk(".spec", schema.Properties["spec"], func(path string, s apiextensionsv1.JSONSchemaProps) {
		if s.Default == nil || s.Type != "object" {
			return
		}
		var given map[string]any
		if err := yaml.Unmarshal(s.Default.Raw, &given); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for field, value := range given {
			inner := s.Properties[field].Default
			if inner == nil {
				continue
			}
			var want any
			if err := yaml.Unmarshal(inner.Raw, &want); err != nil {
				t.Fatalf("%s.%s: %v", path, field, err)
			}
			if want != value {
				t.Errorf("%s has the default %s = %v, the field itself %v", path, field, value, want)
			}
		}
	})
}

// `kubectl apply` without --server-side keeps the whole object in an annotation, of at most 256 KiB
// with all others.
func TestTheDefinitionFitsInTheAnnotationOfKubectlApply(t *testing.T) {
	text, err := os.ReadFile(harness.Path(t, crdFile))
	if err != nil {
		t.Fatal(err)
	}
	json, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(json) > 200<<10 {
		t.Errorf("%d bytes, want at most 200 KiB", len(json))
	}
}

func TestKubectlExplainsOurFields(t *testing.T) {
	for field, want := range map[string]string{
		"spec":                            "maxBytes",
		"spec.consensus.minBlockInterval": "20ms if left out",
		"spec.consensus.synchrony":        "Off if left out",
		"spec.consensus.synchrony.delta":  "10ms to 1m",
		"spec.storage.size":               "10Gi if left out",
		"spec.podTemplate.affinity":       "nodeAffinity",
		"spec.podTemplate.containers":     "livenessProbe",
		"spec.service.nodePort":           "1 to 65535",
		"status.tolerance.byzantine":      "2t - n - 1",
	} {
		out, err := harness.Kubectl(t, "explain", "dsq."+field, "--recursive")
		if err != nil || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%s: want %q in:\n%s%v", field, want, out, err)
		}
	}
}

func TestKubectlGetShowsTheNetwork(t *testing.T) {
	k := harness.Client(t)
	u := written(t, harness.Namespace(t), "demo", "validators: 7")
	if err := k.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	n := typed(t, u)
	// Flux would call a network that no operator has seen Current if it had no such field.
	if n.Status.ObservedGeneration != -1 || n.Generation != 1 {
		t.Errorf("a new network has generation %d, observed %d", n.Generation, n.Status.ObservedGeneration)
	}
	n.Status = v1alpha1.DiseqNetworkStatus{
		ObservedGeneration: 1, LastObserved: &metav1.Time{Time: time.Now()},
		FailureDomains: &v1alpha1.FailureDomains{Machines: &v1alpha1.FailureDomain{InUse: 4, MayFail: 1}},
		Validators:     4, ReadyValidators: 3, Threshold: 3, Height: 1234, Change: "newcomers 1/3",
		Tolerance:      &v1alpha1.Tolerance{Crash: 1, Byzantine: 1, ByzantineWithSynchrony: 2},
		SynchronyDelta: &metav1.Duration{Duration: 100 * time.Millisecond},
	}
	meta.SetStatusCondition(&n.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: "QuorumReady"})
	meta.SetStatusCondition(&n.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionDegraded, Status: metav1.ConditionTrue, Reason: "OneOfThem"})
	meta.SetStatusCondition(&n.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "MostSerious"})
	if err := k.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		arguments    []string
		header, line string
	}{
		{nil, "NAME WANTED VALIDATORS THRESHOLD READY HEIGHT TOLERATES AVAILABLE CHANGE AGE", `^demo 7 4 3 3 1234 1 True newcomers 1/3 \d+s$`},
		{[]string{"-o", "wide"}, "NAME WANTED VALIDATORS THRESHOLD READY HEIGHT TOLERATES AVAILABLE CHANGE REASON DEGRADED MACHINES OBSERVED SYNCHRONY AGE",
			`^demo 7 4 3 3 1234 1 True newcomers 1/3 MostSerious OneOfThem 1 \d+s 100ms \d+s$`},
	} {
		out, err := harness.Kubectl(t, append([]string{"get", "dsq", "--namespace", n.Namespace}, c.arguments...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil || len(lines) != 2 {
			t.Fatalf("%q, %v", out, err)
		}
		if header := strings.Join(strings.Fields(lines[0]), " "); header != c.header {
			t.Errorf("columns %s, want %s", header, c.header)
		}
		if line := strings.Join(strings.Fields(lines[1]), " "); !regexp.MustCompile(c.line).MatchString(line) {
			t.Errorf("line %s, want %s", line, c.line)
		}
	}
	// None is a number as well.
	n.Status.ReadyValidators, n.Status.Height, n.Status.Change = 0, 0, ""
	if err := k.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	out, err := harness.Kubectl(t, "get", "dsq", "--no-headers", "--namespace", n.Namespace)
	if line := strings.Join(strings.Fields(out), " "); err != nil || !regexp.MustCompile(`^demo 7 4 3 0 0 1 True \d+s$`).MatchString(line) {
		t.Errorf("with no validator ready at height 0: %s, %v", line, err)
	}
	// `kubectl delete all --all` must not delete a chain.
	if out, err := harness.Kubectl(t, "get", "all", "--namespace", n.Namespace); err != nil || strings.Contains(out, "diseqnetwork") {
		t.Errorf("kubectl get all: %q, %v", out, err)
	}
}

func TestTheInstalledDefinitionIsEstablishedWithoutComplaint(t *testing.T) {
	crd, _ := schemaOf(t)
	s := harness.Scheme()
	if err := apiextensionsv1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	k, err := client.New(harness.Config(), client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
		t.Fatal(err)
	}
	for _, c := range crd.Status.Conditions {
		good := apiextensionsv1.ConditionTrue
		if c.Type == apiextensionsv1.NonStructuralSchema || c.Type == apiextensionsv1.Terminating {
			good = apiextensionsv1.ConditionFalse
		}
		if c.Status != good {
			t.Errorf("%s is %s: %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
}
