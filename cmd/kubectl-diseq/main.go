// Command kubectl-diseq is a plugin of kubectl: kubectl diseq. It shows a network in one screen,
// submits to it and reads from it through the API server, replaces and restarts validators, and
// collects a report without secrets.
//
// It talks to the API server alone, with the user's own rights, and reaches nodes through the
// server's port-forward. It listens on no port, and reads no Secret.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/diseq/diseq/internal/clientcmd"
	build "github.com/diseq/diseq/internal/version"
	"github.com/diseq/diseq/node/chain"
)

// version and commit are set by the build (make build).
var (
	version = build.Devel
	commit  string
)

// completeName is the name under which kubectl looks for the completions of the plugin: a link to
// the plugin itself.
const completeName = "kubectl_complete-diseq"

func main() {
	log.SetLogger(logr.Discard()) // the client library says nothing that a user needs
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := newApp()
	a.terminal = isatty.IsTerminal(os.Stdout.Fd())
	code := a.run(ctx, arguments(os.Args), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// arguments are those of the command. Under the name of completions they ask for completions.
func arguments(args []string) []string {
	if strings.TrimSuffix(filepath.Base(args[0]), ".exe") == completeName {
		return append([]string{cobra.ShellCompRequestCmd}, args[1:]...)
	}
	return args[1:]
}

// An app is the plugin with all that it uses.
type app struct {
	flags *genericclioptions.ConfigFlags
	// connect opens the cluster that the flags name.
	connect func() (*cluster, error)
	now     func() time.Time
	// every is the pause between two looks at what changes.
	every time.Duration
	// terminal says that the output is one, where a screen is drawn over the last one.
	terminal bool
}

func newApp() *app {
	a := &app{flags: genericclioptions.NewConfigFlags(true), now: time.Now, every: 2 * time.Second}
	a.connect = func() (*cluster, error) { return connect(a.flags) }
	return a
}

func (a *app) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return clientcmd.Run(ctx, a.root(), advice, args, stdin, stdout, stderr)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-diseq",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl diseq"},
		Short:         "See, use and repair DISEQ networks in a cluster",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		Example:       "  kubectl diseq status demo --watch\n  echo hello | kubectl diseq submit --wait -",
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	a.flags.AddFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", a.completeNamespaces) // the flag is there
	root.AddCommand(
		a.newStatus(), a.newSubmit(), a.newTail(), a.newReceipt(), a.newVerify(), a.newReplace(), a.newRestart(), a.newReport(), newVersion(),
	)
	return root
}

func newVersion() *cobra.Command {
	return clientcmd.NewVersion("kubectl-diseq", build.Of(version, commit), chain.ProtocolVersion)
}

// advice says what helps against an error; empty if nothing is known to.
func advice(_ *cobra.Command, err error) string {
	var stranger *strangerError
	switch {
	case errors.As(err, &stranger):
		return stranger.help
	case meta.IsNoMatchError(err):
		return "this cluster has no resource DiseqNetwork: install the operator, or choose another cluster with --context"
	case apierrors.IsForbidden(err):
		return "docs/kubectl.md lists the rights that each command needs"
	}
	return ""
}
