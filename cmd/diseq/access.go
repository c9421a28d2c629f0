package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
)

// place is where the nodes of a network are, and how a client proves to them who it is.
type place struct {
	URLs       []string `json:"urls"`
	CAFile     string   `json:"ca_file,omitempty"`
	ClientCert string   `json:"client_cert,omitempty"`
	ClientKey  string   `json:"client_key,omitempty"`
	TokenFile  string   `json:"token_file,omitempty"`
}

// files are the fields of a place that name files, by their flags.
func (p *place) files() map[string]*string {
	return map[string]*string{"ca-file": &p.CAFile, "client-cert": &p.ClientCert, "client-key": &p.ClientKey, "token-file": &p.TokenFile}
}

func (p *place) register(f *pflag.FlagSet) {
	f.StringSliceVarP(&p.URLs, "url", "u", []string{client.DefaultURL},
		"the node; if several are given, repeated or separated by commas, the next is tried when one fails")
	f.StringVar(&p.CAFile, "ca-file", "", "certificates (PEM) that those of nodes must lead to; by default those of the system")
	f.StringVar(&p.ClientCert, "client-cert", "", "the certificate (PEM) that proves who you are; with --client-key")
	f.StringVar(&p.ClientKey, "client-key", "", "the key (PEM) of --client-cert")
	f.StringVar(&p.TokenFile, "token-file", "", "a file with the token that proves who you are; it is read again when it changes")
}

// use gives a client its access.
func (p *place) use(c *client.Client) error {
	a := client.Access{CAFile: p.CAFile, CertificateFile: p.ClientCert, KeyFile: p.ClientKey}
	if p.TokenFile != "" {
		a.Token = client.TokenFile(p.TokenFile)
	}
	if a.CAFile == "" && a.CertificateFile == "" && a.KeyFile == "" && a.Token == nil {
		return nil
	}
	return c.Use(a)
}

// nodes are the nodes that a command talks to: those of its flags, of the environment, or of a
// context.
type nodes struct {
	place
	context string
	// given reports whether a flag was; nil if the place is all there is.
	given func(flag string) bool
}

func (n *nodes) register(f *pflag.FlagSet) {
	n.place.register(f)
	url := f.Lookup("url")
	f.AddFlag(&pflag.Flag{Name: "node", Usage: "the same as --url", Value: url.Value, DefValue: url.DefValue})
	f.StringVar(&n.context, "context", "", "the context that names the nodes and the files (see diseq context)")
	for flag := range n.files() {
		f.Lookup(flag).Usage += " ($" + variable(flag) + ")"
	}
	for _, flag := range []string{"url", "context"} {
		f.Lookup(flag).Usage += " ($" + variable(flag) + ")"
	}
	n.given = func(flag string) bool { return f.Changed(flag) }
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "DISEQ_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// resolve fills in what the flags leave out. A context that is asked for by flag comes before the
// environment. Any other context counts only if nothing else names a node, so that its token goes
// to its own nodes alone.
func (n *nodes) resolve() error {
	if n.given == nil {
		return nil
	}
	from, err := n.fallback()
	if err != nil {
		return err
	}
	if !n.given("url") && !n.given("node") && len(from.URLs) > 0 {
		n.URLs = from.URLs
	}
	values := from.files()
	for flag, value := range n.files() {
		if !n.given(flag) {
			*value = *values[flag]
		}
	}
	return nil
}

// fallback is what counts where no flag is given.
func (n *nodes) fallback() (place, error) {
	if n.given("context") {
		return readContext(n.context)
	}
	var p place
	if urls := os.Getenv(variable("url")); urls != "" {
		p.URLs = strings.Split(urls, ",")
	}
	if p.URLs == nil && !n.given("url") && !n.given("node") {
		var err error
		if p, err = readContext(os.Getenv(variable("context"))); err != nil {
			return p, err
		}
	}
	for flag, value := range p.files() {
		if path := os.Getenv(variable(flag)); path != "" {
			*value = path
		}
	}
	return p, nil
}

// open returns a client that says on stderr why it pauses.
func (n *nodes) open(stderr io.Writer, command string) (*client.Client, error) {
	if err := n.resolve(); err != nil {
		return nil, err
	}
	c, err := client.New(n.URLs...)
	if err != nil {
		return nil, clientcmd.Usage(err)
	}
	if err := n.use(c); err != nil {
		return nil, err
	}
	last := ""
	c.Retrying = func(reason error, _ time.Duration) {
		if text := clientcmd.OneLine(reason); text != last {
			last = text
			fmt.Fprintf(stderr, "%s: %s; trying again\n", command, text)
		}
	}
	return c, nil
}

// advice says which flag helps against an error about a node; empty if none does.
func advice(command *cobra.Command, err error) string {
	if command.Flags().Lookup("token-file") == nil {
		return ""
	}
	given := func(flag string) bool { return command.Flags().Lookup(flag).Value.String() != "" }
	refused, _ := errors.AsType[*client.Error](err)
	_, unknown := errors.AsType[*net.DNSError](err)
	_, stranger := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case client.Unauthenticated(err) && !given("token-file") && !given("client-cert"):
		return "prove who you are with --token-file, or with --client-cert and --client-key"
	case stranger && !given("ca-file"):
		return "--ca-file names the certificates to trust"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "no node listens there: start one, or name others with --url or --context"
	case unknown:
		return "no such name is known here: see --url and --context"
	case errors.Is(err, context.DeadlineExceeded) && command.Flags().Lookup("timeout") != nil:
		return "no answer within --timeout: see whether the node is up, or wait longer"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the node serves without TLS: http://"
	case refused != nil && refused.Status == http.StatusBadRequest && strings.Contains(refused.Message, "HTTP request to an HTTPS server"):
		return "the node serves over TLS: https://"
	}
	return ""
}
