package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// cluster runs all tests, with the operator installed.
var cluster *Cluster

func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func prepare() (err error) {
	log.SetLogger(logr.Discard()) // drops the messages of the watches themselves
	if cluster, err = Connect(); err != nil {
		return err
	}
	begun := time.Now()
	if err := InstallOperator(context.Background()); err != nil {
		return err
	}
	fmt.Printf("%6.1fs the operator is installed with its chart\n", time.Since(begun).Seconds())
	return nil
}
