package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/internal/clientcmd"
)

// clear moves the cursor of a terminal to the top and clears what is below.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

func (a *app) newStatus() *cobra.Command {
	var watch bool
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "status [NETWORK]",
		Short: "Show a network in one screen",
		Long: `Show a network as the operator saw it last: which validators vote, which are behind and why, and how many may fail. Then come the
work of the operator, or what it waits for, and all that is wrong.

The operator damps what it shows: a trouble stays for a minute after its end. docs/operations.md has each reason and what to do.

In JSON and YAML it is the resource, as kubectl get prints it, and the workers of the pods. With --watch each change is a line of JSON, or
a document of YAML.`,
		Example: "  kubectl diseq status\n  kubectl diseq status demo --watch\n" +
			"  kubectl diseq status demo -o json | jq .network.status.height",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.connect()
			if err != nil {
				return err
			}
			network, err := k.network(cmd.Context(), append(args, "")[0])
			if err != nil {
				return err
			}
			if !watch {
				return a.show(cmd, form, k, network)
			}
			return a.watch(cmd, form, k, network)
		},
	}
	form.Register(cmd, cmd.Flags(), clientcmd.Table)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
	return cmd
}

// workers are the workers of the pods of a network; none without the right to list pods.
func workers(ctx context.Context, k *cluster, network *v1alpha1.DiseqNetwork) map[string]string {
	pods, err := k.pods(ctx, network)
	if err != nil {
		return map[string]string{}
	}
	return workersOf(pods)
}

// screenOf draws a network.
func (a *app) screenOf(ctx context.Context, k *cluster, network *v1alpha1.DiseqNetwork) string {
	return screen(network, workers(ctx, k, network), a.now())
}

// A shown is a network as programs read it.
type shown struct {
	Network *v1alpha1.DiseqNetwork `json:"network"`
	// Workers are those of the pods, by the validator.
	Workers map[string]string `json:"workers"`
}

func shownOf(ctx context.Context, k *cluster, network *v1alpha1.DiseqNetwork) shown {
	network = network.DeepCopy()
	network.ManagedFields = nil
	network.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DiseqNetwork"))
	return shown{network, workers(ctx, k, network)}
}

// show prints a network once.
func (a *app) show(cmd *cobra.Command, form clientcmd.Output, k *cluster, network *v1alpha1.DiseqNetwork) error {
	if form == clientcmd.Table {
		_, err := io.WriteString(cmd.OutOrStdout(), a.screenOf(cmd.Context(), k, network))
		return err
	}
	return form.Print(cmd.OutOrStdout(), shownOf(cmd.Context(), k, network), nil)
}

// workersOf are the workers of pods, by the name of the validator.
func workersOf(pods map[string]*corev1.Pod) map[string]string {
	out := map[string]string{}
	for validator, pod := range pods {
		out[validator] = pod.Spec.NodeName
	}
	return out
}

// showNext prints a network that was printed before, over the last screen of a terminal.
func (a *app) showNext(cmd *cobra.Command, form clientcmd.Output, over bool, k *cluster, network *v1alpha1.DiseqNetwork) error {
	if form != clientcmd.Table {
		return form.PrintNext(cmd.OutOrStdout(), shownOf(cmd.Context(), k, network))
	}
	text := a.screenOf(cmd.Context(), k, network)
	if over {
		text = clearScreen + text
	} else {
		text += "\n"
	}
	_, err := io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// watch draws a network again and again. On a terminal each screen takes the place of the last one;
// else there is a new one when the resource has changed.
func (a *app) watch(cmd *cobra.Command, form clientcmd.Output, k *cluster, network *v1alpha1.DiseqNetwork) error {
	printed := ""
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		if over := a.terminal && form == clientcmd.Table; over || network.ResourceVersion != printed {
			if err := a.showNext(cmd, form, over, k, network); err != nil {
				return err
			}
		}
		printed = network.ResourceVersion
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil
		}
		if err := k.refresh(cmd.Context(), network); err != nil {
			if cmd.Context().Err() != nil {
				return nil
			}
			return fmt.Errorf("network %s: %w", network.Name, err)
		}
	}
}
