package resources

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// decided has every field of every kind that can change what runs, or who reaches it: "wanted" by
// the operator, "reverted" if somebody sets it, or "left" to others. A field that a new version of
// Kubernetes adds is missing here until somebody decides on it.
var decided = map[string]string{
	"metadata":                        "left",
	"metadata.ownerReferences":        "wanted",
	"status":                          "left",
	"ConfigMap.binaryData":            "reverted",
	"ConfigMap.data":                  "wanted",
	"ConfigMap.immutable":             "reverted",
	"Secret.data":                     "left",
	"Secret.immutable":                "left",
	"Secret.stringData":               "left",
	"Secret.type":                     "left",
	"ServiceAccount.secrets":          "left",
	"ServiceAccount.imagePullSecrets": "left",
	"ServiceAccount.automountServiceAccountToken": "wanted",

	"Service.spec.allocateLoadBalancerNodePorts": "left",
	"Service.spec.clusterIP":                     "left",
	"Service.spec.clusterIPs":                    "left",
	"Service.spec.externalIPs":                   "reverted",
	"Service.spec.externalName":                  "reverted",
	"Service.spec.externalTrafficPolicy":         "left",
	"Service.spec.healthCheckNodePort":           "left",
	"Service.spec.internalTrafficPolicy":         "left",
	"Service.spec.ipFamilies":                    "left",
	"Service.spec.ipFamilyPolicy":                "left",
	"Service.spec.loadBalancerClass":             "left",
	"Service.spec.loadBalancerIP":                "left",
	"Service.spec.loadBalancerSourceRanges":      "left",
	"Service.spec.ports":                         "wanted",
	"Service.spec.ports[].nodePort":              "left",
	"Service.spec.publishNotReadyAddresses":      "reverted",
	"Service.spec.selector":                      "wanted",
	"Service.spec.sessionAffinity":               "left",
	"Service.spec.sessionAffinityConfig":         "left",
	"Service.spec.trafficDistribution":           "left",
	"Service.spec.type":                          "wanted",

	"PersistentVolumeClaim.spec.accessModes":               "wanted",
	"PersistentVolumeClaim.spec.dataSource":                "left",
	"PersistentVolumeClaim.spec.dataSourceRef":             "left",
	"PersistentVolumeClaim.spec.resources":                 "wanted",
	"PersistentVolumeClaim.spec.selector":                  "left",
	"PersistentVolumeClaim.spec.storageClassName":          "left",
	"PersistentVolumeClaim.spec.volumeAttributesClassName": "left",
	"PersistentVolumeClaim.spec.volumeMode":                "wanted",
	"PersistentVolumeClaim.spec.volumeName":                "left",

	"PodDisruptionBudget.spec.maxUnavailable":             "reverted",
	"PodDisruptionBudget.spec.minAvailable":               "wanted",
	"PodDisruptionBudget.spec.selector":                   "wanted",
	"PodDisruptionBudget.spec.unhealthyPodEvictionPolicy": "wanted",

	"NetworkPolicy.spec.egress":      "wanted",
	"NetworkPolicy.spec.ingress":     "wanted",
	"NetworkPolicy.spec.podSelector": "wanted",
	"NetworkPolicy.spec.policyTypes": "wanted",

	"StatefulSet.spec.minReadySeconds":                      "reverted",
	"StatefulSet.spec.ordinals":                             "reverted",
	"StatefulSet.spec.persistentVolumeClaimRetentionPolicy": "reverted",
	"StatefulSet.spec.podManagementPolicy":                  "reverted",
	"StatefulSet.spec.replicas":                             "wanted",
	"StatefulSet.spec.revisionHistoryLimit":                 "wanted",
	"StatefulSet.spec.selector":                             "wanted",
	"StatefulSet.spec.serviceName":                          "wanted",
	"StatefulSet.spec.updateStrategy":                       "wanted",
	"StatefulSet.spec.volumeClaimTemplates":                 "reverted",

	"StatefulSet.spec.template.metadata.annotations":       "left",
	"StatefulSet.spec.template.metadata.creationTimestamp": "left",
	"StatefulSet.spec.template.metadata.name":              "left",
	"StatefulSet.spec.template.metadata":                   "reverted",
	"StatefulSet.spec.template.metadata.labels":            "wanted",
	"StatefulSet.spec.template.spec.activeDeadlineSeconds": "reverted",
	"StatefulSet.spec.template.spec.affinity":              "wanted",

	"StatefulSet.spec.template.spec.automountServiceAccountToken":  "wanted",
	"StatefulSet.spec.template.spec.dnsConfig":                     "reverted",
	"StatefulSet.spec.template.spec.dnsPolicy":                     "reverted",
	"StatefulSet.spec.template.spec.enableServiceLinks":            "wanted",
	"StatefulSet.spec.template.spec.evictionResponders":            "reverted",
	"StatefulSet.spec.template.spec.ephemeralContainers":           "reverted",
	"StatefulSet.spec.template.spec.hostAliases":                   "reverted",
	"StatefulSet.spec.template.spec.hostIPC":                       "reverted",
	"StatefulSet.spec.template.spec.hostNetwork":                   "reverted",
	"StatefulSet.spec.template.spec.hostPID":                       "reverted",
	"StatefulSet.spec.template.spec.hostUsers":                     "reverted",
	"StatefulSet.spec.template.spec.hostname":                      "reverted",
	"StatefulSet.spec.template.spec.hostnameOverride":              "reverted",
	"StatefulSet.spec.template.spec.imagePullSecrets":              "wanted",
	"StatefulSet.spec.template.spec.initContainers":                "reverted",
	"StatefulSet.spec.template.spec.nodeName":                      "reverted",
	"StatefulSet.spec.template.spec.nodeSelector":                  "wanted",
	"StatefulSet.spec.template.spec.os":                            "reverted",
	"StatefulSet.spec.template.spec.overhead":                      "reverted",
	"StatefulSet.spec.template.spec.preemptionPolicy":              "reverted",
	"StatefulSet.spec.template.spec.priority":                      "reverted",
	"StatefulSet.spec.template.spec.priorityClassName":             "wanted",
	"StatefulSet.spec.template.spec.readinessGates":                "reverted",
	"StatefulSet.spec.template.spec.resourceClaims":                "reverted",
	"StatefulSet.spec.template.spec.resources":                     "reverted",
	"StatefulSet.spec.template.spec.restartPolicy":                 "reverted",
	"StatefulSet.spec.template.spec.runtimeClassName":              "reverted",
	"StatefulSet.spec.template.spec.schedulerName":                 "reverted",
	"StatefulSet.spec.template.spec.schedulingGates":               "reverted",
	"StatefulSet.spec.template.spec.schedulingGroup":               "reverted",
	"StatefulSet.spec.template.spec.securityContext":               "wanted",
	"StatefulSet.spec.template.spec.serviceAccount":                "left",
	"StatefulSet.spec.template.spec.serviceAccountName":            "wanted",
	"StatefulSet.spec.template.spec.setHostnameAsFQDN":             "reverted",
	"StatefulSet.spec.template.spec.shareProcessNamespace":         "reverted",
	"StatefulSet.spec.template.spec.subdomain":                     "reverted",
	"StatefulSet.spec.template.spec.terminationGracePeriodSeconds": "wanted",
	"StatefulSet.spec.template.spec.tolerations":                   "wanted",
	"StatefulSet.spec.template.spec.topologySpreadConstraints":     "wanted",
	"StatefulSet.spec.template.spec.volumes":                       "wanted",

	"StatefulSet.spec.template.spec.containers[].args":                     "wanted",
	"StatefulSet.spec.template.spec.containers[].command":                  "reverted",
	"StatefulSet.spec.template.spec.containers[].env":                      "wanted",
	"StatefulSet.spec.template.spec.containers[].envFrom":                  "reverted",
	"StatefulSet.spec.template.spec.containers[].image":                    "wanted",
	"StatefulSet.spec.template.spec.containers[].imagePullPolicy":          "wanted",
	"StatefulSet.spec.template.spec.containers[].lifecycle":                "reverted",
	"StatefulSet.spec.template.spec.containers[].livenessProbe":            "wanted",
	"StatefulSet.spec.template.spec.containers[].name":                     "wanted",
	"StatefulSet.spec.template.spec.containers[].ports":                    "wanted",
	"StatefulSet.spec.template.spec.containers[].readinessProbe":           "wanted",
	"StatefulSet.spec.template.spec.containers[].resizePolicy":             "reverted",
	"StatefulSet.spec.template.spec.containers[].resources":                "wanted",
	"StatefulSet.spec.template.spec.containers[].restartPolicy":            "reverted",
	"StatefulSet.spec.template.spec.containers[].restartPolicyRules":       "reverted",
	"StatefulSet.spec.template.spec.containers[].securityContext":          "wanted",
	"StatefulSet.spec.template.spec.containers[].startupProbe":             "wanted",
	"StatefulSet.spec.template.spec.containers[].stdin":                    "reverted",
	"StatefulSet.spec.template.spec.containers[].stdinOnce":                "reverted",
	"StatefulSet.spec.template.spec.containers[].terminationMessagePath":   "reverted",
	"StatefulSet.spec.template.spec.containers[].terminationMessagePolicy": "reverted",
	"StatefulSet.spec.template.spec.containers[].tty":                      "reverted",
	"StatefulSet.spec.template.spec.containers[].volumeDevices":            "reverted",
	"StatefulSet.spec.template.spec.containers[].volumeMounts":             "wanted",
	"StatefulSet.spec.template.spec.containers[].workingDir":               "reverted",
}

