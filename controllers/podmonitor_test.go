package controllers

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
)

// discovery is a cluster that may know PodMonitors.
type discovery struct {
	meta.RESTMapper
	knows   bool
	lookups int
}

func (d *discovery) RESTMapping(kind schema.GroupKind, _ ...string) (*meta.RESTMapping, error) {
	d.lookups++
	if !d.knows {
		return nil, &meta.NoKindMatchError{GroupKind: kind}
	}
	return &meta.RESTMapping{GroupVersionKind: resources.MonitorKind, Scope: meta.RESTScopeNamespace}, nil
}

// Each network has its PodMonitor within a minute after the cluster knows the kind. Until then the
// operator asks for the kind a few times a minute, however many networks it runs.
func TestPodMonitorsAreMadeWithinAMinuteAfterTheirKind(t *testing.T) {
	const networks, sinceBefore = 10, 10 * time.Minute
	kinds := &discovery{}
	made := map[string]time.Duration{}
	var installed, now time.Time
	now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c := fake.NewClientBuilder().WithScheme(Scheme()).WithInterceptorFuncs(interceptor.Funcs{
		Apply: func(_ context.Context, _ client.WithWatch, wanted runtime.ApplyConfiguration, _ ...client.ApplyOption) error {
			object, ok := wanted.(interface{ GetName() string })
			if !ok {
				return fmt.Errorf("%T has no name", wanted)
			}
			if _, before := made[object.GetName()]; !before {
				made[object.GetName()] = now.Sub(installed)
			}
			return nil
		},
	}).Build()
	r, err := New(Options{Resync: 10 * time.Second}, c, c, kinds, events.NewFakeRecorder(0))
	if err != nil {
		t.Fatal(err)
	}
	// Each network is reconciled as rarely as the operator ever does: after a refused write.
	look := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			for i := range networks {
				now = now.Add(refusedAgain * 6 / 5 / networks)
				name := fmt.Sprintf("demo%d", i)
				p := &pass{r: r, now: now, network: &v1alpha1.DiseqNetwork{
					ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}}}
				if err := p.applyMonitor(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	look(sinceBefore)
	if most := int(sinceBefore/probeInterval) + 1; kinds.lookups > most || kinds.lookups == 0 {
		t.Errorf("%d requests for the kind in %v, want at most %d", kinds.lookups, sinceBefore, most)
	}
	installed, kinds.knows = now, true
	look(2 * time.Minute)
	if len(made) != networks {
		t.Errorf("%d PodMonitors for %d networks", len(made), networks)
	}
	for name, after := range made {
		if after > time.Minute {
			t.Errorf("the PodMonitor of %s is made after %v", name, after)
		}
	}
}
