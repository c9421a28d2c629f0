package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/controllers/status"
	"github.com/diseq/diseq/internal/clientcmd"
)

// owner is the manager of the fields that the plugin writes.
const owner = "kubectl-diseq"

// waiting are the flags of commands that ask the operator for something.
type waiting struct {
	wait    bool
	timeout time.Duration
}

func (w *waiting) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", true, "wait until it is done, and say what is waited for")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 15*time.Minute, "how long to wait; what was asked for goes on after that")
}

// until looks again and again until something is done, and prints what it waits for whenever that
// changes.
func (w *waiting) until(
	ctx context.Context, a *app, out io.Writer, look func(ctx context.Context) (done bool, waitsFor string, err error),
) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	last := ""
	for {
		done, text, err := look(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && done:
			return nil
		case err == nil && text != last:
			last = text
			if _, err := fmt.Fprintln(out, "waiting: "+text); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not done within %v, and still asked for; the operator waits: %s", w.timeout, last)
			}
			return errors.New("interrupted; what was asked for goes on: kubectl diseq status shows it")
		}
	}
}

func (a *app) newReplace() *cobra.Command {
	var w waiting
	var force bool
	cmd := &cobra.Command{
		Use:   "replace VALIDATOR...",
		Short: "Let new validators take the places of some",
		Long: `Name validators in spec.retire of their network: another one with a new key takes the place of each, by one change of the set.
This is for a machine that is gone for good, or a key that may be stolen. A validator that comes back by itself is better waited for.

The command refuses if fewer validators vote than must sign, because the set cannot change then. --force asks all the same. A name that has
left never comes back, and its volume is kept unless the spec says otherwise.

If a tool such as Argo CD or Flux writes the resource, write spec.retire there: it would take this edit back.`,
		Example:           "  kubectl diseq replace demo-v2\n  kubectl diseq replace demo-v1 demo-v3 --wait=false",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeValidators,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.connect()
			if err != nil {
				return err
			}
			network, err := k.networkOfAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := mayReplace(network, args, force); err != nil {
				return err
			}
			before := memberNames(network)
			if err := k.retire(cmd.Context(), network, args); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			all := strings.Join(args, ", ")
			if _, err := fmt.Fprintf(out, "%s: asked for others in the place of %s\n", network.Name, all); err != nil || !w.wait {
				return err
			}
			if err := w.until(cmd.Context(), a, out, func(ctx context.Context) (bool, string, error) {
				err := k.refresh(ctx, network)
				return setIsAsAsked(network), holdsUp(network, v1alpha1.ConditionMembershipChanging), err
			}); err != nil {
				return err
			}
			joined := slices.DeleteFunc(memberNames(network), func(name string) bool { return slices.Contains(before, name) })
			_, err = fmt.Fprintf(out, "%s: %s left, %s joined; the set has %d validators, generation %d\n",
				network.Name, all, strings.Join(joined, ", "), network.Status.Validators, network.Status.SetGeneration)
			return err
		},
	}
	w.register(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "ask for it also if the set cannot change now")
	return cmd
}

// networkOfAll returns the network that validators have in their names.
func (k *cluster) networkOfAll(ctx context.Context, validators []string) (*v1alpha1.DiseqNetwork, error) {
	name, err := networkOf(validators[0])
	if err != nil {
		return nil, err
	}
	for _, v := range validators[1:] {
		other, err := networkOf(v)
		if err != nil {
			return nil, err
		}
		if other != name {
			return nil, clientcmd.Usagef("%s and %s are validators of two networks: name those of one at a time", validators[0], v)
		}
	}
	return k.network(ctx, name)
}

// mayReplace says why validators cannot be replaced now; nil if they can.
func mayReplace(network *v1alpha1.DiseqNetwork, validators []string, force bool) error {
	s := &network.Status
	for _, name := range validators {
		i := slices.IndexFunc(s.Members, func(m v1alpha1.Member) bool { return m.Name == name })
		switch {
		case i < 0:
			return fmt.Errorf("%s has no validator %s: kubectl diseq status %[1]s lists them", network.Name, name)
		case s.Members[i].Phase == v1alpha1.MemberRetired:
			return fmt.Errorf("%s has left already", name)
		}
	}
	if s.ReadyValidators < s.Threshold && !force {
		return fmt.Errorf("the set of %s cannot change now: %d validators vote, and a change needs %d. Bring validators back first, "+
			"or ask all the same with --force", network.Name, s.ReadyValidators, s.Threshold)
	}
	return nil
}

// retire adds names to spec.retire. The write fails if somebody changed the resource meanwhile.
func (k *cluster) retire(ctx context.Context, network *v1alpha1.DiseqNetwork, validators []string) error {
	before := network.DeepCopy()
	for _, name := range validators {
		if !slices.Contains(network.Spec.Retire, name) {
			network.Spec.Retire = append(network.Spec.Retire, name)
		}
	}
	patch := ctrl.MergeFromWithOptions(before, ctrl.MergeFromWithOptimisticLock{})
	return k.Patch(ctx, network, patch, ctrl.FieldOwner(owner))
}

