package main

import (
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
)

// completeNetworks completes the name of a network of the namespace. Without an answer of the
// cluster there are no completions.
func (a *app) completeNetworks(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	networks := a.networks(cmd)
	out := make([]cobra.Completion, 0, len(networks))
	for _, n := range networks {
		out = append(out, n.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeNetwork is completeNetworks for a command with one argument.
func (a *app) completeNetwork(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeNetworks(cmd, args, prefix)
}

// completeValidators completes names of validators that can still leave.
func (a *app) completeValidators(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	for _, n := range a.networks(cmd) {
		for _, m := range n.Status.Members {
			if m.Phase != v1alpha1.MemberRetired && !slices.Contains(args, m.Name) {
				out = append(out, cobra.CompletionWithDesc(m.Name, string(m.Phase)))
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) networks(cmd *cobra.Command) []v1alpha1.DiseqNetwork {
	k, err := a.connect()
	if err != nil {
		return nil
	}
	var all v1alpha1.DiseqNetworkList
	if err := k.List(cmd.Context(), &all, ctrl.InNamespace(k.namespace)); err != nil {
		return nil
	}
	return all.Items
}

func (a *app) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	k, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all metav1.PartialObjectMetadataList
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := k.List(cmd.Context(), &all); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for i := range all.Items {
		out = append(out, all.Items[i].Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
