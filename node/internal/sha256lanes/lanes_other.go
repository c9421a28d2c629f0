//go:build !amd64

package sha256lanes

var fast = false

func blocks(*[8][lanes]uint32, *[lanes]*byte, int) { panic("not on this processor") }
