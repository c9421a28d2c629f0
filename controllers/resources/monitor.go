package resources

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/diseq/diseq/api/v1alpha1"
)

// MonitorKind is the kind of a PodMonitor, which a cluster knows if the Prometheus operator is
// installed.
var MonitorKind = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "PodMonitor"}

// Monitored says whether a network should have a PodMonitor.
func Monitored(network *v1alpha1.DiseqNetwork) bool {
	enabled := network.Spec.Monitoring.Enabled
	return enabled == nil || *enabled
}

// PodMonitor tells Prometheus to read the metrics of a network's pods, and to show network and
// validator with them.
func PodMonitor(network *v1alpha1.DiseqNetwork) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{
			"ownerReferences": []any{map[string]any{
				"apiVersion": v1alpha1.GroupVersion.String(), "kind": "DiseqNetwork", nameField: network.Name, "uid": string(network.UID),
				"controller": true, "blockOwnerDeletion": true,
			}},
		},
		"spec": map[string]any{
			"selector":            map[string]any{"matchLabels": map[string]any{NetworkLabel: network.Name}},
			"podTargetLabels":     []any{NetworkLabel, ValidatorLabel},
			"podMetricsEndpoints": []any{map[string]any{"port": OperationsPortName, "path": "/metrics"}},
		},
	}}
	out.SetGroupVersionKind(MonitorKind)
	out.SetName(MonitorName(network.Name))
	out.SetNamespace(network.Namespace)
	out.SetLabels(networkLabels(network.Name))
	out.SetAnnotations(map[string]string{AppliedAnnotation: Hash(out)})
	return out
}
