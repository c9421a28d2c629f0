package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/diseq/diseq/controllers"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
)

const (
	certificateFile = "tls.crt"
	keyFile         = "tls.key"
	leaseName       = "diseq-operator"
)

// Times of the leader election. An operator that is killed keeps its lease for leaseDuration. The
// others look at the lease every 2 to 4.4 s (retryPeriod and its jitter), so that one of them works
// within 25 s. An operator that cannot renew its lease exits after renewDeadline, before another
// one can hold it.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// ownLabels are the labels of the operator's own pods, from its Deployment. Network policies admit
// pods with these labels.
var ownLabels = map[string]string{"app.kubernetes.io/name": "diseq-operator"}

// namespaceFile holds the name of a pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// start runs the operator until ctx ends.
func start(ctx context.Context, o options) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	allowed, err := o.allowed()
	if err != nil {
		return err
	}
	err = controllers.Setup(mgr, controllers.Options{
		Operator:    resources.Operator{NodeImage: o.nodeImage, Namespace: ownNamespace(), PodLabels: ownLabels, Allowed: allowed},
		Concurrency: o.concurrency,
		Resync:      o.resync,
		Nodes:       nodeclient.NewHTTP(0),
		Registerer:  metrics.Registry,
	})
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	return mgr.Start(ctx)
}

func newManager(config *rest.Config, o options) (ctrl.Manager, error) {
	// A new network makes a burst of some hundred writes. Beyond that, the API server's own
	// fairness applies.
	config.QPS, config.Burst = 50, 200
	timeout := 8 * time.Second // less than the grace period of the Deployment's pods
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 controllers.Scheme(),
		Cache:                  controllers.CacheOptions(o.namespaces),
		Client:                 controllers.ClientOptions(),
		Metrics:                metricsOptions(o),
		HealthProbeBindAddress: o.probeAddress,
		LeaderElection:         o.leaderElect,
		LeaderElectionID:       leaseName,
		// Release the lease at the end, so that another operator need not wait until it expires.
		// The process ends right after.
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
		LeaderElectionNamespace:       o.leaderNamespace,
		GracefulShutdownTimeout:       &timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	// The operator is ready when its cache is filled, also while it waits to become the leader.
	return mgr, mgr.AddReadyzCheck("cache", func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the cache is not filled yet")
		}
		return nil
	})
}

func metricsOptions(o options) metricsserver.Options {
	m := metricsserver.Options{BindAddress: o.metricsAddress}
	if o.metricsInsecure {
		return m
	}
	m.SecureServing = true
	m.FilterProvider = filters.WithAuthenticationAndAuthorization
	m.CertDir, m.CertName, m.KeyName = o.metricsCertificates, certificateFile, keyFile
	m.TLSOpts = []func(*tls.Config){func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		c.NextProtos = []string{"http/1.1"} // nothing here needs the other version's attack surface
	}}
	return m
}

// ownNamespace is the namespace of the operator's pod; empty outside a cluster.
func ownNamespace() string {
	raw, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