// decision finds the decision on a field: the nearest entry at the field or above it.
func decision(kind, rule string) (verdict, by string) {
	for at := rule; at != ""; {
		for _, key := range []string{kind + "." + at, at} {
			if d, ok := decided[key]; ok {
				return d, key
			}
		}
		cut := strings.LastIndexAny(at, ".[")
		if cut < 0 {
			break
		}
		at = at[:cut]
	}
	return "", ""
}

// sample is a field that somebody may set, and a value for it.
type sample struct {
	rule  string
	value any
}

// samples are all fields of a type, each with a value other than the default.
func samples(of reflect.Type, rule string) []sample {
	special := map[reflect.Type]any{
		reflect.TypeFor[resource.Quantity](): "77", reflect.TypeFor[intstr.IntOrString](): 77.0, reflect.TypeFor[metav1.Time](): "2026-01-01T00:00:00Z",
		reflect.TypeFor[metav1.FieldsV1](): map[string]any{"f:x": map[string]any{}},
	}
	if value, ok := special[of]; ok {
		return []sample{{rule, value}}
	}
	switch of.Kind() {
	case reflect.Pointer:
		out := samples(of.Elem(), rule)
		if of.Elem().Kind() == reflect.Bool {
			out = append(out, sample{rule, false}) // not the same as none
		}
		return out
	case reflect.Struct:
		var out []sample
		for f := range of.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			at := strings.TrimPrefix(rule+"."+name, ".")
			if f.Anonymous && (name == "" || strings.Contains(options, "inline")) {
				at = rule
			}
			out = append(out, samples(f.Type, at)...)
		}
		return out
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Uint8 {
			return []sample{{rule, "eA=="}}
		}
		return samples(of.Elem(), rule+"[]")
	case reflect.Map:
		var out []sample
		for _, s := range samples(of.Elem(), rule) {
			out = append(out, sample{rule, map[string]any{"x": s.value}})
		}
		return out[:1]
	case reflect.Bool:
		return []sample{{rule, true}}
	case reflect.String:
		return []sample{{rule, "x"}}
	}
	return []sample{{rule, 77.0}}
}

