package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
)

// How long to wait until the next reconcile of a network, if no event comes before.
const (
	// changing is the wait while a network changes: nodes catch up without an event.
	changing = 2 * time.Second
	// refusedAgain is the wait while the API server refuses a write, or a person has to help.
	refusedAgain = 30 * time.Second
	// failedAgain is the wait after a reconcile that failed. It doubles with each one that fails
	// after that, up to refusedAgain.
	failedAgain = 100 * time.Millisecond
)

// Reconciler brings networks to the state that their resources ask for.
type Reconciler struct {
	// client reads from the cache, live from the API server.
	client   client.Client
	live     client.Reader
	mapper   meta.RESTMapper
	events   events.EventRecorder
	nodes    nodeclient.Client
	operator resources.Operator
	resync   time.Duration

	clock    func() time.Time
	metrics  *metrics
	keys     publicKeys
	monitors monitors
	memories memories
	unmade   unmadeKeys
	reports  reports
	absences absences
	// histories are the validator sets that were verified.
	histories histories
	former    formers
	// endings are networks whose namespaces are being deleted.
	endings  endings
	contests contests
	files    accessFiles
	issuer   clusterIssuer
	// show is memories.show; a test counts its calls.
	show func(types.NamespacedName, membership.Network, time.Time) membership.Shown
}

// New makes a Reconciler. c reads from a cache and live from the API server; live may be asked for
// Secrets, by name. o.Issuer must be there if networks want the cluster as an issuer.
func New(
	o Options, c client.Client, live client.Reader, mapper meta.RESTMapper, recorder events.EventRecorder,
) (*Reconciler, error) {
	metrics, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("metrics of networks: %w", err)
	}
	clock := o.Now
	if clock == nil {
		clock = time.Now
	}
	r := &Reconciler{
		client: c, live: newLive(live), mapper: mapper, events: recorder, nodes: o.Nodes, operator: o.Operator, resync: o.Resync,
		metrics: metrics, clock: clock, issuer: clusterIssuer{ask: o.Issuer},
	}
	r.show = r.memories.show
	return r, nil
}

// Reconcile brings one network a step nearer to the state that its resource asks for.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	network := &v1alpha1.DiseqNetwork{}
	err := r.client.Get(ctx, request.NamespacedName, network)
	if err == nil && isPart(network) {
		network = &v1alpha1.DiseqNetwork{}
		err = r.live.Get(ctx, request.NamespacedName, network)
	}
	if err != nil {
		if apierrors.IsNotFound(err) {
			r.drop(ctx, request.NamespacedName)
			return ctrl.Result{}, nil
		}
		err = fmt.Errorf("get network: %w", err)
		r.outcome(ctx, request.NamespacedName, nil, err)
		return ctrl.Result{}, err
	}
	if network.DeletionTimestamp != nil {
		// The garbage collector deletes the objects that the network owns. The operator has nothing
		// to wait for.
		r.drop(ctx, request.NamespacedName)
		return ctrl.Result{}, nil
	}
	if r.endings.has(request.NamespacedName, network.UID) {
		return ctrl.Result{}, nil
	}
	result, err := r.look(ctx, network)
	r.outcome(ctx, request.NamespacedName, network, err)
	return result, err
}

// look observes a network, and changes what has to be changed.
func (r *Reconciler) look(ctx context.Context, network *v1alpha1.DiseqNetwork) (ctrl.Result, error) {
	p := &pass{r: r, network: network, now: r.clock(), log: logOf(ctx)}
	err := p.observe(ctx)
	observed := p.look()
	pods := membership.PlanPods(observed)
	p.plan = membership.PlanSet(observed)
	p.takePlan()
	p.moving = pods.Action == membership.Restart || pods.Action == membership.Replace || pods.Action == membership.WaitForMember
	switch {
	case err != nil, network.Spec.Paused:
	case network.Spec.Hibernated:
		err = p.hibernate(ctx)
	default:
		err = p.act(ctx, pods)
	}
	return p.finish(ctx, pods, p.plan, err)
}

// drop removes the metrics and the memory of a deleted network.
func (r *Reconciler) drop(ctx context.Context, network types.NamespacedName) {
	if r.reports.drop(network) {
		logOf(ctx).Info("the network is deleted")
	}
	r.metrics.drop(network)
	r.memories.drop(network)
	r.unmade.drop(network)
	r.histories.drop(network)
	r.absences.drop(network)
	r.former.drop(network)
	r.endings.drop(network)
	r.contests.drop(network)
	r.files.drop(network)
}

// act changes the cluster, in the order in which a network is born: addresses, identities, the
// genesis document of all of them, and only then the pods. A change of the set takes the same way:
// the keys of newcomers, the disruption budget for both sets, the peers file with the target, the
// pods of newcomers. Members that have left are stopped at the end.
//
// A problem with one object stops nothing that does not concern it. Only the birth of a network
// waits for all names to be free: a network that has to be renamed then leaves no keys behind.
func (p *pass) act(ctx context.Context, pods membership.Decision) error {
	ran := p.network.Status.GenesisHash != ""
	if !ran && (p.blocked || p.genesis == nil && len(p.problems) > 0) {
		return nil
	}
	steps := []func(context.Context) error{
		p.applyAddresses,
		p.createKeys,
		p.createGenesis,
		p.recordVoteStores,
		p.applyBudget,
		p.applyPeers,
		p.applyAccess,
		p.applyAccounts,
		p.applyMembers,
		p.forgetRestarts,
		p.applyKeyMetadata,
		p.labelPods,
		func(ctx context.Context) error { return p.deletePods(ctx, pods) },
		p.stopMembers,
		p.tidy,
		p.applyMonitor,
	}
	if p.blocked {
		steps = []func(context.Context) error{p.applyAddresses, p.applyMonitor}
	}
	for _, do := range steps {
		err := do(ctx)
		if p.noted(err) != nil {
			return err
		}
		if p.genesis == nil && !p.blocked && (err != nil || slices.ContainsFunc(p.problems, isConflict)) {
			return nil
		}
	}
	return nil
}

func isConflict(problem *status.Problem) bool { return problem.Reason == status.NameConflict }

// conflicts says whether an error is the conflict about a name.
func conflicts(err error) bool {
	problem, ok := errors.AsType[*status.Problem](err)
	return ok && isConflict(problem)
}

// noted keeps a problem for the status; it returns any other error.
func (p *pass) noted(err error) error {
	problem, ok := errors.AsType[*status.Problem](err)
	if !ok {
		return err
	}
	p.note(problem)
	return nil
}

// note keeps a problem for the status, unless the same one was found before.
func (p *pass) note(problem *status.Problem) {
	if !slices.ContainsFunc(p.problems, func(found *status.Problem) bool { return *found == *problem }) {
		p.problems = append(p.problems, problem)
	}
}

// count counts a write in the metrics.
func (p *pass) count() { p.r.metrics.writes.WithLabelValues(p.network.Namespace, p.network.Name).Inc() }

func (p *pass) key() types.NamespacedName { return client.ObjectKeyFromObject(p.network) }

// jittered spreads networks that were made at the same time.
func jittered(d time.Duration) time.Duration { return d + time.Duration(rand.Int64N(int64(d)/5+1)) }
