package appendlog

import (
	"encoding/binary"
	"hash/crc32"
)

// A record is a header and its content:
//
//	CRC-32C u32, length of the content u32, group u64, kind u8, last in its group u8, zero u16
//
// The checksum covers the segment's salt, the record's position, and all of the record behind it.
// Without the salt a client could send a message that looks like records.
const recordBytes = 20

// HeaderBytes is how far behind its record's position a content begins.
const HeaderBytes = recordBytes

// A Record is an entry in the log.
type Record struct {
	// Position is of the record; its content begins HeaderBytes behind it.
	Position int64
	Kind     byte
	// Content is the caller's to keep.
	Content []byte

	group uint64
	last  bool
}

// end is the position behind the record.
func (r *Record) end() int64 { return r.Position + recordBytes + int64(len(r.Content)) }

// putRecord writes a record into b, which has room for header and content.
func putRecord(b []byte, salt uint64, position int64, e *Entry, group uint64, last bool) {
	at := recordBytes
	for _, p := range e.Content {
		at += copy(b[at:], p)
	}
	binary.BigEndian.PutUint32(b[4:], uint32(at-recordBytes))
	binary.BigEndian.PutUint64(b[8:], group)
	b[16], b[17], b[18], b[19] = e.Kind, 0, 0, 0
	if last {
		b[17] = 1
	}
	binary.BigEndian.PutUint32(b, sum(salt, position, b[4:at]))
}

func sum(salt uint64, position int64, b []byte) uint32 {
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], salt)
	binary.BigEndian.PutUint64(seed[8:], uint64(position))
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, b)
}

// parse reads the record at the beginning of b. ok is false if there is none.
func parse(b []byte, salt uint64, position int64) (r Record, ok bool) {
	if len(b) < recordBytes || b[17] > 1 || b[18] != 0 || b[19] != 0 {
		return r, false
	}
	n := int64(binary.BigEndian.Uint32(b[4:]))
	if n > int64(len(b)-recordBytes) || binary.BigEndian.Uint32(b) != sum(salt, position, b[4:recordBytes+n]) {
		return r, false
	}
	return Record{
		Position: position, Kind: b[16], Content: b[recordBytes : recordBytes+n : recordBytes+n],
		group: binary.BigEndian.Uint64(b[8:]), last: b[17] == 1,
	}, true
}
