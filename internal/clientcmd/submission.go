package clientcmd

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

	"github.com/diseq/diseq/client"
)

// The most that one message may have here (a chain may allow less), and what is submitted at a
// time.
const (
	maxMessage = 8<<20 - 16
	chunkBytes = 1 << 20
	chunkCount = 1000
)

// A Submission submits chunk by chunk, in order, and prints the results of each.
type Submission struct {
	Client *client.Client
	// Wait says that receipts are waited for, and printed in the place of ids.
	Wait bool
	// Timeout is for each chunk, Linger how long a chunk waits to be filled.
	Timeout, Linger time.Duration
	// Sign makes a signed message of a content; nil if messages are not signed.
	Sign func(content []byte) ([]byte, error)
	Out  *bufio.Writer

	chunk [][]byte
	bytes int
	// numbers are the lines of the chunk's messages; nil if the messages are not lines.
	numbers []int
	// ended is set when no line follows the chunk.
	ended bool
}

// Whole submits a file, or stdin for "-", as one message.
func (s *Submission) Whole(ctx context.Context, path string, stdin io.Reader) error {
	message, err := ReadLimited(path, stdin, maxMessage)
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
func (s *Submission) message(content []byte) ([]byte, error) {
	if s.Sign == nil {
		return content, nil
	}
	return s.Sign(content)
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

// Lines submits each line of a file, or of stdin for "-", that is not empty.
func (s *Submission) Lines(ctx context.Context, path string, stdin io.Reader) error {
	in, err := OpenInput(path, stdin)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	reading, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan line, chunkCount)
	go readLines(reading, path, in, read)
	full := time.NewTimer(s.Linger)
	defer full.Stop()
	for last := 0; ; {
		select {
		case l, more := <-read:
			if !more || l.err != nil {
				s.ended = true
				return errors.Join(s.flush(ctx), l.err)
			}
			if len(s.chunk) == 0 {
				full.Reset(s.Linger)
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
				return fmt.Errorf("interrupted: no line after line %d is submitted: submit the file again, for equal lines are one message", last)
			}
		}
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
}

// flush submits the chunk and prints its results.
func (s *Submission) flush(ctx context.Context) error {
	if len(s.chunk) == 0 {
		return nil
	}
	submit := s.Client.Submit
	if s.Wait {
		submit = s.Client.SubmitWait
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
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
	return errors.Join(err, s.Out.Flush())
}

func (s *Submission) print(r *client.Result) error {
	if !s.Wait {
		_, err := fmt.Fprintln(s.Out, r.ID)
		return err
	}
	if r.Receipt == nil {
		return nil // the error says that not all are final
	}
	line, err := json.Marshal(r.Receipt)
	if err != nil {
		return err
	}
	_, err = s.Out.Write(append(line, '\n'))
	return err
}

// explain says which lines an error leaves without an answer, and which without a receipt.
func (s *Submission) explain(results []client.Result, err error) error {
	if s.numbers == nil {
		return err
	}
	var parts []string
	if pending := s.ranges(func(i int) bool { return i < len(results) && s.Wait && results[i].Receipt == nil }); pending != "" {
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
func (s *Submission) ranges(which func(i int) bool) string {
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
