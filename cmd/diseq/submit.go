package main

import (
	"bufio"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/identity"
)

// remote are the flags of commands that talk to a node.
type remote struct {
	nodes
	timeout time.Duration
}

func (r *remote) register(f *pflag.FlagSet) {
	r.nodes.register(f)
	f.DurationVar(&r.timeout, "timeout", time.Minute, "how long to try each request, repetitions included")
}

// open returns a client that repeats requests for as long as --timeout allows.
func (r *remote) open(stderr io.Writer, command string) (*client.Client, error) {
	if r.timeout <= 0 {
		return nil, clientcmd.Usagef("--timeout %v: want more than 0", r.timeout)
	}
	c, err := r.nodes.open(stderr, command)
	if err != nil {
		return nil, err
	}
	c.RetryFor = r.timeout
	return c, nil
}

func newSubmit() *cobra.Command {
	var r remote
	var wait, lines bool
	var linger time.Duration
	var keyFile, chainID string
	cmd := &cobra.Command{
		Use:   "submit [-u URL] [--wait] [--lines] FILE|-",
		Short: "Submit messages",
		Long: `Submit a file, or the standard input, as one message. With --lines, submit each line that is not empty as a message.

The command prints the ids, one a line, once the messages are durable. With --wait it waits until the messages are final and prints a
receipt for each, one line of JSON a message. diseq verify checks these receipts offline.

With --lines the input may be a pipe that stays open: a line waits for others for no longer than --linger. If some lines cannot be
submitted, the error names them, the command submits no line after them, and the exit code is 1.

Submitting is safe to repeat, so the command does: for --timeout it tries again when a node restarts or has no room.

With --sign-with each message is signed: it shows its author to everyone who reads it. The key is an Ed25519 key in PEM, such as
openssl genpkey -algorithm ed25519 makes. The signature holds for the chain of --chain-id alone. diseq verify --author checks it.

Two equal payloads are one message, for ever. The node answers a repetition with what it knows of the message. To send two messages
with the same content, make them differ: add a nonce (a counter, the time, a random number).`,
		Example: "  echo \"order 1 $(date +%s.%N)\" | diseq submit -\n" +
			"  diseq submit --lines --wait orders.txt > receipts.jsonl\n" +
			"  diseq submit --lines --wait --sign-with author.key --chain-id demo orders.txt > receipts.jsonl\n" +
			"  tail -f orders.log | diseq submit --lines -u http://127.0.0.1:18080,http://127.0.0.1:18081 -",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if linger < 0 {
				return clientcmd.Usagef("--linger %v: want 0 or more", linger)
			}
			sign, err := signer(keyFile, chainID)
			if err != nil {
				return err
			}
			c, err := r.open(cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			s := &clientcmd.Submission{
				Client: c, Wait: wait, Timeout: r.timeout, Linger: linger, Sign: sign, Out: bufio.NewWriter(cmd.OutOrStdout()),
			}
			if lines {
				return s.Lines(cmd.Context(), args[0], cmd.InOrStdin())
			}
			return s.Whole(cmd.Context(), args[0], cmd.InOrStdin())
		},
	}
	r.register(cmd.Flags())
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the messages are final and print receipts")
	cmd.Flags().BoolVar(&lines, "lines", false, "submit each line as a message")
	cmd.Flags().DurationVar(&linger, "linger", 100*time.Millisecond, "with --lines, how long a line waits for others to share its request")
	cmd.Flags().StringVar(&keyFile, "sign-with", "", "sign each message with the key of this file (Ed25519, PKCS #8 in PEM)")
	cmd.Flags().StringVar(&chainID, "chain-id", "", "with --sign-with, the chain that the signature is for")
	return cmd
}

// signer returns what makes a signed message of a content; nil without a key. The user names the
// chain: a node that lies about its chain must not get signatures for another one.
func signer(keyFile, chainID string) (func(content []byte) ([]byte, error), error) {
	if (keyFile == "") != (chainID == "") {
		return nil, clientcmd.Usagef("--sign-with and --chain-id go together: a signature is for one chain")
	}
	if keyFile == "" {
		return nil, nil
	}
	key, err := identity.ReadSigningKey(keyFile)
	if err != nil {
		return nil, err
	}
	if _, err := client.Sign(key, chainID, nil); err != nil {
		return nil, clientcmd.Usage(err)
	}
	return func(content []byte) ([]byte, error) {
		m, err := client.Sign(key, chainID, content)
		if err != nil {
			return nil, err
		}
		return m.Encode(), nil
	}, nil
}
