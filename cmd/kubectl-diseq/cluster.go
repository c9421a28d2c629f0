package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/internal/clientcmd"
)

// A cluster is what the plugin uses of one: its objects, the logs of its pods, and connections to
// them.
type cluster struct {
	ctrl.Client
	namespace string
	logs      func(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error)
	dial      func(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
}

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	return s, errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s))
}

// connect opens the cluster that kubectl would use with the same flags.
func connect(flags *genericclioptions.ConfigFlags) (*cluster, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	objects, err := ctrl.New(config, ctrl.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &cluster{
		Client: objects, namespace: namespace, dial: forwarder(config, set.CoreV1().RESTClient()),
		logs: func(ctx context.Context, namespace, pod string, options *corev1.PodLogOptions) (io.ReadCloser, error) {
			return set.CoreV1().Pods(namespace).GetLogs(pod, options).Stream(ctx)
		},
	}, nil
}

// network returns the network of a name, or the only one of the namespace if no name is given.
func (c *cluster) network(ctx context.Context, name string) (*v1alpha1.DiseqNetwork, error) {
	if name != "" {
		n := &v1alpha1.DiseqNetwork{}
		return n, c.Get(ctx, ctrl.ObjectKey{Namespace: c.namespace, Name: name}, n)
	}
	var all v1alpha1.DiseqNetworkList
	if err := c.List(ctx, &all, ctrl.InNamespace(c.namespace)); err != nil {
		return nil, err
	}
	switch len(all.Items) {
	case 0:
		return nil, fmt.Errorf("the namespace %s has no network: choose a namespace with -n; kubectl get dsq -A lists all networks", c.namespace)
	case 1:
		return &all.Items[0], nil
	}
	names := make([]string, len(all.Items))
	for i := range all.Items {
		names[i] = all.Items[i].Name
	}
	return nil, clientcmd.Usagef("the namespace %s has %d networks: name one of %s", c.namespace, len(names), strings.Join(names, ", "))
}

// refresh reads an object again.
func (c *cluster) refresh(ctx context.Context, o ctrl.Object) error {
	return c.Get(ctx, ctrl.ObjectKeyFromObject(o), o)
}

// pods are the pods of a network's validators, by the name of the validator.
func (c *cluster) pods(ctx context.Context, network *v1alpha1.DiseqNetwork) (map[string]*corev1.Pod, error) {
	var all corev1.PodList
	err := c.List(ctx, &all, ctrl.InNamespace(network.Namespace), ctrl.MatchingLabels(resources.ValidatorsSelector(network.Name)))
	if err != nil {
		return nil, err
	}
	out := map[string]*corev1.Pod{}
	for i := range all.Items {
		out[all.Items[i].Labels[resources.ValidatorLabel]] = &all.Items[i]
	}
	return out, nil
}

// ready says whether a pod takes requests.
func ready(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// networkOf returns the name of the network that a validator has in its own name.
func networkOf(validator string) (string, error) {
	i := strings.LastIndex(validator, "-v")
	if i > 0 {
		if _, ok := resources.SerialOf(validator[:i], validator); ok {
			return validator[:i], nil
		}
	}
	return "", clientcmd.Usagef("%q is not the name of a validator: want one such as demo-v2; kubectl diseq status lists them", validator)
}
