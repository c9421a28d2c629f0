// Package powercut tests that a power cut at any moment takes nothing that was promised before it.
// Programs work on a disk that knows what it must keep (package disk). The test cuts the power in
// each fsync of the recording, and reads what is left. So it holds for whatever files a node
// writes.
//
// Each moment is read twice: without anything that was not durable, and with a part of it. The
// short form draws one such part, and reads a sample of the moments of whole nodes. POWERCUT_ROUNDS
// makes the recordings longer, reads all moments and draws more.
package powercut
