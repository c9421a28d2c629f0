package chain

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diseq/diseq/internal/document"
)

// ErrMalformed is wrapped by every error about bytes or JSON that are no encoding of what they
// claim to be.
var ErrMalformed = errors.New("malformed")

// MaxNumber is the largest height, time or epoch: 2^53 - 1, the largest integer that every JSON
// parser reads exactly. At one block each millisecond a chain reaches it after 285,000 years.
const MaxNumber = document.MaxNumber

func appendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func appendBytes[T ~[]byte | ~string](b []byte, v T) []byte {
	return append(appendU32(b, uint32(len(v))), v...)
}

// appendOptional writes the byte that says whether an optional part follows.
func appendOptional(b []byte, present bool) []byte {
	if present {
		return append(b, 1)
	}
	return append(b, 0)
}

// decoder reads the canonical encoding. After the first error it returns zero values; finish
// reports that error, or that bytes are left over. Byte strings alias the input.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.b = nil
}

func (d *decoder) take(what string, n int) []byte {
	if n > len(d.b) {
		d.fail("%s needs %d bytes, %d are left", what, n, len(d.b))
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8(what string) uint8 {
	if v := d.take(what, 1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u32(what string) uint32 {
	if v := d.take(what, 4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64(what string) uint64 {
	if v := d.take(what, 8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// number reads a height, a time or a count.
func (d *decoder) number(what string) uint64 {
	v := d.u64(what)
	if v > MaxNumber {
		d.fail("%s %d, at most %d allowed", what, v, uint64(MaxNumber))
		return 0
	}
	return v
}

// fixed fills dst.
func (d *decoder) fixed(what string, dst []byte) {
	copy(dst, d.take(what, len(dst)))
}

// bytes reads a byte string of at most limit bytes.
func (d *decoder) bytes(what string, limit int) []byte {
	n := d.u32(what)
	if int64(n) > int64(limit) {
		d.fail("%s of %d bytes, at most %d allowed", what, n, limit)
		return nil
	}
	return d.take(what, int(n))
}

// count reads the length of a list of at most limit elements of at least size bytes each, so that
// what a caller allocates for it is bounded by the input.
func (d *decoder) count(what string, limit, size int) int {
	n := d.u32(what)
	if int64(n) > int64(limit) {
		d.fail("%s has %d elements, at most %d allowed", what, n, limit)
		return 0
	}
	if int64(n)*int64(size) > int64(len(d.b)) {
		d.fail("%s has %d elements, only %d bytes are left", what, n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) optional(what string) bool {
	switch v := d.u8(what); v {
	case 0:
		return false
	case 1:
		return d.err == nil
	default:
		d.fail("%s is marked %d, want 0 or 1", what, v)
		return false
	}
}

// finish returns the first error, or one if bytes are left.
func (d *decoder) finish(what string) error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes after the end", len(d.b))
	}
	if d.err != nil {
		return fmt.Errorf("%s: %w", what, d.err)
	}
	return nil
}
