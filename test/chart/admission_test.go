package chart

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestPoliciesAreThoseOfConfig holds the admission policies to those of config/admission, with the
// values in their variables. That they do what they say is for test/integration.
//
// Promise 89.
func TestPoliciesAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values, user string
		// variables are those of the policies that the values change.
		variables  map[string]string
		namespaces []string
	}{
		{`{}`, "diseq-operator", nil, nil},
		{`{fullnameOverride: other}`, "other", nil, nil},
		{`{serviceAccount: {name: mine}}`, "mine", nil, nil},
		{`{watchNamespaces: [a, b]}`, "diseq-operator", nil, []string{"a", "b"}},
		{`{nodeImage: {repository: "r.example:5000/diseq"}, allowed: {annotations: [team, a.b/*], podLabels: ["*"]}, admissionPolicies: {trusted: [me]}}`, "diseq-operator", map[string]string{
			"nodeImages": `"^(?:r\\.example:5000/diseq(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[a-z0-9]+:[0-9a-f]+)?)$"`, "sidecarImages": `"^(?:r\\.example:5000/diseq(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@[a-z0-9]+:[0-9a-f]+)?)$"`,
			"annotations": `["team","a.b/*"]`, "podLabels": `["*"]`, "trusted": `["me"]`,
		}, nil},
		{`{allowed: {nodeImages: 'a\.b/"c":.*', sidecarImages: ".*"}}`, "diseq-operator", map[string]string{
			"nodeImages": `"^(?:a\\.b/\"c\":.*)$"`, "sidecarImages": `"^(?:.*)$"`,
		}, nil},
	} {
		objects := render(t, c.values)
		name := "diseq-operator"
		if strings.Contains(c.values, "fullnameOverride") {
			name = "other"
		}
		bindings := map[string]admissionv1.ValidatingAdmissionPolicyBindingSpec{}
		for _, b := range all[*admissionv1.ValidatingAdmissionPolicyBinding](objects) {
			bindings[b.Name] = b.Spec
		}
		policies := all[*admissionv1.ValidatingAdmissionPolicy](objects)
		files, err := filepath.Glob(root + "/config/admission/*_policy.yaml")
		if err != nil || len(files) == 0 || len(policies) != len(files) || len(bindings) != len(files) {
			t.Fatalf("%s: %d policies and %d bindings of %d files: %v", c.values, len(policies), len(bindings), len(files), err)
		}
		for _, file := range files {
			of := name + "-" + strings.TrimSuffix(filepath.Base(file), "_policy.yaml")
			want := policyOf(t, file, c.user)
			for i, v := range want.Variables {
				switch given, ok := c.variables[v.Name]; {
				case ok:
					want.Variables[i].Expression = given
				case v.Name == "nodeImages", v.Name == "sidecarImages": // in the other kind of quotes
					want.Variables[i].Expression = `"` + strings.Trim(v.Expression, `'`) + `"`
				}
			}
			i := slices.IndexFunc(policies, func(p *admissionv1.ValidatingAdmissionPolicy) bool { return p.Name == of })
			if i < 0 {
				t.Errorf("%s: there is no policy %s", c.values, of)
				continue
			}
			if !reflect.DeepEqual(policies[i].Spec, want) {
				t.Errorf("%s: policy %s is\n%v\nwant\n%v", c.values, of, policies[i].Spec, want)
			}
			bound := admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: of, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}
			if c.namespaces != nil && !strings.HasSuffix(of, "-operator") {
				bound.MatchResources = &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
					MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpIn, Values: c.namespaces}},
				}}
			}
			if !reflect.DeepEqual(bindings[of], bound) {
				t.Errorf("%s: binding %s is %v, want %v", c.values, of, bindings[of], bound)
			}
		}
	}
	if policies := all[*admissionv1.ValidatingAdmissionPolicy](render(t, `{admissionPolicies: {enabled: false}}`)); len(policies) > 0 {
		t.Errorf("%d policies that nobody wants", len(policies))
	}
	old, stderr, err := template(t, chart, "--kube-version", "1.29.0")
	if err != nil || strings.Contains(old, "ValidatingAdmissionPolicy") {
		t.Errorf("Kubernetes 1.29 gets a kind that it does not have: %v %s", err, stderr)
	}
}

// policyOf is a policy of config/admission for an operator of another name.
func policyOf(t *testing.T, file, user string) admissionv1.ValidatingAdmissionPolicySpec {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var policy admissionv1.ValidatingAdmissionPolicy
	own := strings.ReplaceAll(string(text), "system:serviceaccount:diseq-system:diseq-operator", "system:serviceaccount:"+namespace+":"+user)
	if err := yaml.UnmarshalStrict([]byte(own), &policy); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return policy.Spec
}
