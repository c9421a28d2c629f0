package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/test/integration/harness"
)

func podMonitors() *apiextensionsv1.CustomResourceDefinition {
	open := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "podmonitors.monitoring.coreos.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: resources.MonitorKind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "podmonitors", Singular: "podmonitor", Kind: "PodMonitor", ListKind: "PodMonitorList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: resources.MonitorKind.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &open},
				},
			}},
		},
	}
}

// A cluster need not know PodMonitors; when it does, an operator makes them, and removes them when
// they are not wanted any more.
func TestAPodMonitorIsMadeWhereTheClusterKnowsThem(t *testing.T) {
	c := newCluster(t)
	c.apply("demo", withValidators(1))
	o := newOperator(t, c)
	o.settle("demo") // the kind is missing, and nothing is wrong

	crds := []*apiextensionsv1.CustomResourceDefinition{podMonitors()}
	if _, err := envtest.InstallCRDs(harness.Config(), envtest.CRDInstallOptions{CRDs: crds}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(harness.Config(), envtest.CRDInstallOptions{CRDs: crds}); err != nil {
			t.Error(err)
		}
	})
	get := func() error {
		monitor := &unstructured.Unstructured{}
		monitor.SetGroupVersionKind(resources.MonitorKind)
		return harness.Client(t).Get(context.Background(), client.ObjectKey{Namespace: c.namespace, Name: "demo"}, monitor)
	}
	eventually(t, "the kind to be served", func() bool { return apierrors.IsNotFound(get()) })

	// The kind has come while the operator was running: it looks at the network within 36 s.
	o.skip(30 * time.Second)
	o.reconcile("demo")
	if err := get(); err != nil {
		t.Fatalf("no PodMonitor within a minute: %v", err)
	}
	before := o.journal.count()
	o.reconcile("demo")
	if o.journal.count() != before {
		t.Errorf("it was written again: %v", o.journal.writes[before:])
	}
	off := false
	c.edit("demo", func(n *v1alpha1.DiseqNetwork) { n.Spec.Monitoring.Enabled = &off })
	o.settle("demo")
	if err := get(); !apierrors.IsNotFound(err) {
		t.Errorf("with monitoring off: %v", err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// await waits for what another goroutine closes.
func await(t *testing.T, what string, closed <-chan struct{}) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// patience bounds waits that are only used up when something is broken.
const patience = 2 * time.Minute

// Each network has its figures, which go when it goes.
func TestANetworkHasMetricsWhileItExists(t *testing.T) {
	c := newCluster(t)
	c.apply("demo")
	registry := prometheus.NewRegistry()
	o := newOperatorWith(t, c, nil, registry)
	o.settle("demo")
	o.reconcile("demo")
	want := map[string]float64{
		"diseq_network_validators": 4, "diseq_network_ready_validators": 4, "diseq_network_threshold": 3,
		"diseq_network_disruptions_allowed": 1, "diseq_network_available": 1, "diseq_network_height": 10,
		"diseq_network_pod_restarts_total": 0, "diseq_network_pod_replacements_total": 0,
		"diseq_network_set_generation": 0, "diseq_network_membership_changing": 0, "diseq_network_hibernated": 0,
		"diseq_network_targets_total": 0, "diseq_network_validators_stopped_total": 0,
	}
	got := figures(t, registry, c.namespace, "demo")
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, value)
		}
	}
	c.edit("demo", toImage("diseq:next"))
	o.settle("demo")
	if v := figures(t, registry, c.namespace, "demo")["diseq_network_pod_restarts_total"]; v != 4 {
		t.Errorf("%v restarts, want 4", v)
	}
	c.remove("demo")
	o.reconcile("demo")
	if left := figures(t, registry, c.namespace, "demo"); len(left) > 0 {
		t.Errorf("left of a network that is gone: %v", left)
	}
}

func figures(t *testing.T, registry *prometheus.Registry, namespace, name string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if strings.Join(labels, ",") != "name="+name+",namespace="+namespace {
				continue
			}
			values[f.GetName()] = m.GetGauge().GetValue()
			if f.GetType() == dto.MetricType_COUNTER {
				values[f.GetName()] = m.GetCounter().GetValue()
			}
		}
	}
	return values
}
