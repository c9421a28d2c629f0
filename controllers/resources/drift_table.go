package resources

import (
	"reflect"
	"slices"
	"strings"
)

// table has the fields of a kind that are left to others, by path without keys, each with all that
// is below it. Every other field that the operator does not set is removed if somebody sets it,
// unless the value is the API server's default.
type table []string

// leaves says whether a field is left to others.
func (t table) leaves(rule string) bool {
	return slices.ContainsFunc(t, func(left string) bool { return isWithin(rule, left) })
}

// divides says whether parts of a field are left to others.
func (t table) divides(rule string) bool {
	return slices.ContainsFunc(t, func(left string) bool { return left != rule && isWithin(left, rule) })
}

// isWithin says whether a path is another one or below it.
func isWithin(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// everywhere are the fields of all kinds that are left to others. Labels and annotations select
// nothing by themselves, finalizers delay a deletion, and the API server keeps the rest. Owner
// references are not among them: an object goes when its last owner goes.
func everywhere(more ...string) table {
	return append(table{
		"metadata.annotations", "metadata.creationTimestamp", "metadata.deletionGracePeriodSeconds", "metadata.deletionTimestamp",
		"metadata.finalizers", "metadata.generateName", "metadata.generation", "metadata.labels", "metadata.managedFields", "metadata.name",
		"metadata.namespace", "metadata.resourceVersion", "metadata.selfLink", "metadata.uid", "status", "kind", "apiVersion",
	}, more...)
}

// leftTo has the table of each kind.
var leftTo = map[string]table{
	"ConfigMap":           everywhere(),
	"NetworkPolicy":       everywhere(),
	"PodDisruptionBudget": everywhere(),
	"PodMonitor":          everywhere(),
	// Addresses are allocated, and how traffic gets to the pods that the selector names is the
	// user's and the cloud's: address families, session affinity, traffic policies, node ports, the
	// settings and restrictions of a load balancer.
	"Service": everywhere(
		"spec.allocateLoadBalancerNodePorts", "spec.clusterIP", "spec.clusterIPs", "spec.externalTrafficPolicy", "spec.healthCheckNodePort",
		"spec.internalTrafficPolicy", "spec.ipFamilies", "spec.ipFamilyPolicy", "spec.loadBalancerClass", "spec.loadBalancerIP",
		"spec.loadBalancerSourceRanges", "spec.ports[].nodePort", "spec.sessionAffinity", "spec.sessionAffinityConfig",
		"spec.trafficDistribution"),
	// Clusters add secrets of their own to every account.
	"ServiceAccount": everywhere("imagePullSecrets", "secrets"),
	// The operator reads the keys, and they are immutable.
	"Secret": everywhere("data", "immutable", "stringData", "type"),
	// The volume that a claim is bound to, where its content came from, and its performance.
	"PersistentVolumeClaim": everywhere("spec.dataSource", "spec.dataSourceRef", "spec.selector", "spec.storageClassName",
		"spec.volumeAttributesClassName", "spec.volumeName"),
	// `kubectl rollout restart` sets an annotation of the template. serviceAccount is a copy of
	// serviceAccountName.
	"StatefulSet": everywhere("spec.template.metadata.annotations", "spec.template.metadata.creationTimestamp", "spec.template.metadata.name",
		"spec.template.spec.serviceAccount"),
}

// alwaysRestored are fields that admission must not rewrite: the operator decides by them whether
// to write.
var alwaysRestored = map[string]bool{"metadata.annotations." + AppliedAnnotation: true}

// defaults are the values that the API server gives to fields that nobody set, by the end of the
// path.
var defaults = map[string][]any{
	"protocol":                      {"TCP"},
	"spec.type":                     {"ClusterIP"},
	"spec.podManagementPolicy":      {"OrderedReady"},
	"spec.minReadySeconds":          {0.0},
	"whenDeleted":                   {"Retain"},
	"whenScaled":                    {"Retain"},
	"spec.publishNotReadyAddresses": {false},
	// of pods
	"spec.restartPolicy":       {"Always"},
	"spec.dnsPolicy":           {"ClusterFirst"},
	"spec.schedulerName":       {"default-scheduler"},
	"spec.hostNetwork":         {false},
	"spec.hostPID":             {false},
	"spec.hostIPC":             {false},
	"spec.setHostnameAsFQDN":   {false},
	"shareProcessNamespace":    {false},
	"terminationMessagePath":   {"/dev/termination-log"},
	"terminationMessagePolicy": {"File"},
	"defaultMode":              {420.0},
	"volumeMode":               {"Filesystem"},
	"imagePullPolicy":          {"Always", "IfNotPresent"}, // by the tag of the image
	"httpGet.path":             {"/"},
	"grpc.service":             {""},
	"optional":                 {false},
	"readOnly":                 {false},
	"recursiveReadOnly":        {"Disabled"},
	"fieldRef.apiVersion":      {"v1"},
	"divisor":                  {"0"},
	"expirationSeconds":        {3600.0},
	"scheme":                   {"HTTP"},
	"successThreshold":         {1.0},
	"failureThreshold":         {3.0},
	"periodSeconds":            {10.0},
	"timeoutSeconds":           {1.0},
	"initialDelaySeconds":      {0.0},
	"nodeAffinityPolicy":       {"Honor"},
	"nodeTaintsPolicy":         {"Ignore"},
}

// isDefault says whether a value is the API server's default: of the field, or of every part of it.
func isDefault(rule string, value any) bool {
	for end, values := range defaults {
		if !strings.HasSuffix("."+rule, "."+end) {
			continue
		}
		if slices.ContainsFunc(values, func(one any) bool { return reflect.DeepEqual(one, value) }) {
			return true
		}
	}
	parts, ok := value.(map[string]any)
	if !ok || len(parts) == 0 {
		return false
	}
	for name, part := range parts {
		if !isEmpty(part) && !isDefault(rule+"."+name, part) {
			return false
		}
	}
	return true
}
