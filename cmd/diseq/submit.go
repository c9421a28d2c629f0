package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
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
		return nil, usagef("--timeout %v: want more than 0", r.timeout)
	}
	c, err := r.nodes.open(stderr, command)
	if err != nil {
		return nil, err
	}
	c.RetryFor = r.timeout
	return c, nil
}

// The most that one message may have here (a chain may allow less), and what is submitted at a
// time.
const (
	maxMessage = 8<<20 - 16
	chunkBytes = 1 << 20
	chunkCount = 1000
)

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
				return usagef("--linger %v: want 0 or more", linger)
			}
			sign, err := signer(keyFile, chainID)
			if err != nil {
				return err
			}
			c, err := r.open(cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			s := &submission{client: c, wait: wait, timeout: r.timeout, linger: linger, sign: sign, out: bufio.NewWriter(cmd.OutOrStdout())}
			if lines {
				return s.lines(cmd.Context(), args[0], cmd.InOrStdin())
			}
			return s.whole(cmd.Context(), args[0], cmd.InOrStdin())
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
		return nil, usagef("--sign-with and --chain-id go together: a signature is for one chain")
	}
	if keyFile == "" {
		return nil, nil
	}
	key, err := identity.ReadSigningKey(keyFile)
	if err != nil {
		return nil, err
	}
	if _, err := client.Sign(key, chainID, nil); err != nil {
		return nil, usageError{err}
	}
	return func(content []byte) ([]byte, error) {
		m, err := client.Sign(key, chainID, content)
		if err != nil {
			return nil, err
		}
		return m.Encode(), nil
	}, nil
}

// A submission submits chunk by chunk, in order, and prints the results of each.
type submission struct {
	client *client.Client
	wait   bool
	// timeout is for each chunk, linger how long a chunk waits to be filled.
	timeout, linger time.Duration
	// sign makes a signed message of a content; nil if messages are not signed.
	sign func(content []byte) ([]byte, error)
	out  *bufio.Writer

	chunk [][]byte
	bytes int
	// numbers are the lines of the chunk's messages; nil if the messages are not lines.
	numbers []int
	// ended is set when no line follows the chunk.
	ended bool
}

func (s *submission) whole(ctx context.Context, path string, stdin io.Reader) error {
	message, err := readLimited(path, stdin, maxMessage)
	if err != nil {
		return err
	}
	if len(message) == 0 {
		return fmt.Errorf("%s is empty: a message has at least one byte", path)
	}
	if message, err = s.message(message); err != nil {
		return err
	}
	s.chunk = append(s.chunk, message)
	return s.flush(ctx)
}

// message is what is submitted for a content.
func (s *submission) message(content []byte) ([]byte, error) {
	if s.sign == nil {
		return content, nil
	}
	return s.sign(content)
}

// line is a line of the input with its number, or why there are no more.
type line struct {
	number int
	text   []byte
	err    error
}

// readLines sends the lines of in that are not empty, then closes out. It ends with ctx, but for a
// read that is under way.
func readLines(ctx context.Context, path string, in io.Reader, out chan<- line) {
	defer close(out)
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 64<<10), maxMessage)
	number := 0
	send := func(l line) bool {
		select {
		case out <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for scanner.Scan() {
		number++
		text := bytes.TrimSuffix(scanner.Bytes(), []byte("\r"))
		if len(text) > 0 && !send(line{number: number, text: bytes.Clone(text)}) {
			return
		}
	}
	if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
		send(line{err: fmt.Errorf("line %d is longer than %d bytes", number+1, maxMessage)})
	} else if err != nil {
		send(line{err: fmt.Errorf("%s: %w", path, err)})
	}
}

func (s *submission) lines(ctx context.Context, path string, stdin io.Reader) error {
	in, err := openInput(path, stdin)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	reading, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan line, chunkCount)
	go readLines(reading, path, in, read)
	full := time.NewTimer(s.linger)
	defer full.Stop()
	for last := 0; ; {
		select {
		case l, more := <-read:
			if !more || l.err != nil {
				s.ended = true
				return errors.Join(s.flush(ctx), l.err)
			}
			if len(s.chunk) == 0 {
				full.Reset(s.linger)
			}
			last = l.number
			message, err := s.message(l.text)
			if err != nil {
				return err
			}
			s.chunk, s.numbers = append(s.chunk, message), append(s.numbers, l.number)
			if s.bytes += len(message); s.bytes < chunkBytes && len(s.chunk) < chunkCount {
				continue
			}
		case <-full.C:
		case <-ctx.Done():
			if len(s.chunk) == 0 {
				return fmt.Errorf("interrupted: no line after line %d is submitted", last)
			}
		}
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
}

// flush submits the chunk and prints its results.
func (s *submission) flush(ctx context.Context) error {
	if len(s.chunk) == 0 {
		return nil
	}
	submit := s.client.Submit
	if s.wait {
		submit = s.client.SubmitWait
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	results, err := submit(ctx, s.chunk...)
	for i := range results {
		if printed := s.print(&results[i]); printed != nil {
			return errors.Join(err, printed)
		}
	}
	if err != nil {
		err = s.explain(results, err)
	}
	s.chunk, s.numbers, s.bytes = s.chunk[:0], s.numbers[:0], 0
	return errors.Join(err, s.out.Flush())
}

func (s *submission) print(r *client.Result) error {
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

// explain says which lines an error leaves without an answer, and which without a receipt.
func (s *submission) explain(results []client.Result, err error) error {
	if s.numbers == nil {
		return err
	}
	var parts []string
	if pending := s.ranges(func(i int) bool { return i < len(results) && s.wait && results[i].Receipt == nil }); pending != "" {
		parts = append(parts, pending+": accepted, not known to be final")
	}
	if left := s.ranges(func(i int) bool { return i >= len(results) }); left != "" {
		if !s.ended {
			left += " and all after them"
		}
		// A refusal is an answer; after anything else a node may have taken the messages.
		if _, refused := errors.AsType[*client.Error](err); refused {
			parts = append(parts, left+": not submitted")
		} else {
			parts = append(parts, left+": not known to be submitted; it is safe to submit them again")
		}
	}
	if parts == nil {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(parts, "; "), err)
}

// ranges names the lines of the chunk's messages that which selects, empty lines between them
// included.
func (s *submission) ranges(which func(i int) bool) string {
	var out []string
	for i := 0; i < len(s.numbers); i++ {
		if !which(i) {
			continue
		}
		first := i
		for i+1 < len(s.numbers) && which(i+1) {
			i++
		}
		if first == i {
			out = append(out, fmt.Sprintf("line %d", s.numbers[i]))
		} else {
			out = append(out, fmt.Sprintf("lines %d to %d", s.numbers[first], s.numbers[i]))
		}
	}
	return strings.Join(out, ", ")
}
