package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/diseq/diseq/api/v1alpha1"
)

// clear moves the cursor of a terminal to the top and clears what is below.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

func (a *app) newStatus() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [NETWORK]",
		Short: "Show a network in one screen",
		Long: `Show a network as the operator saw it last: which validators vote, which are behind and why, and how many may fail. Then come the
work of the operator, or what it waits for, and all that is wrong.

The operator damps what it shows: a trouble stays for a minute after its end. docs/operations.md has each reason and what to do.`,
		Example:           "  kubectl diseq status\n  kubectl diseq status demo --watch",
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
				_, err = io.WriteString(cmd.OutOrStdout(), a.screenOf(cmd.Context(), k, network))
				return err
			}
			return a.watch(cmd, k, network)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
	return cmd
}

// screenOf draws a network. Without the right to list pods the screen has no workers.
func (a *app) screenOf(ctx context.Context, k *cluster, network *v1alpha1.DiseqNetwork) string {
	workers := map[string]string{}
	if pods, err := k.pods(ctx, network); err == nil {
		workers = workersOf(pods)
	}
	return screen(network, workers, a.now())
}

// workersOf are the workers of pods, by the name of the validator.
func workersOf(pods map[string]*corev1.Pod) map[string]string {
	out := map[string]string{}
	for validator, pod := range pods {
		out[validator] = pod.Spec.NodeName
	}
	return out
}

// watch draws a network again and again. On a terminal each screen takes the place of the last one;
// else there is a new one when the resource has changed.
func (a *app) watch(cmd *cobra.Command, k *cluster, network *v1alpha1.DiseqNetwork) error {
	shown := ""
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		text := ""
		switch {
		case a.terminal:
			text = clearScreen + a.screenOf(cmd.Context(), k, network)
		case network.ResourceVersion != shown:
			text = a.screenOf(cmd.Context(), k, network) + "\n"
		}
		shown = network.ResourceVersion
		if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
			return err
		}
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
