package sha256lanes

import "golang.org/x/sys/cpu"

// fast is whether the processor, and the operating system, have what blocks needs.
var fast = cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW

// blocks compresses n blocks of 64 bytes of each message into the state of its lane.
//
//go:noescape
func blocks(state *[8][lanes]uint32, messages *[lanes]*byte, n int)
