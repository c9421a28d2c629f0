package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
)

// remote are the flags of commands that talk to a node.
type remote struct {
	url     string
	timeout time.Duration
}

func (r *remote) register(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVarP(&r.url, "url", "u", client.DefaultURL, "the node")
	f.DurationVar(&r.timeout, "timeout", time.Minute, "how long to try")
}

func (r *remote) client(ctx context.Context) (*client.Client, context.Context, context.CancelFunc, error) {
	c, err := client.New(r.url)
	if err != nil {
		return nil, nil, nil, usageError{err}
	}
	if r.timeout <= 0 {
		return nil, nil, nil, usagef("--timeout %v: want more than 0", r.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	return c, ctx, cancel, nil
}

// The most that one message may have here (a chain may allow less), and what is submitted at a
// time.
const (
	maxMessage  = 8<<20 - 16
	chunkBytes  = 1 << 20
	chunkCount  = 1000
	lineTooLong = "line %d is longer than %d bytes"
)

func newSubmit() *cobra.Command {
	var r remote
	var wait, lines bool
	cmd := &cobra.Command{
		Use:   "submit [-u URL] [--wait] [--lines] FILE|-",
		Short: "Submit messages",
		Long: `Submit a file, or the standard input, as one message; with --lines each line that is not empty is one.

The ids are printed, one a line. They come back once the messages are durable; with --wait the command waits until they are final
and prints a receipt for each, one line of JSON a message, which diseq verify checks offline.

Two equal payloads are one message, for ever: submitting the same bytes again is answered with what is known of them. If you mean two
messages, make them differ: add a nonce (a counter, the time, a random number).`,
		Example: "  echo \"order 1 $(date +%s.%N)\" | diseq submit -\n  diseq submit --lines --wait orders.txt > receipts.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx, cancel, err := r.client(cmd.Context())
			if err != nil {
				return err
			}
			defer cancel()
			s := &submission{client: c, wait: wait, out: bufio.NewWriter(cmd.OutOrStdout())}
			if lines {
				err = s.lines(ctx, args[0], cmd.InOrStdin())
			} else {
				err = s.whole(ctx, args[0], cmd.InOrStdin())
			}
			return errors.Join(err, s.out.Flush())
		},
	}
	r.register(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the messages are final and print receipts")
	cmd.Flags().BoolVar(&lines, "lines", false, "each line is a message")
	return cmd
}

// A submission submits chunk by chunk, in order, and prints what is known after each.
type submission struct {
	client *client.Client
	wait   bool
	out    *bufio.Writer
	chunk  [][]byte
	bytes  int
	// first and last are the lines that the chunk is of.
	first, last int
}

func (s *submission) whole(ctx context.Context, path string, stdin io.Reader) error {
	message, err := readLimited(path, stdin, maxMessage)
	if err != nil {
		return err
	}
	if len(message) == 0 {
		return fmt.Errorf("%s is empty: a message has at least one byte", path)
	}
	s.chunk = append(s.chunk, message)
	return s.flush(ctx)
}

func (s *submission) lines(ctx context.Context, path string, stdin io.Reader) error {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 64<<10), maxMessage)
	s.first = 1
	for scanner.Scan() {
		s.last++
		line := bytes.TrimSuffix(scanner.Bytes(), []byte("\r"))
		if len(line) == 0 {
			continue
		}
		s.chunk = append(s.chunk, bytes.Clone(line))
		if s.bytes += len(line); s.bytes >= chunkBytes || len(s.chunk) == chunkCount {
			if err := s.flushLines(ctx); err != nil {
				return err
			}
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		return errors.Join(s.flushLines(ctx), fmt.Errorf(lineTooLong, s.last+1, maxMessage))
	} else if err != nil {
		return errors.Join(s.flushLines(ctx), fmt.Errorf("%s: %w", path, err))
	}
	return s.flushLines(ctx)
}

// flushLines names the lines that an error is about: the node counts the messages of a request.
func (s *submission) flushLines(ctx context.Context) error {
	if err := s.flush(ctx); err != nil {
		return fmt.Errorf("lines %d to %d: %w", s.first, s.last, err)
	}
	s.first = s.last + 1
	return nil
}

func (s *submission) flush(ctx context.Context) error {
	if len(s.chunk) == 0 {
		return nil
	}
	submit := s.client.Submit
	if s.wait {
		submit = s.client.SubmitWait
	}
	results, err := submit(ctx, s.chunk...)
	for _, r := range results {
		if printed := s.print(r); printed != nil {
			return errors.Join(err, printed)
		}
	}
	s.chunk, s.bytes = nil, 0
	return errors.Join(err, s.out.Flush())
}

func (s *submission) print(r client.Result) error {
	if !s.wait {
		_, err := fmt.Fprintln(s.out, r.ID)
		return err
	}
	if r.Receipt == nil {
		return nil // the error says that not all are final
	}
	line, err := json.Marshal(r.Receipt)
	if err != nil {
		return err
	}
	_, err = s.out.Write(append(line, '\n'))
	return err
}
