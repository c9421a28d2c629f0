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

// What the operator's own pods are known by: the labels in its Deployment, which network policies
// let in.
var ownLabels = map[string]string{"app.kubernetes.io/name": "diseq-operator"}

// namespaceFile is where a pod finds the name of its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// start runs the operator until ctx ends.
func start(ctx context.Context, o options) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("no cluster: %w", err)
	}
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	err = controllers.Setup(mgr, controllers.Options{
		Operator:    resources.Operator{NodeImage: o.nodeImage, Namespace: ownNamespace(), PodLabels: ownLabels},
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
	// A burst is a network that is born: some hundred writes. The API server has its own fairness
	// beyond that.
	config.QPS, config.Burst = 50, 200
	timeout := 8 * time.Second // below what a Deployment gives a pod to end
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 controllers.Scheme(),
		Cache:                  controllers.CacheOptions(o.namespaces),
		Client:                 controllers.ClientOptions(),
		Metrics:                metricsOptions(o),
		HealthProbeBindAddress: o.probeAddress,
		LeaderElection:         o.leaderElect,
		LeaderElectionID:       leaseName,
		// Given up on the way out, so that another one need not wait for the lease to expire. The
		// process ends right after.
		LeaderElectionReleaseOnCancel: true,
		LeaderElectionNamespace:       o.leaderNamespace,
		GracefulShutdownTimeout:       &timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	// Ready when the API server has been read; one that waits to be the leader is ready as well.
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

// ownNamespace is that of the operator's pod; empty outside a cluster.
func ownNamespace() string {
	raw, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