// set sets a field in a tree, in the first element of lists, and returns the tree and the steps of
// managed fields to it. A list element is merged over the one that is there.
func set(tree any, rule string, value any) any {
	head, rest, _ := strings.Cut(rule, ".")
	name, isList := strings.CutSuffix(head, "[]")
	parent, _ := tree.(map[string]any)
	parent = maps.Clone(parent)
	if parent == nil {
		parent = map[string]any{}
	}
	put := func(old any) any {
		if rest != "" {
			return set(old, rest, value)
		}
		if add, ok := value.(map[string]any); ok {
			both := map[string]any{}
			old, _ := old.(map[string]any)
			maps.Copy(both, old)
			maps.Copy(both, add)
			return both
		}
		return value
	}
	if !isList {
		parent[name] = put(parent[name])
		return parent
	}
	list, _ := parent[name].([]any)
	if list = slices.Clone(list); len(list) == 0 {
		list = []any{nil}
	}
	list[0] = put(list[0])
	parent[name] = list
	return parent
}

// fieldsOf are the managed fields of a manager that wrote a tree.
func fieldsOf(tree any, field string) map[string]any {
	out := map[string]any{}
	switch tree := tree.(type) {
	case map[string]any:
		if field == "selector" || field == "nodeSelector" || field == "podSelector" {
			return out // one value
		}
		for name, value := range tree {
			out["f:"+name] = fieldsOf(value, name)
		}
	case []any:
		if keys := keysOf(field, tree); keys != nil {
			for _, element := range tree {
				_, step := keyOf(keys, element)
				fields := fieldsOf(element, "")
				fields["."] = map[string]any{}
				out[step] = fields
			}
		}
	}
	return out
}

