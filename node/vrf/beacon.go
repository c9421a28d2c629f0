package vrf

import (
	"crypto/sha256"
	"encoding/binary"
)

// NextBeacon returns B_{e+1}, the beacon of the epoch after epoch e, from that
// of e and the output that the committing validator of e published:
//
//	B_{e+1} = SHA-256("diseq/beacon" || B_e || u64 e || y_e)
//
// with a big-endian integer, and with the seven bytes "missing" for y_e if no
// block of e carries an output (y is nil). It does not check y: the caller has
// verified its proof. B_0 is the genesis hash.
//
// The committing validator of e knows B_{e+1} either way before it decides to
// publish: one bit of influence, visible to all in the chain. It has no other.
func NextBeacon(beacon [32]byte, epoch uint64, y *[32]byte) [32]byte {
	const tag, missing = "diseq/beacon", "missing"
	buf := make([]byte, 0, len(tag)+len(beacon)+8+sha256.Size)
	buf = append(buf, tag...)
	buf = append(buf, beacon[:]...)
	buf = binary.BigEndian.AppendUint64(buf, epoch)
	if y == nil {
		buf = append(buf, missing...)
	} else {
		buf = append(buf, y[:]...)
	}
	return sha256.Sum256(buf)
}
