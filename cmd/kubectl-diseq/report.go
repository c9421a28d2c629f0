package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/resources"
)

const (
	// maxLog and maxAnswer bound the log of one container and the answer of one node, in bytes.
	maxLog    = 8 << 20
	maxAnswer = 4 << 20
	// answerWithin is for how long the report waits for one answer of a node.
	answerWithin = 5 * time.Second
	// operatorName is the label app.kubernetes.io/name of the operator's pods, as its chart has it.
	operatorName = "diseq-operator"
)

func (a *app) newReport() *cobra.Command {
	var out, operatorNamespace string
	cmd := &cobra.Command{
		Use:   "report [NETWORK]",
		Short: "Collect what others need to help with a network, without secrets",
		Long: `Write an archive with the objects of a network, its conditions, events, the logs of its nodes and of the operator. It also has the
status and metrics of each node. The command leaves out all that you may not read, and names it in errors.txt.

The archive has no secrets. Of Secrets it has the names and labels alone: the API server is not asked for their contents. Values of
environment variables, arguments of containers that are not the node's, and the logs of those are left out. Text that looks like a
key or a token is left out everywhere. The archive has names of workers and addresses of pods, but no messages. Look through it before you
publish it.`,
		Example:           "  kubectl diseq report demo\n  kubectl diseq report demo -o report.tar.gz",
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
			name := fmt.Sprintf("diseq-report-%s-%s", network.Name, a.now().UTC().Format("20060102-150405"))
			if out == "" {
				out = name + ".tar.gz"
			}
			r := &report{cluster: k, network: network, operatorNamespace: operatorNamespace, now: a.now(), folder: name}
			if err := r.write(cmd.Context(), out); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files; %d things could not be read (errors.txt)\n", out, r.files, len(r.failed))
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write, which must not exist; by default diseq-report-NETWORK-TIME.tar.gz")
	cmd.Flags().StringVar(&operatorNamespace, "operator-namespace", "diseq-system", "the namespace of the operator")
	return cmd
}

// A report is an archive that is being written.
type report struct {
	*cluster
	network           *v1alpha1.DiseqNetwork
	operatorNamespace string
	now               time.Time
	folder            string

	to     *tar.Writer
	files  int
	failed []string
}

// write makes the archive. A file that is not complete is removed.
func (r *report) write(ctx context.Context, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	packed := gzip.NewWriter(f)
	r.to = tar.NewWriter(packed)
	for _, part := range []func(context.Context) error{r.summary, r.objects, r.secrets, r.events, r.containerLogs, r.answers, r.failures} {
		if err := part(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(r.to.Close(), packed.Close())
}

// add puts a file into the archive, without what looks like a secret.
func (r *report) add(name string, content []byte) error {
	content = withoutSecrets(content)
	r.files++
	header := &tar.Header{Name: path.Join(r.folder, name), Mode: 0o600, Size: int64(len(content)), ModTime: r.now, Typeflag: tar.TypeReg}
	if err := r.to.WriteHeader(header); err != nil {
		return err
	}
	_, err := r.to.Write(content)
	return err
}

// fail notes what could not be read.
func (r *report) fail(what string, err error) {
	r.failed = append(r.failed, fmt.Sprintf("%s: %v", what, err))
}

func (r *report) failures(context.Context) error {
	if len(r.failed) == 0 {
		return r.add("errors.txt", []byte("everything could be read\n"))
	}
	return r.add("errors.txt", []byte(strings.Join(r.failed, "\n")+"\n"))
}

// summary is the screen, for people.
func (r *report) summary(ctx context.Context) error {
	pods, err := r.pods(ctx, r.network)
	if err != nil {
		r.fail("pods", err)
	}
	text := fmt.Sprintf("kubectl-diseq %s at %s\n\n%s", version, r.now.UTC().Format(time.RFC3339), screen(r.network, workersOf(pods), r.now))
	return r.add("status.txt", []byte(text))
}

// objects are those that the operator made of the network, and what they rest on.
func (r *report) objects(ctx context.Context) error {
	if err := r.object("network.yaml", r.network); err != nil {
		return err
	}
	labelled := []ctrl.ListOption{ctrl.InNamespace(r.network.Namespace), ctrl.MatchingLabels(resources.NetworkSelector(r.network.Name))}
	service := []ctrl.ListOption{ctrl.InNamespace(r.network.Namespace), ctrl.MatchingLabels{resources.NetworkLabel: r.network.Name}}
	operator := []ctrl.ListOption{ctrl.InNamespace(r.operatorNamespace), ctrl.MatchingLabels{"app.kubernetes.io/name": operatorName}}
	for _, l := range []struct {
		name    string
		list    ctrl.ObjectList
		options []ctrl.ListOption
	}{
		{"pods", &corev1.PodList{}, labelled},
		{"statefulsets", &appsv1.StatefulSetList{}, labelled},
		{"persistentvolumeclaims", &corev1.PersistentVolumeClaimList{}, labelled},
		{"configmaps", &corev1.ConfigMapList{}, labelled},
		{"services", &corev1.ServiceList{}, labelled},
		{"endpointslices", &discoveryv1.EndpointSliceList{}, service},
		{"serviceaccounts", &corev1.ServiceAccountList{}, labelled},
		{"networkpolicies", &networkingv1.NetworkPolicyList{}, labelled},
		{"poddisruptionbudgets", &policyv1.PodDisruptionBudgetList{}, labelled},
		{"workers", &corev1.NodeList{}, nil},
		{"operator-deployments", &appsv1.DeploymentList{}, operator},
		{"operator-pods", &corev1.PodList{}, operator},
	} {
		if err := r.List(ctx, l.list, l.options...); err != nil {
			r.fail(l.name, err)
			continue
		}
		if err := r.object("objects/"+l.name+".yaml", l.list); err != nil {
			return err
		}
	}
	return nil
}

// object adds an object or a list as YAML, without what may hold secrets.
func (r *report) object(name string, o runtime.Object) error {
	text, err := plain(o)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return r.add(name, text)
}

// secrets names the Secrets of the network. The API server sends their metadata alone.
func (r *report) secrets(ctx context.Context) error {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "SecretList"})
	err := r.List(ctx, all, ctrl.InNamespace(r.network.Namespace), ctrl.MatchingLabels(resources.NetworkSelector(r.network.Name)))
	if err != nil {
		r.fail("names of secrets", err)
		return nil
	}
	return r.object("objects/secrets-without-contents.yaml", all)
}

// events are those of the network's objects, the oldest first.
func (r *report) events(ctx context.Context) error {
	var all corev1.EventList
	if err := r.List(ctx, &all, ctrl.InNamespace(r.network.Namespace)); err != nil {
		r.fail("events", err)
		return nil
	}
	all.Items = slices.DeleteFunc(all.Items, func(e corev1.Event) bool {
		name := e.InvolvedObject.Name
		return !resources.Named(r.network.Name, name) && !strings.HasPrefix(name, r.network.Name+"-v")
	})
	slices.SortStableFunc(all.Items, func(a, b corev1.Event) int { return lastSeen(a).Compare(lastSeen(b)) })
	var text strings.Builder
	for _, e := range all.Items {
		fmt.Fprintf(&text, "%s %s %s %s/%s x%d: %s\n", lastSeen(e).UTC().Format(time.RFC3339), e.Type, e.Reason,
			strings.ToLower(e.InvolvedObject.Kind), e.InvolvedObject.Name, max(1, e.Count), e.Message)
	}
	return r.add("events.txt", []byte(text.String()))
}

func lastSeen(e corev1.Event) time.Time {
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.CreationTimestamp.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// containerLogs adds the logs of the nodes and of the operator, those of the run before included.
func (r *report) containerLogs(ctx context.Context) error {
	for _, from := range []struct {
		namespace, folder, container string
		labels                       map[string]string
	}{
		{r.network.Namespace, "logs", resources.Container, resources.NetworkSelector(r.network.Name)},
		{r.operatorNamespace, "operator-logs", "", map[string]string{"app.kubernetes.io/name": operatorName}},
	} {
		var pods corev1.PodList
		if err := r.List(ctx, &pods, ctrl.InNamespace(from.namespace), ctrl.MatchingLabels(from.labels)); err != nil {
			r.fail("pods of "+from.namespace, err)
			continue
		}
		for i := range pods.Items {
			if err := r.podLogs(ctx, &pods.Items[i], from.folder, from.container); err != nil {
				return err
			}
		}
	}
	return nil
}

// podLogs adds the logs of a container of a pod, of its first one if none is named.
func (r *report) podLogs(ctx context.Context, pod *corev1.Pod, folder, container string) error {
	if container == "" {
		container = pod.Spec.Containers[0].Name
	}
	for _, previous := range []bool{true, false} {
		if previous && !restarted(pod, container) {
			continue
		}
		name := path.Join(folder, pod.Name+".log")
		if previous {
			name = path.Join(folder, pod.Name+"-before.log")
		}
		stream, err := r.cluster.logs(ctx, pod.Namespace, pod.Name, &corev1.PodLogOptions{
			Container: container, Previous: previous, LimitBytes: new(int64(maxLog)), Timestamps: true,
		})
		if err != nil {
			r.fail(name, err)
			continue
		}
		text, err := io.ReadAll(io.LimitReader(stream, maxLog))
		if err = errors.Join(err, stream.Close()); err != nil {
			r.fail(name, err)
		}
		if err := r.add(name, text); err != nil {
			return err
		}
	}
	return nil
}

func restarted(pod *corev1.Pod, container string) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == container && s.RestartCount > 0
	})
}

// answers are the status and the metrics of each node, from the port on which the operator asks.
func (r *report) answers(ctx context.Context) error {
	pods, err := r.pods(ctx, r.network)
	if err != nil {
		return nil // summary has noted it
	}
	asking := &http.Client{Timeout: answerWithin, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			pod, _, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			return r.dial(ctx, r.network.Namespace, pod, resources.OperationsPort)
		},
	}}
	for _, pod := range pods {
		for _, ask := range []struct{ path, file string }{
			{"/v1/status", "status.json"}, {"/v1/validators", "validators.json"}, {"/readyz", "readyz.txt"}, {"/metrics", "metrics.txt"},
		} {
			name := path.Join("nodes", pod.Name, ask.file)
			text, err := get(ctx, asking, fmt.Sprintf("http://%s:%d%s", pod.Name, resources.OperationsPort, ask.path))
			if err != nil {
				r.fail(name, err)
				continue
			}
			if err := r.add(name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// get returns the body of an answer, whatever its code says: readyz says why a node is not ready.
func get(ctx context.Context, c *http.Client, url string) (text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	return io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
}
