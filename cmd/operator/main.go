// Command operator turns every DiseqNetwork in the cluster, or in some of its namespaces, into a
// running network, and keeps it running.
//
// It exits with 0 after a signal to stop, 1 on failure and 2 on wrong flags. The log goes to the
// standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/diseq/diseq/internal/memory"
	build "github.com/diseq/diseq/internal/version"
)

// version and commit are set by the build.
var (
	version = build.Devel
	commit  string
)

const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr, start)
	stop()
	os.Exit(code)
}

// run is main with its inputs and outputs as arguments; it calls start with valid options.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, start func(context.Context, options) error) int {
	o := defaults()
	root := &cobra.Command{
		Use:   "diseq-operator",
		Short: "Turns every DiseqNetwork into a running network",
		Long: `Turns every DiseqNetwork in the cluster, or in the namespaces of --watch-namespace, into a running network, and keeps it running.

With --leader-elect several operators may run at a time: one of them works, the others wait. The operator serves its metrics over TLS to
clients that the API server allows to read /metrics (a nonResourceURL). It serves the health probes /healthz and /readyz over plain HTTP
to everybody. Under a memory limit of its container the garbage collector keeps it below nine tenths of that; the environment variable
GOMEMLIMIT overrides it.`,
		Example:       "  diseq-operator --leader-elect --watch-namespace=sequencing --node-image=registry.example/diseq:1.0.0",
		Version:       build.Of(version, commit).String(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	running := false
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.validate(); err != nil {
			return err
		}
		running = true
		log := logr.FromSlogHandler(o.handler(stderr))
		ctrl.SetLogger(log)
		klog.SetLogger(log)
		// Save memory rather than processor time: there are few reconciles, and each makes little
		// garbage.
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(50)
		}
		if _, err := memory.Limit(cmd.Context()); err != nil {
			log.Error(err, "the memory limit cannot be read: the garbage collector works as without one")
		}
		log.Info("starting", "version", build.Of(version, commit).String(), "nodeImage", o.nodeImage,
			"namespaces", strings.Join(o.namespaces, ","))
		return start(cmd.Context(), o)
	}
	o.register(root.Flags())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil, running && errors.Is(err, context.Canceled):
		return 0
	case running:
		fmt.Fprintf(stderr, "diseq-operator: %v\n", err)
		return exitFailure
	}
	fmt.Fprintf(stderr, "diseq-operator: %v (see diseq-operator --help)\n", err)
	return exitUsage
}