func managed(t *testing.T, manager string, operation metav1.ManagedFieldsOperationType, fields map[string]any) metav1.ManagedFieldsEntry {
	t.Helper()
	raw := must[[]byte](t)(json.Marshal(fields))
	e := metav1.ManagedFieldsEntry{Manager: manager, Operation: operation, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{}}
	e.FieldsV1.SetRawBytes(raw)
	return e
}

// merge is a JSON merge patch.
func merge(tree, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := tree.(map[string]any)
	out := maps.Clone(old)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range changes {
		if value == nil {
			delete(out, key)
		} else {
			out[key] = merge(out[key], value)
		}
	}
	return out
}

// There is a decision about every field that somebody may set, and it is kept. A field that is
// left to others needs no write. Any other one is found, its owner is named, and the repair takes
// it out. The result of admission is taken as it is.
//
// Promise 79.
func TestEveryFieldOfEveryKindIsDecidedOn(t *testing.T) {
	kinds := map[string]reflect.Type{
		"ConfigMap": reflect.TypeFor[corev1.ConfigMap](), "Secret": reflect.TypeFor[corev1.Secret](),
		"ServiceAccount": reflect.TypeFor[corev1.ServiceAccount](), "Service": reflect.TypeFor[corev1.Service](),
		"PersistentVolumeClaim": reflect.TypeFor[corev1.PersistentVolumeClaim](), "StatefulSet": reflect.TypeFor[appsv1.StatefulSet](),
		"PodDisruptionBudget": reflect.TypeFor[policyv1.PodDisruptionBudget](), "NetworkPolicy": reflect.TypeFor[networkingv1.NetworkPolicy](),
	}
	network := variants()["full"]
	counted := map[string]int{}
	for _, o := range allObjects(t, network, newMembers(1)) {
		kind, ok := kinds[o.GetKind()]
		if !ok {
			continue
		}
		hash := o.GetAnnotations()[AppliedAnnotation]
		ours := fieldsOf(o.Object, "")
		for _, s := range samples(kind, "") {
			if s.rule == "kind" || s.rule == "apiVersion" || strings.HasPrefix(s.rule, "metadata.managedFields") {
				continue
			}
			verdict, by := decision(o.GetKind(), s.rule)
			if verdict == "" {
				t.Errorf("nobody has decided on %s %s: it is wanted, reverted or left to others", o.GetKind(), s.rule)
				continue
			}
			// Some fields of a container that nobody wants are enough.
			if counted[by+" "+o.String()]++; verdict == "reverted" && counted[by+" "+o.String()] > 5 {
				continue
			}
			counted[verdict]++
			tree := set(o.Object, s.rule, s.value)
			if reflect.DeepEqual(tree, o.Object) || isDefault(s.rule, s.value) {
				continue
			}
			if _, set, _ := unstructured.NestedString(o.Object, strings.Split(s.rule, ".")...); set {
				verdict = "wanted" // as the address of the headless Service
			}
			live := &unstructured.Unstructured{Object: tree.(map[string]any)}
			if live.GetAnnotations()[AppliedAnnotation] != hash || s.rule == "metadata.uid" || s.rule == "metadata.name" || s.rule == "metadata.namespace" {
				continue
			}
			for name, entries := range map[string][]metav1.ManagedFieldsEntry{
				"nobody's": nil,
				"another's": {
					managed(t, FieldOwner, metav1.ManagedFieldsOperationApply, keptFields(ours, o.Object, tree)),
					managed(t, "kubectl-edit", metav1.ManagedFieldsOperationUpdate, changedFields(o.Object, tree, "")),
				},
			} {
				raw, ok := copyOf(tree).(map[string]any)
				if !ok {
					t.Fatal("no tree")
				}
				live = &unstructured.Unstructured{Object: raw}
				live.SetResourceVersion("17")
				live.SetManagedFields(entries)
				drift := Compare(live, o.configuration)
				if got := drift.Current(); got != (verdict == "left") {
					t.Errorf("%v with %s %s=%v: current %v, but it is %s; %+v", o, name, s.rule, s.value, got, verdict, drift)
					continue
				}
				if name == "another's" && verdict != "left" && !strings.Contains(drift.String(), "kubectl-edit") {
					t.Errorf("%v with %s: nobody is named: %+v", o, s.rule, drift)
				}
				var patch any
				if err := json.Unmarshal(must[[]byte](t)(Repair(live, o.configuration)), &patch); err != nil {
					t.Fatal(err)
				}
				mended, _ := merge(live.Object, patch).(map[string]any)
				if after := Compare(&unstructured.Unstructured{Object: mended}, o.configuration); !after.Current() {
					t.Errorf("%v with %s: after the repair %v it is not current: %+v", o, s.rule, patch, after)
				}
			}
			// The operator's own write led to this.
			live = &unstructured.Unstructured{Object: copyOf(tree).(map[string]any)}
			live.SetManagedFields([]metav1.ManagedFieldsEntry{managed(t, FieldOwner, metav1.ManagedFieldsOperationApply, ours)})
			if drift := Compare(live, o.configuration); !drift.Current() || (len(drift.Rewritten) == 0) != (verdict == "left") {
				t.Errorf("%v with %s by admission: %+v", o, s.rule, drift)
			}
		}
	}
	wanted, reverted, left := counted["wanted"], counted["reverted"], counted["left"]
	t.Logf("%d fields that are wanted, %d that are reverted, %d that are left to others", wanted, reverted, left)
	if wanted < 500 || reverted < 100 || left < 100 {
		t.Error("too few fields were found")
	}
	for key := range decided {
		kind, _, _ := strings.Cut(key, ".")
		if _, ok := kinds[kind]; !ok && kind != "metadata" && kind != "status" {
			t.Errorf("%s: no such kind", key)
		}
	}
}