// setIsAsAsked says that the operator has seen the last edit, and that the set is as the spec asks.
func setIsAsAsked(network *v1alpha1.DiseqNetwork) bool {
	c := meta.FindStatusCondition(network.Status.Conditions, v1alpha1.ConditionMembershipChanging)
	return c != nil && c.Status == metav1.ConditionFalse && c.ObservedGeneration >= network.Generation
}

// holdsUp is the message of a condition once it is about the last edit.
func holdsUp(network *v1alpha1.DiseqNetwork, condition string) string {
	c := meta.FindStatusCondition(network.Status.Conditions, condition)
	if c == nil || c.ObservedGeneration < network.Generation {
		return "the operator has not seen it yet"
	}
	return fmt.Sprintf("%s: %s", c.Reason, c.Message)
}

func memberNames(network *v1alpha1.DiseqNetwork) (names []string) {
	for _, m := range network.Status.Members {
		names = append(names, m.Name)
	}
	return names
}

func (a *app) newRestart() *cobra.Command {
	var w waiting
	var validators []string
	cmd := &cobra.Command{
		Use:   "restart [NETWORK]",
		Short: "Restart the validators of a network, one after the other",
		Long: `Ask the operator to restart all validators, or those of --validator, with the annotation diseq.io/restart. It takes one at a
time, as the quorum allows, and waits until a change of the set is over. Prefer this to kubectl delete pod, which asks nobody whether the
chain can do without the validator.

If every validator must sign, a restart stops the chain, and the operator waits for the annotation diseq.io/allow-downtime=true.`,
		Example:           "  kubectl diseq restart demo\n  kubectl diseq restart demo --validator demo-v2",
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
			request := strconv.FormatInt(a.now().UnixMilli(), 10)
			r := &restart{cluster: k, network: network, validators: validators, request: request}
			if err := r.ask(cmd.Context()); err != nil {
				return err
			}
			what, out := "all validators", cmd.OutOrStdout()
			if len(validators) > 0 {
				what = strings.Join(validators, ", ")
			}
			if _, err := fmt.Fprintf(out, "%s: asked for a restart of %s\n", network.Name, what); err != nil || !w.wait {
				return err
			}
			if err := w.until(cmd.Context(), a, out, r.look); err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "%s: restarted %s\n", network.Name, what)
			return err
		},
	}
	w.register(cmd)
	cmd.Flags().StringSliceVar(&validators, "validator", nil, "restart this validator alone; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("validator", a.completeValidators) // the flag is there
	return cmd
}

// A restart of a network, or of some of its validators.
type restart struct {
	*cluster
	network    *v1alpha1.DiseqNetwork
	validators []string
	// request is the value of the annotation.
	request string
}

// ask writes the annotations. It checks all names first, so that a mistake restarts nothing.
func (r *restart) ask(ctx context.Context) error {
	notes := map[string]string{resources.RestartAnnotation: r.request}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": notes}})
	if err != nil {
		return err
	}
	if len(r.validators) == 0 {
		return r.Patch(ctx, r.network, ctrl.RawPatch(types.MergePatchType, patch), ctrl.FieldOwner(owner))
	}
	sets := make([]*appsv1.StatefulSet, len(r.validators))
	for i, name := range r.validators {
		if _, ok := resources.SerialOf(r.network.Name, name); !ok {
			return clientcmd.Usagef("--validator %s: not a validator of %s; kubectl diseq status %[2]s lists them", name, r.network.Name)
		}
		sets[i] = &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: r.network.Namespace, Name: name}}
		if err := r.refresh(ctx, sets[i]); err != nil {
			return err
		}
	}
	for _, set := range sets {
		if err := r.Patch(ctx, set, ctrl.RawPatch(types.MergePatchType, patch), ctrl.FieldOwner(owner)); err != nil {
			return err
		}
	}
	return nil
}

// look says whether the pods were started after the request. A network says so itself; of a
// validator the pod does.
func (r *restart) look(ctx context.Context) (done bool, waitsFor string, err error) {
	if err := r.refresh(ctx, r.network); err != nil {
		return false, "", err
	}
	waitsFor = holdsUp(r.network, v1alpha1.ConditionProgressing)
	if strings.HasPrefix(waitsFor, status.UpToDate) { // an annotation changes no generation
		waitsFor = "the operator has not seen it yet"
	}
	if len(r.validators) == 0 {
		return r.network.Status.Restarted == r.request, waitsFor, nil
	}
	pods, err := r.pods(ctx, r.network)
	if err != nil {
		return false, "", err
	}
	for _, name := range r.validators {
		pod := pods[name]
		if pod == nil || !ready(pod) || pod.Annotations[resources.ValidatorRestartAnnotation] != r.request {
			return false, waitsFor, nil
		}
	}
	return true, "", nil
}
