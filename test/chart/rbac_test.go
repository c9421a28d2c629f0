package chart

import (
	"reflect"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// rights returns the rules that a ServiceAccount has by the rendered roles and bindings, by
// namespace; "" is the whole cluster. A binding to a role that is not rendered fails the test.
func rights(t *testing.T, values string) map[string][]rbacv1.PolicyRule {
	t.Helper()
	objects := render(t, values)
	account := only[*appsv1.Deployment](t, objects).Spec.Template.Spec.ServiceAccountName
	subject := rbacv1.Subject{Kind: "ServiceAccount", Name: account, Namespace: namespace}
	rules := map[rbacv1.RoleRef]map[string][]rbacv1.PolicyRule{}
	ref := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	for _, role := range all[*rbacv1.ClusterRole](objects) {
		rules[ref("ClusterRole", role.Name)] = map[string][]rbacv1.PolicyRule{"": role.Rules}
	}
	for _, role := range all[*rbacv1.Role](objects) {
		r := ref("Role", role.Name)
		if rules[r] == nil {
			rules[r] = map[string][]rbacv1.PolicyRule{}
		}
		rules[r][role.Namespace] = role.Rules
	}
	got := map[string][]rbacv1.PolicyRule{}
	bind := func(role rbacv1.RoleRef, in string, subjects []rbacv1.Subject) {
		if !reflect.DeepEqual(subjects, []rbacv1.Subject{subject}) {
			t.Errorf("%s in %q is bound to %v, want %v", role.Name, in, subjects, subject)
		}
		granted, ok := rules[role][in]
		if !ok {
			t.Fatalf("a binding in %q to the %s %s, which is not there", in, role.Kind, role.Name)
		}
		got[in] = append(got[in], granted...)
	}
	for _, b := range all[*rbacv1.ClusterRoleBinding](objects) {
		bind(b.RoleRef, "", b.Subjects)
	}
	for _, b := range all[*rbacv1.RoleBinding](objects) {
		bind(b.RoleRef, b.Namespace, b.Subjects)
	}
	return got
}

// TestRightsAreThoseOfConfig holds what the operator may do, and where, to the rules of
// config/rbac: those of the markers in controllers, and those of leader election and of guarding
// the metrics.
func TestRightsAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	operator := read[rbacv1.ClusterRole](t, "config/rbac/role.yaml").Rules
	election := read[rbacv1.Role](t, "config/rbac/leader_election_role.yaml").Rules
	auth := read[rbacv1.ClusterRole](t, "config/rbac/metrics_auth_role.yaml").Rules
	if len(operator) == 0 || len(election) == 0 || len(auth) == 0 {
		t.Fatal("config/rbac has a role without rules")
	}
	type where = map[string][]rbacv1.PolicyRule
	for values, want := range map[string]where{
		`{}`:                          {"": slices.Concat(operator, auth), namespace: election},
		`{fullnameOverride: other}`:   {"": slices.Concat(operator, auth), namespace: election},
		`{serviceAccount: {name: x}}`: {"": slices.Concat(operator, auth), namespace: election},
		`{metrics: {enabled: false}}`: {"": operator, namespace: election},
		`{rbac: {create: false}}`:     {},
		`{watchNamespaces: [a, b]}`:   {"": auth, namespace: election, "a": operator, "b": operator},
		confined:                      {namespace: election, "team-a": operator},
		`{watchNamespaces: [` + namespace + `], metrics: {enabled: false}}`: {namespace: slices.Concat(operator, election)},
	} {
		if got := rights(t, values); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: rights\n%v\nwant\n%v", values, got, want)
		}
	}
}

// TestConfinedMakesNothingOutsideOfNamespaces holds README.md's promise to who administers
// namespaces alone.
func TestConfinedMakesNothingOutsideOfNamespaces(t *testing.T) {
	t.Parallel()
	for _, object := range render(t, confined) {
		if in := object.GetNamespace(); in != namespace && in != "team-a" {
			t.Errorf("%T %s is in namespace %q", object, object.GetName(), in)
		}
	}
}

// TestUserRolesAreThoseOfConfig holds the roles for people to config/rbac, with the labels by which
// they are part of the cluster's own admin, edit and view.
func TestUserRolesAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	roles := map[string]*rbacv1.ClusterRole{}
	for _, role := range all[*rbacv1.ClusterRole](render(t, `{}`)) {
		roles[role.Name] = role
	}
	for file, c := range map[string]struct{ name, aggregate string }{
		"diseqnetwork_admin_role.yaml":  {"diseq-operator-diseqnetwork-admin", "admin"},
		"diseqnetwork_editor_role.yaml": {"diseq-operator-diseqnetwork-editor", "edit"},
		"diseqnetwork_viewer_role.yaml": {"diseq-operator-diseqnetwork-viewer", "view"},
		"metrics_reader_role.yaml":      {"diseq-operator-metrics-reader", ""},
	} {
		want := read[rbacv1.ClusterRole](t, "config/rbac/"+file)
		got := roles[c.name]
		if got == nil {
			t.Errorf("there is no ClusterRole %s", c.name)
			continue
		}
		if len(want.Rules) == 0 || !reflect.DeepEqual(got.Rules, want.Rules) {
			t.Errorf("%s: rules %v, want those of %s: %v", c.name, got.Rules, file, want.Rules)
		}
		if c.aggregate != "" && got.Labels["rbac.authorization.k8s.io/aggregate-to-"+c.aggregate] != "true" {
			t.Errorf("%s is not part of the cluster's %s: %v", c.name, c.aggregate, got.Labels)
		}
	}
}
