// Package appendlog is an append-only log of records in segment files: the messages of a node.
//
// It promises:
//
//   - Records that are appended together are one group. A group is on disk, whole, when
//     [Log.Append] returns nil: written, and synced with fdatasync. Calls that come at once share a
//     group.
//   - After a loss of power the log ends with a whole group. A part of a group that was under way
//     is cut off when the log is opened for writing.
//   - Nothing is ever moved or overwritten. A position, the number of bytes before it in all
//     segments together, names the same byte for ever.
//   - Each record has a CRC-32C over its position, its segment's salt and its content. Each segment
//     begins with the identity of what it belongs to.
//   - [Inspect] changes no byte. It tells damage from a torn end: always below a [Mark] that the
//     caller kept, and above it unless the damage is in the last group.
//
// It does not know what the records mean, deletes nothing, and keeps no index of them.
package appendlog
