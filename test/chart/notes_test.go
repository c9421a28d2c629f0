package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/api/v1alpha1"
)

// notes returns what Helm prints after an installation. Helm renders notes only where it reaches a
// cluster; a template that includes them, in a copy of the chart, does without.
func notes(t *testing.T, values string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "chart")
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	const including = "templates/notes.yaml"
	object := []byte(`kind: ConfigMap
data:
  notes: {{ include (print .Template.BasePath "/NOTES.txt") . | quote }}
`)
	if err := os.WriteFile(filepath.Join(dir, including), object, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := template(t, dir, "--show-only", including, "--values", valuesFile(t, values))
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr)
	}
	var rendered corev1.ConfigMap
	if err := yaml.Unmarshal([]byte(stdout), &rendered); err != nil || rendered.Data["notes"] == "" {
		t.Fatalf("no notes: %v\n%s", err, stdout)
	}
	return rendered.Data["notes"]
}

// TestNotesNameWhatIsThere holds the commands that are printed after an installation to the
// objects, resources and commands that exist.
func TestNotesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	for values, in := range map[string]string{`{}`: "default", `{fullnameOverride: other, watchNamespaces: [team-a, team-b]}`: "team-a"} {
		text := notes(t, values)
		deployment := only[*appsv1.Deployment](t, render(t, values))
		for _, want := range []string{
			"kubectl --namespace " + namespace + " rollout status deployment/" + deployment.Name + "\n",
			"kubectl --namespace " + in + " apply -f -\n",
			"Nodes run " + flag(deployment.Spec.Template.Spec.Containers[0].Args, "node-image"),
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the notes lack %q:\n%s", values, want, text)
			}
		}
		manifest := regexp.MustCompile(`echo '(\{.*\})' \|\n`).FindStringSubmatch(text)
		if manifest == nil {
			t.Fatalf("%s: the notes apply nothing:\n%s", values, text)
		}
		var network v1alpha1.DiseqNetwork
		if err := yaml.UnmarshalStrict([]byte(manifest[1]), &network); err != nil {
			t.Fatalf("%s: %v", manifest[1], err)
		}
		if got := network.GroupVersionKind(); got != v1alpha1.GroupVersion.WithKind("DiseqNetwork") {
			t.Errorf("the notes apply a %v", got)
		}
		for _, want := range []string{
			"--for=condition=" + v1alpha1.ConditionAvailable + " dsq/" + network.Name + " ",
			"port-forward service/" + network.Name + " 18080:8080\n",
			"diseq submit --url http://127.0.0.1:18080 --wait -\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the notes lack %q:\n%s", values, want, text)
			}
		}
	}
}

func TestNotesWarn(t *testing.T) {
	t.Parallel()
	const nothing = "rbac.create is|crds.keep is|crds.install is|admissionPolicies"
	for values, want := range map[string]string{
		`{rbac: {create: false}}`:               "ServiceAccount " + namespace + "/" + release,
		`{crds: {keep: false}}`:                 "every DiseqNetwork",
		`{admissionPolicies: {enabled: false}}`: "No admission policy holds the operator's account",
		`{crds: {install: false}}`:              "install the CRD diseqnetworks.diseq.io of this version yourself",
	} {
		if text := notes(t, values); !strings.Contains(text, want) {
			t.Errorf("%s: the notes lack %q:\n%s", values, want, text)
		}
	}
	if text := notes(t, `{}`); regexp.MustCompile(nothing).MatchString(text) {
		t.Errorf("the notes warn of the defaults:\n%s", text)
	}
}

// TestReadmeConfinesAsTested holds README.md's flags to the values that these tests take for them.
func TestReadmeConfinesAsTested(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(chart + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	flags := "--set 'watchNamespaces={team-a}' --set crds.install=false --set metrics.enabled=false --set rbac.userRoles=false " +
		"--set admissionPolicies.enabled=false"
	if !strings.Contains(strings.ReplaceAll(string(readme), "\\\n      ", ""), flags) {
		t.Fatalf("README.md lacks %s", flags)
	}
	byFlags, stderr, err := template(t, chart, strings.Fields(strings.ReplaceAll(flags, "'", ""))...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	byValues, stderr, err := template(t, chart, "--values", valuesFile(t, confined))
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if byFlags != byValues {
		t.Errorf("README.md's flags render otherwise than %s", confined)
	}
}
