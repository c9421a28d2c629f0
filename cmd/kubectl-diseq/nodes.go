package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/internal/clientcmd"
)

// nodes are the flags of the commands that talk to the nodes of a network.
type nodes struct {
	network, tokenFile, account, audience  string
	caFile, clientCert, clientKey, tlsName string
	timeout                                time.Duration
}

func (n *nodes) register(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&n.network, "network", "", "the network; by default the only one of the namespace")
	f.StringVar(&n.tokenFile, "token-file", "", "a file with the token that proves to the network who you are")
	f.StringVar(&n.account, "service-account", "", "prove who you are as this [NAMESPACE/]NAME, with a token that the API server makes for it")
	f.StringVar(&n.audience, "audience", "", "with --service-account, the audience of the token; by default the one that the network asks for")
	f.StringVar(&n.caFile, "ca-file", "", "certificates (PEM) that those of the nodes must lead to; by default those of the system")
	f.StringVar(&n.clientCert, "client-cert", "", "the certificate (PEM) that proves to the network who you are; with --client-key")
	f.StringVar(&n.clientKey, "client-key", "", "the key (PEM) of --client-cert")
	f.StringVar(&n.tlsName, "node-server-name", "", "the name that the certificate of the nodes must have; by default NETWORK.NAMESPACE.svc")
	f.DurationVar(&n.timeout, "timeout", time.Minute, "how long to try each request, repetitions included")
	_ = cmd.RegisterFlagCompletionFunc("network", a.completeNetworks) // the flag is there
}

// credential says whether the user proves who he is.
func (n *nodes) credential() bool { return n.tokenFile != "" || n.account != "" || n.clientCert != "" }

// use calls a function with a client of a network's nodes. The client asks one ready validator, and
// the next if that one fails. right is what the function needs.
func (n *nodes) use(
	cmd *cobra.Command, a *app, right v1alpha1.ClientRight, do func(ctx context.Context, c *client.Client) error,
) error {
	switch {
	case n.timeout <= 0:
		return clientcmd.Usagef("--timeout %v: want more than 0", n.timeout)
	case n.tokenFile != "" && n.account != "":
		return clientcmd.Usagef("--token-file and --service-account: choose one")
	case n.audience != "" && n.account == "":
		return clientcmd.Usagef("--audience is for --service-account")
	}
	k, err := a.connect()
	if err != nil {
		return err
	}
	network, err := k.network(cmd.Context(), n.network)
	if err != nil {
		return err
	}
	if err := n.admitted(network, right); err != nil {
		return err
	}
	c, err := n.open(cmd.Context(), k, network)
	if err != nil {
		return err
	}
	defer c.HTTP.CloseIdleConnections()
	last := ""
	c.Retrying = func(reason error, _ time.Duration) {
		if text := clientcmd.OneLine(reason); text != last {
			last = text
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s; trying again\n", cmd.CommandPath(), text)
		}
	}
	return n.explain(network, do(cmd.Context(), c))
}

// admitted returns an error if a network admits nobody without a credential, and there is none.
func (n *nodes) admitted(network *v1alpha1.DiseqNetwork, right v1alpha1.ClientRight) error {
	access := network.Spec.Access
	if n.credential() || access == nil || access.Anonymous == nil || slices.Contains(access.Anonymous.Allow, right) {
		return nil
	}
	return &strangerError{
		fmt.Errorf("the network %s does not give the right %s to clients without a credential (spec.access.anonymous)", network.Name, right),
		waysIn(network, right),
	}
}

// A strangerError says that a network does not know the user, and what would help.
type strangerError struct {
	error
	help string
}

// Unwrap gives the error without the help.
func (e *strangerError) Unwrap() error { return e.error }

// waysIn says with which credential a network admits clients.
func waysIn(network *v1alpha1.DiseqNetwork, right v1alpha1.ClientRight) string {
	var ways []string
	for _, c := range network.Spec.Access.Clients {
		switch {
		case !slices.Contains(c.Allow, right):
		case c.ServiceAccount != nil:
			ways = append(ways, fmt.Sprintf("--service-account %s/%s", c.ServiceAccount.Namespace, c.ServiceAccount.Name))
		case c.Certificate != nil:
			ways = append(ways, "--client-cert and --client-key of "+c.Name)
		default:
			ways = append(ways, "--token-file with a token of "+c.Name)
		}
	}
	const shown = 4
	switch {
	case len(ways) == 0:
		return "none of its clients has that right: add one to spec.access.clients"
	case len(ways) > shown:
		ways = append(ways[:shown], "others of spec.access.clients")
	}
	return "prove who you are: " + strings.Join(ways, ", or ")
}

