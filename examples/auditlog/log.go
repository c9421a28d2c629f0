package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// A record is what the author signs, in JSON.
type record struct {
	Number   uint64     `json:"number"`   // from 1 on
	Previous chain.Hash `json:"previous"` // the id of the message with the record before; zero in the first
	Line     []byte     `json:"line"`
}

// A log is what has been verified of a file of receipts, one on each line.
type log struct {
	eras   *chain.Eras // of the genesis document
	author chain.PublicKey
	count  uint64     // records so far
	last   chain.Hash // the id of the last one's message
	size   int64      // bytes of the file
}

// read verifies a file from its first record to its last, and calls each with them.
func (l *log) read(file io.Reader, each func(*chain.Receipt, *record)) error {
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the log is cut off in record %d; the records before it are sound: %w", l.count+1, err)
		}
		receipt, r, err := l.verify(line)
		if err != nil {
			return fmt.Errorf("record %d of the log: %w", l.count+1, err)
		}
		l.count, l.last, l.size = r.Number, receipt.Message.ID, l.size+int64(len(line))
		each(receipt, r)
	}
}

func ignore(*chain.Receipt, *record) {}

// verify checks the receipt of the next record. It needs no node.
func (l *log) verify(line []byte) (*chain.Receipt, *record, error) {
	receipt, err := chain.ReadReceipt(bytes.NewReader(line))
	if err != nil {
		return nil, nil, err
	}
	if err := receipt.Verify(l.eras, 0); err != nil {
		return nil, nil, err
	}
	message, err := client.ParseSigned(receipt.Message.Data)
	if err != nil {
		return nil, nil, err
	}
	r := &record{}
	if err := errors.Join(message.Verify(l.eras.ChainID()), json.Unmarshal(message.Content, r)); err != nil {
		return nil, nil, err
	}
	switch {
	case message.Author != l.author:
		return nil, nil, fmt.Errorf("the author is %v, want %v", message.Author, l.author)
	case r.Number != l.count+1:
		return nil, nil, fmt.Errorf("it has number %d: records are missing, or in another order", r.Number)
	case r.Previous != l.last:
		return nil, nil, fmt.Errorf("the record before it was message %v, here it is %v: the author signed two logs", r.Previous, l.last)
	}
	return receipt, r, nil
}

// An appender adds records to the end of a log. It may be killed at any point.
type appender struct {
	log
	client        *client.Client
	key           ed25519.PrivateKey
	file, pending *os.File
}

// A batch is durable in the file of pending messages before it is submitted. After a crash the same
// bytes are submitted again, and equal bytes are one message. So the author never signs two records
// of one number.
type batch struct {
	Size     int64    `json:"size"` // of the log before
	Messages [][]byte `json:"messages"`
}

// resume reads the log, and finishes what an appender that was killed has begun.
func (a *appender) resume(ctx context.Context) error {
	content, err := io.ReadAll(a.pending)
	if err != nil {
		return err
	}
	if !bytes.HasSuffix(content, []byte("\n")) { // it is empty, or was never submitted
		return a.read(a.file, ignore)
	}
	b := &batch{}
	if err := json.Unmarshal(content, b); err != nil {
		return fmt.Errorf("%s is damaged, and its records may be in the chain: restore the file: %w", a.pending.Name(), err)
	}
	if err := errors.Join(a.file.Truncate(b.Size), a.read(a.file, ignore)); err != nil {
		return err
	}
	return a.finish(ctx, b)
}

// appendAll appends each line. Lines that wait together share a request.
func (a *appender) appendAll(ctx context.Context, lines *bufio.Reader) (failed error) {
	for failed == nil {
		b, last := &batch{Size: a.size}, a.last
		for more := true; more && len(b.Messages) < 256; {
			line, err := lines.ReadSlice('\n')
			if err != nil && err != io.EOF {
				failed = fmt.Errorf("cannot read a line of at most %d bytes: %w", lines.Size()-1, err)
			}
			if failed != nil || len(line) == 0 {
				break
			}
			content, _ := json.Marshal(record{a.count + uint64(len(b.Messages)) + 1, last, bytes.TrimSuffix(line, []byte("\n"))})
			message, err := client.Sign(a.key, a.eras.ChainID(), content)
			if err != nil {
				return err
			}
			b.Messages = append(b.Messages, message.Encode())
			last = chain.Message{Data: message.Encode()}.ID()
			waiting, _ := lines.Peek(lines.Buffered())
			more = bytes.Contains(waiting, []byte("\n"))
		}
		if len(b.Messages) == 0 {
			break
		}
		if err := a.finish(ctx, b); err != nil {
			return err
		}
	}
	return failed
}

// finish submits a batch until it is final, and writes the receipts to the log.
func (a *appender) finish(ctx context.Context, b *batch) error {
	content, _ := json.Marshal(b)
	if err := overwrite(a.pending, 0, append(content, '\n')); err != nil {
		return err
	}
	results, err := a.client.SubmitWait(ctx, b.Messages...)
	if err != nil {
		return fmt.Errorf("%w; run the command again: it goes on with the same records", err)
	}
	var lines bytes.Buffer
	for _, r := range results {
		_ = json.NewEncoder(&lines).Encode(r.Receipt) // read verifies the outcome
	}
	if err := a.read(bytes.NewReader(lines.Bytes()), ignore); err != nil {
		return fmt.Errorf("a node gave a wrong receipt: %w", err)
	}
	if err := overwrite(a.file, b.Size, lines.Bytes()); err != nil {
		return err
	}
	return a.pending.Truncate(0)
}

// overwrite replaces a file from an offset on, durably.
func overwrite(f *os.File, from int64, with []byte) error {
	if err := f.Truncate(from); err != nil {
		return err
	}
	_, err := f.WriteAt(with, from)
	return errors.Join(err, f.Sync())
}

// create opens a file, which stays if the machine fails, for one process.
func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: another auditlog appends to it: %w", path, err)
	}
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return f, errors.Join(directory.Sync(), directory.Close())
}
