package controllers

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
)

// Options are what an operator is started with.
type Options struct {
	// Operator describes the operator to the builders of objects: the default image of nodes, and
	// the operator's pods, which may reach the nodes.
	Operator resources.Operator
	// Concurrency is the number of networks that are reconciled at the same time.
	Concurrency int
	// Resync is the time between two reconciles of a network without events. Changes of its nodes'
	// answers make no event.
	Resync time.Duration
	// Nodes asks the nodes for their status.
	Nodes nodeclient.Client
	// Issuer asks for the issuer of the cluster's tokens. The API server of the manager if nil.
	Issuer AskIssuer
	// Now is the clock of observations; time.Now if nil. Requests, and waits between reconciles,
	// use package time.
	Now func() time.Time
	// Registerer registers the metrics of the networks.
	Registerer prometheus.Registerer
}

// Scheme has every kind that the operator reads or writes.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

// watched are the kinds of a network's objects that are cached and whose changes start a reconcile.
// Secrets are not among them.
func watched() []client.Object {
	return []client.Object{
		&appsv1.StatefulSet{}, &corev1.Pod{}, &corev1.PersistentVolumeClaim{}, &corev1.ConfigMap{}, &corev1.Service{},
		&corev1.ServiceAccount{}, &policyv1.PodDisruptionBudget{}, &networkingv1.NetworkPolicy{},
	}
}

// CacheOptions makes a cache of networks, and of the watched objects with the label of a network.
// Without namespaces the cache is for the whole cluster.
func CacheOptions(namespaces []string) cache.Options {
	exists, err := labels.Parse(resources.NetworkLabel)
	utilruntime.Must(err) // a constant
	shares := newShares()
	options := cache.Options{
		DefaultTransform: shares.keep,
		NewInformer:      newPages(shares.keep).informer,
		ByObject:         map[client.Object]cache.ByObject{},
	}
	for _, kind := range watched() {
		options.ByObject[kind] = cache.ByObject{Label: exists}
	}
	for _, namespace := range namespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options
}

// ClientOptions keep Secrets out of the cache. A cache lists and watches its kinds, and the
// operator has no right to list or watch Secrets.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}}
}

// Setup adds the controller to a manager whose cache and client were made with [CacheOptions] and
// [ClientOptions].
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Issuer == nil {
		ask, err := askIssuer(mgr.GetConfig())
		if err != nil {
			return err
		}
		o.Issuer = ask
	}
	r, err := New(o, mgr.GetClient(), mgr.GetAPIReader(), mgr.GetRESTMapper(), mgr.GetEventRecorder("diseq-operator"))
	if err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("diseqnetwork").
		// This controller writes the status itself, so a change of it starts no reconcile.
		For(&v1alpha1.DiseqNetwork{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.Concurrency,
			NewQueue:                newFairQueue(o.Concurrency),
			// The usual limit of a quarter of an hour would be the age of a status after an outage
			// of the API server.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](failedAgain, refusedAgain),
			// Tests run several managers in one process, each with its own registry of metrics.
			SkipNameValidation: new(true),
			LogConstructor:     func(request *reconcile.Request) logr.Logger { return logFor(mgr.GetLogger(), request) },
		})
	for _, kind := range watched() {
		// By label, not by owner: retained objects have no owner, and the owner of a pod is its
		// StatefulSet.
		b = b.Watches(kind, handler.EnqueueRequestsFromMapFunc(networkOf), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{}))
	}
	return b.Complete(r)
}

// networkOf names the network that an object belongs to by its label.
func networkOf(_ context.Context, object client.Object) []reconcile.Request {
	name := object.GetLabels()[resources.NetworkLabel]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}
