// Command diseq is a DISEQ node, a local network of nodes, and the tools to use them: submit
// messages, read the chain, verify receipts and evidence offline, measure.
//
// It exits with 0 on success, 1 on failure and 2 when it was called wrongly. Errors are one line on
// the standard error.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	build "github.com/diseq/diseq/internal/version"
	"github.com/diseq/diseq/node/chain"
)

// version and commit are set by the build (make build).
var (
	version = build.Devel
	commit  string
)

func main() {
	if os.Args[0] == proverName {
		os.Exit(serveProof(os.Stdin, os.Stdout, os.Stderr))
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, stop := context.WithCancel(context.Background())
	go endOnSignals(signals, stop)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// echo is how long after a signal another one is taken for the same: timeout(1) sends it to the
// process and to its group.
const echo = 200 * time.Millisecond

// endOnSignals calls stop at the first SIGTERM or Ctrl-C, and ends the process at the next one: a
// node that drains is in nobody's way. That is safe at any moment, as a crash is.
func endOnSignals(signals <-chan os.Signal, stop func()) {
	<-signals
	first := time.Now()
	stop()
	for range signals {
		if time.Since(first) > echo {
			fmt.Fprintln(os.Stderr, "diseq: ended at once by a second signal")
			os.Exit(clientcmd.ExitFailure)
		}
	}
}

// run is main with everything that it uses given to it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return clientcmd.Run(ctx, newRoot(), advice, args, stdin, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "diseq",
		Short:         "A decentralised sequencer: messages go in, a certified total order comes out",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		Example:       "  diseq devnet --dir ./net\n  echo hello | diseq submit --wait -",
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		newNode(), newDevnet(), newInit(), newPublic(), newGenesis(), newInitNetwork(), newSubmit(), newGet(), newTail(), newVerify(),
		newCheckpoint(), newEvidence(), newTarget(), newDB(), newTop(), newContext(), newBench(), newVersion(),
	)
	return root
}

func newVersion() *cobra.Command {
	return clientcmd.NewVersion("diseq", build.Of(version, commit), chain.ProtocolVersion)
}
