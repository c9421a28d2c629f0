package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
)

func newBench() *cobra.Command {
	var l load
	var n nodes
	var asJSON, newConnections bool
	var form clientcmd.Output
	var follow string
	cmd := &cobra.Command{
		Use:   "bench -u URL,...",
		Short: "Put load on a network and measure throughput and latency",
		Long: `Submit messages that exist once, at a rate, over some connections to each node. Follow the final blocks of the first node to see
when each message is final, or those of the node that --follow names.

It reports the final messages a second, the time from submit to final, and how many accepted messages never became final. If there is
one of these, the exit code is 1. Ctrl-C ends submitting early, and the report comes all the same.

The load comes from one process. On the same machine as the network, it takes its share of the processors.`,
		Example: "  diseq bench -u http://127.0.0.1:18080,http://127.0.0.1:18081 --rate 5000 --duration 30s\n  diseq bench --rate 0 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.resolve(); err != nil {
				return err
			}
			if asJSON && cmd.Flags().Changed("output") && form != clientcmd.JSON {
				return clientcmd.Usagef("--json and --output %v contradict each other: leave --json out", form)
			}
			if asJSON {
				form = clientcmd.JSON
			}
			for _, url := range n.URLs {
				c, err := n.loadClient(url, newConnections)
				if err != nil {
					return err
				}
				l.clients = append(l.clients, c)
			}
			l.followed = l.clients[0]
			if follow != "" {
				var err error
				if l.followed, err = n.loadClient(follow, false); err != nil {
					return err
				}
			}
			if err := l.validate(); err != nil {
				return err
			}
			stop := progress(cmd.ErrOrStderr(), &l)
			r, err := l.run(cmd.Context())
			stop()
			if err != nil {
				return err
			}
			err = form.Print(cmd.OutOrStdout(), r, func(w io.Writer) error {
				_, err := io.WriteString(w, r.String())
				return err
			})
			if err == nil && r.Lost > 0 {
				err = fmt.Errorf("%d accepted messages are not final after --drain %v: see whether blocks become final (diseq top), or wait longer",
					r.Lost, l.drain)
			}
			if err == nil && r.Accepted == 0 {
				err = fmt.Errorf("no message was accepted: %v", l.firstError())
			}
			return err
		},
	}
	f := cmd.Flags()
	n.register(f)
	f.Lookup("url").Usage = "the nodes, repeated or separated by commas; the first one's blocks are followed ($DISEQ_URL)"
	f.StringVar(&follow, "follow", "", "the node whose blocks are followed, if it is not the first one; it may get no load")
	f.DurationVar(&l.duration, "duration", 10*time.Second, "how long to submit")
	f.Float64Var(&l.rate, "rate", 10_000, "messages a second, of all connections together; 0 for as many as are answered")
	f.IntVar(&l.batch, "batch", 100, "messages a request")
	f.IntVar(&l.size, "size", 250, "bytes a message, at least 24")
	f.IntVar(&l.connections, "connections", 4, "connections to each node, each with one request at a time")
	f.BoolVar(&newConnections, "new-connections", false, "open a new connection for each request")
	f.DurationVar(&l.drain, "drain", 30*time.Second, "how long to wait for the last messages to become final")
	f.BoolVar(&asJSON, "json", false, "the same as --output json")
	form.Register(cmd, f, clientcmd.Table)
	return cmd
}

// loadClient makes a client that repeats nothing: a refusal is a result.
func (n *nodes) loadClient(url string, newConnections bool) (*client.Client, error) {
	c, err := client.New(url)
	if err != nil {
		return nil, clientcmd.Usage(err)
	}
	c.RetryFor = 0
	if transport, ok := c.HTTP.Transport.(*http.Transport); ok {
		transport.DisableKeepAlives = newConnections
	}
	return c, n.use(c) // which wraps the transport
}

func (l *load) validate() error {
	switch {
	case l.duration <= 0 || l.duration > 24*time.Hour:
		return clientcmd.Usagef("--duration %v: want more than 0, up to a day", l.duration)
	case l.drain < 0:
		return clientcmd.Usagef("--drain %v: want 0 or more", l.drain)
	case l.rate < 0 || math.IsNaN(l.rate) || l.rate > 1e9:
		return clientcmd.Usagef("--rate %v: want 0 or more", l.rate)
	case l.batch < 1 || l.batch > 10_000:
		return clientcmd.Usagef("--batch %d: want 1 to 10000", l.batch)
	case l.size < nonceBytes || l.size > 4<<20:
		return clientcmd.Usagef("--size %d: want %d to %d", l.size, nonceBytes, 4<<20)
	case l.batch*(l.size+10) > 8<<20:
		return clientcmd.Usagef("--batch %d of --size %d: a request has at most 8 MiB", l.batch, l.size)
	case l.connections < 1 || l.connections > 1000:
		return clientcmd.Usagef("--connections %d: want 1 to 1000", l.connections)
	}
	return nil
}

// showBar draws a bar on a terminal for a work that takes a known time. It is nil in programs that
// are built without the dashboard.
var showBar func(w io.Writer, total time.Duration, text func() string) (stop func())

// progress shows how far the load is while it runs, if w is a terminal.
func progress(w io.Writer, l *load) (stop func()) {
	if !isTerminal(w) || showBar == nil {
		return func() {}
	}
	return showBar(w, l.duration, func() string {
		accepted, final := l.counts()
		return fmt.Sprintf("%d accepted, %d final", accepted, final)
	})
}
