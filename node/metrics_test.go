package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/diseq/diseq/hack/metricslist"
	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
)

var update = flag.Bool("update", false, "write testdata/metrics.json anew")

// An alert on increase() misses the first event of a series that is born with it.
func TestSeriesAreThereBeforeTheirFirstEvent(t *testing.T) {
	n := newTestNetwork(t, 4, 3).open(0)
	families, err := n.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"diseq_evidence_total": "E2", "diseq_votes_withheld_total": voter.ReasonClock, "diseq_rejected_total": verify.KindVote,
		"diseq_peer_rejected_total": "malformed", "diseq_catchup_faults_total": catchup.FaultSlow, "diseq_mempool_refused_batches_total": "signature",
		"diseq_mempool_rejected_requests_total": "full", "diseq_vrf_commitments_total": "missed",
	} {
		found := false
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					found = found || f.GetName() == name && l.GetValue() == want
				}
			}
		}
		if !found {
			t.Errorf("no series %s of %s", name, want)
		}
	}
}

// The time of the chain is shown as the chain has it: the node's own clock may be the one that is
// wrong.
func TestTheTimeOfTheLastBlockIsShown(t *testing.T) {
	n := newTestNetwork(t, 4, 3).open(0)
	families, err := n.metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "diseq_block_timestamp_seconds" {
			if got, want := f.GetMetric()[0].GetGauge().GetValue(), float64(n.genesis.TimeMS)/1000; got != want {
				t.Errorf("the last block is of %v, want %v", got, want)
			}
			return
		}
	}
	t.Error("no such metric")
}

// The list of a whole node that serves clients over TLS, on a chain with the synchrony wait: it has
// every metric.
func TestMetricsFollowConventionsAndAreListed(t *testing.T) {
	net := newSynchronousNetwork(t, 4, 3)
	net.configs[0].TLS = selfSigned(t)
	n := net.open(0)
	ctx, stop := context.WithCancel(context.Background())
	group, working := errgroup.WithContext(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.run(ctx, working, stop, group) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	net.eventually("the node answers", func() bool {
		r, err := http.Get("http://" + net.configs[0].Listen.Operations + "/livez")
		return err == nil && r.Body.Close() == nil
	})
	metricslist.Check(t, n.metrics.Registry, "testdata/metrics.json", *update)
}

func selfSigned(t *testing.T) *access.TLS {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := &access.TLS{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	if err := errors.Join(
		os.WriteFile(files.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600),
		os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return files
}