// explain says what helps against a refusal of a node.
func (n *nodes) explain(network *v1alpha1.DiseqNetwork, err error) error {
	refused, _ := errors.AsType[*client.Error](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, misnamed := errors.AsType[x509.HostnameError](err)
	switch {
	case client.Unauthenticated(err) && n.credential():
		return &strangerError{err, "the network knows no client with that credential: compare it with spec.access.clients, " +
			"and the token's audience with spec.access.issuers"}
	case client.Unauthenticated(err) && network.Spec.Access != nil:
		return &strangerError{err, waysIn(network, v1alpha1.ReadRight)}
	case refused != nil && refused.Status == http.StatusForbidden:
		return &strangerError{err, "spec.access of the network says what each client may do"}
	case unknown && n.caFile == "":
		return &strangerError{err, "--ca-file names the certificates to trust"}
	case misnamed:
		return &strangerError{err, "--node-server-name is a name that the certificate has"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return &strangerError{err, "nodes are being restarted with spec.access.tls, or without it: try again when AccessReady is True"}
	}
	return err
}

// open returns a client of the ready validators. The API server leads each connection to its pod.
func (n *nodes) open(ctx context.Context, k *cluster, network *v1alpha1.DiseqNetwork) (*client.Client, error) {
	pods, err := k.pods(ctx, network)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, validator := range slices.Sorted(maps.Keys(pods)) {
		if ready(pods[validator]) {
			names = append(names, pods[validator].Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no validator of %s is ready to take requests: kubectl diseq status %[1]s says why", network.Name)
	}
	first, err := k.first(ctx, network.Namespace, names)
	if err != nil {
		return nil, err
	}
	scheme, secured := "http", network.Spec.Access != nil && network.Spec.Access.TLS != nil
	if secured {
		scheme = "https"
	}
	urls := make([]string, len(names))
	for i, pod := range names {
		urls[i] = fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(pod, fmt.Sprint(resources.PublicPort)))
	}
	c, err := client.New(urls...)
	if err != nil {
		return nil, err
	}
	c.RetryFor = n.timeout
	transport := c.HTTP.Transport.(*http.Transport)
	transport.Proxy = nil // the names are those of pods, and the way to them is the API server
	transport.DialContext = func(ctx context.Context, _, to string) (net.Conn, error) {
		pod, _, err := net.SplitHostPort(to)
		if err != nil {
			return nil, err
		}
		return first.dial(ctx, pod)
	}
	if secured {
		name := n.tlsName
		if name == "" {
			name = fmt.Sprintf("%s.%s.svc", network.Name, network.Namespace)
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	}
	access := client.Access{CAFile: n.caFile, CertificateFile: n.clientCert, KeyFile: n.clientKey}
	switch {
	case n.tokenFile != "":
		access.Token = client.TokenFile(n.tokenFile)
	case n.account != "":
		if access.Token, err = n.accountToken(k, network); err != nil {
			return nil, err
		}
	}
	return c, c.Use(access)
}

// A dialer connects to pods. It has one connection already.
type dialer struct {
	k         *cluster
	namespace string

	mu    sync.Mutex
	pod   string
	ready net.Conn
}

// first connects to the first pod that can be reached and puts it to the front. So a user without
// the right to do that gets an error, and not the repetitions that a lost node is worth.
func (k *cluster) first(ctx context.Context, namespace string, pods []string) (*dialer, error) {
	var failed error
	for i, pod := range pods {
		c, err := k.dial(ctx, namespace, pod, resources.PublicPort)
		if err == nil {
			pods[0], pods[i] = pods[i], pods[0]
			return &dialer{k: k, namespace: namespace, pod: pod, ready: c}, nil
		}
		if failed = err; ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (d *dialer) dial(ctx context.Context, pod string) (net.Conn, error) {
	d.mu.Lock()
	c := d.ready
	if c != nil && pod == d.pod {
		d.ready = nil
		d.mu.Unlock()
		return c, nil
	}
	d.mu.Unlock()
	return d.k.dial(ctx, d.namespace, pod, resources.PublicPort)
}

// tokenLife is for how long a token is asked for, the shortest time that the API server gives.
const tokenLife = 10 * time.Minute

// accountToken makes tokens of a ServiceAccount for the network alone.
func (n *nodes) accountToken(k *cluster, network *v1alpha1.DiseqNetwork) (client.TokenSource, error) {
	namespace, name, found := strings.Cut(n.account, "/")
	if !found {
		namespace, name = k.namespace, n.account
	}
	audience := n.audience
	if audience == "" {
		if audience = audienceOf(network); audience == "" {
			return nil, clientcmd.Usagef("--service-account: the network %s takes no tokens of this cluster: spec.access.issuers has no entry "+
				"with kubernetes; use --token-file, or name the audience of another issuer with --audience", network.Name)
		}
	}
	var mu sync.Mutex
	var token string
	var until time.Time
	return func(ctx context.Context, refused string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != "" && token != refused && time.Now().Before(until) {
			return token, nil
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{audience}, ExpirationSeconds: new(int64(tokenLife / time.Second)),
		}}
		if err := k.SubResource("token").Create(ctx, account, request); err != nil {
			return "", fmt.Errorf("a token of ServiceAccount %s/%s: %w", namespace, name, err)
		}
		token, until = request.Status.Token, time.Now().Add(tokenLife*3/4)
		return token, nil
	}, nil
}

// audienceOf is the audience of the cluster's tokens that a network takes; empty if it takes none.
func audienceOf(network *v1alpha1.DiseqNetwork) string {
	if network.Spec.Access == nil {
		return ""
	}
	for _, i := range network.Spec.Access.Issuers {
		switch {
		case i.Kubernetes == nil:
		case len(i.Audiences) > 0:
			return i.Audiences[0]
		default:
			return network.Status.ChainID
		}
	}
	return ""
}

// genesis reads the genesis document of a network from its ConfigMap.
func (k *cluster) genesis(ctx context.Context, network *v1alpha1.DiseqNetwork) (io.Reader, error) {
	var document corev1.ConfigMap
	err := k.Get(ctx, ctrl.ObjectKey{Namespace: network.Namespace, Name: resources.GenesisName(network.Name)}, &document)
	if err != nil {
		return nil, err
	}
	return strings.NewReader(document.Data[resources.GenesisKey]), nil
}
