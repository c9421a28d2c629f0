package controllers

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/controllers/resources"
)

// probeInterval is how often the operator checks whether the cluster knows PodMonitors by now, and
// whether the PodMonitor of each network is as it should be. It does not watch the kind: a watch on
// an unknown kind fails for ever, and removing a watched kind breaks the cache. While the kind is
// unknown, a check is one request for the whole operator; then it is one for each network. With the
// longest wait between two reconciles a PodMonitor is there a minute after its kind.
const probeInterval = 20 * time.Second

// monitors remembers when the API server was last asked about PodMonitors.
type monitors struct {
	mu sync.Mutex
	// absent is when the cluster last did not know the kind.
	absent time.Time
	// checked is when a network's PodMonitor was last seen to be right, and for which generation of
	// the network.
	checked map[types.UID]checked
}

type checked struct {
	at         time.Time
	generation int64
}

func (m *monitors) due(uid types.UID, generation int64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.checked[uid]
	return now.Sub(m.absent) >= probeInterval && (!ok || last.generation != generation || now.Sub(last.at) >= probeInterval)
}

func (m *monitors) done(uid types.UID, generation int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.checked == nil {
		m.checked = map[types.UID]checked{}
	}
	m.checked[uid] = checked{now, generation}
}

func (m *monitors) missing(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.absent = now
}

// applyMonitor makes or deletes the PodMonitor, if the cluster knows that kind.
func (p *pass) applyMonitor(ctx context.Context) error {
	if !p.r.monitors.due(p.network.UID, p.network.Generation, p.now) {
		return nil
	}
	kind := resources.MonitorKind
	if _, err := p.r.mapper.RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
		p.r.monitors.missing(p.now)
		return nil
	} else if err != nil { // no network depends on it
		p.remark("kind "+kind.Kind, "cannot look up a kind, and the network has no PodMonitor until that works",
			"kind", kind.Kind, "err", err.Error())
		p.r.monitors.missing(p.now)
		return nil
	}
	wanted := resources.PodMonitor(p.network)
	live, err := p.getLive(ctx, wanted)
	if meta.IsNoMatchError(err) { // the mapper still has a kind that was removed
		p.r.monitors.missing(p.now)
		return nil
	}
	switch {
	case err != nil:
		return err
	case resources.Monitored(p.network):
		_, err = p.apply(ctx, wanted, live, ofAnyVersion)
	case live != nil && p.foreign(live) == "":
		p.count()
		uid := live.GetUID()
		err = client.IgnoreNotFound(refused(p.r.client.Delete(ctx, live, client.Preconditions{UID: &uid}), "delete", kind.Kind, live.GetName()))
	}
	if apierrors.IsNotFound(err) { // the kind was removed in between
		p.r.monitors.missing(p.now)
		return nil
	}
	if err == nil {
		p.r.monitors.done(p.network.UID, p.network.Generation, p.now)
	}
	return p.noted(err)
}
