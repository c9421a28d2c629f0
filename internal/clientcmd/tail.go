package clientcmd

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/diseq/diseq/client"
)

// Tail prints final blocks from a height on, one line of JSON each, until the context ends or count
// are printed; 0 is for no end.
func Tail(ctx context.Context, c *client.Client, from, count uint64, to io.Writer) error {
	out := bufio.NewWriterSize(to, 64<<10)
	errEnough := errors.New("enough")
	printed := uint64(0)
	err := c.Lines(ctx, from, func(_ uint64, line []byte) error {
		_, err := out.Write(line)
		if err := errors.Join(err, out.WriteByte('\n'), out.Flush()); err != nil {
			return err
		}
		if printed++; printed == count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) || ctx.Err() != nil {
		return nil
	}
	return err
}