// copyOf copies a tree.
func copyOf(tree any) any {
	raw, err := json.Marshal(tree)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	return out
}

// changedFields are the managed fields of somebody who changed one tree, of a field, into another.
func changedFields(from, to any, field string) map[string]any {
	out := map[string]any{}
	if field == "selector" || field == "nodeSelector" || field == "podSelector" {
		return out
	}
	switch to := to.(type) {
	case map[string]any:
		from, _ := from.(map[string]any)
		for name, value := range to {
			if !reflect.DeepEqual(from[name], value) {
				out["f:"+name] = changedFields(from[name], value, name)
			}
		}
	case []any:
		from, _ := from.([]any)
		keys := keysOf(field, to)
		if keys == nil {
			return out
		}
		old := map[string]any{}
		for _, element := range from {
			_, step := keyOf(keys, element)
			old[step] = element
		}
		for _, element := range to {
			if _, step := keyOf(keys, element); !reflect.DeepEqual(old[step], element) {
				out[step] = changedFields(old[step], element, "")
			}
		}
	}
	return out
}

// keptFields are the operator's fields that did not change from one tree to another.
func keptFields(ours map[string]any, from, to any) map[string]any {
	lost := changedFields(from, to, "")
	var keep func(fields, lost map[string]any) map[string]any
	keep = func(fields, lost map[string]any) map[string]any {
		out := map[string]any{}
		for step, below := range fields {
			gone, ok := lost[step]
			if !ok {
				out[step] = below
				continue
			}
			a, _ := below.(map[string]any)
			b, _ := gone.(map[string]any)
			if len(a) > 0 && len(b) > 0 {
				if rest := keep(a, b); len(rest) > 0 {
					out[step] = rest
				}
			}
		}
		return out
	}
	return keep(ours, lost)
}
