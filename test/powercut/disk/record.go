package disk

import (
	"path"
	"slices"
)

type kind uint8

const (
	written  kind = iota // data at an offset
	resized              // to the size in offset
	named                // name means the node target, and former, if there is one, means nothing any more
	unnamed              // name means nothing any more
	synced               // everything before it of this node is durable
	declared             // a mark
)

// A change is an entry of the recording. Changes with data or names belong to one node, a file or a
// directory.
type change struct {
	kind         kind
	node         uint64
	offset       int64
	data         []byte
	name, former string
	target       uint64
	directory    bool // of named: whether the target is one
	mark         any
	path         string // of synced: where the node was, for people
}

// root is the node of the disk's own directory.
const root = 1

// A recording is the durable part of a disk at a moment, and the changes that are not.
type recording struct {
	files       map[uint64][]byte
	directories map[uint64]map[string]uint64
	// pending are the changes of each node since its last fsync.
	pending map[uint64][]change
	// now is the tree as programs see it.
	now map[uint64]map[string]uint64
}

func newRecording() *recording {
	return &recording{
		files: map[uint64][]byte{}, pending: map[uint64][]change{},
		directories: map[uint64]map[string]uint64{root: {}}, now: map[uint64]map[string]uint64{root: {}},
	}
}

// add takes in the next change.
func (r *recording) add(c change) {
	switch c.kind {
	case declared:
	case synced:
		for _, p := range r.pending[c.node] {
			r.settle(p)
		}
		delete(r.pending, c.node)
	case named:
		// The new node exists from here on, whether its name lasts or not.
		if c.directory && r.directories[c.target] == nil {
			r.directories[c.target], r.now[c.target] = map[string]uint64{}, map[string]uint64{}
		}
		rename(r.now[c.node], c)
		r.pending[c.node] = append(r.pending[c.node], c)
	case unnamed:
		delete(r.now[c.node], c.name)
		r.pending[c.node] = append(r.pending[c.node], c)
	default:
		r.pending[c.node] = append(r.pending[c.node], c)
	}
}

// settle makes a change durable.
func (r *recording) settle(c change) {
	switch c.kind {
	case written:
		r.files[c.node] = overwrite(r.files[c.node], c.offset, c.data)
	case resized:
		r.files[c.node] = resize(r.files[c.node], c.offset)
	case named:
		rename(r.directories[c.node], c)
	case unnamed:
		delete(r.directories[c.node], c.name)
	}
}

func rename(names map[string]uint64, c change) {
	if c.former != "" {
		delete(names, c.former)
	}
	names[c.name] = c.target
}

func overwrite(content []byte, offset int64, data []byte) []byte {
	if end := offset + int64(len(data)); end > int64(len(content)) {
		content = resize(content, end)
	}
	copy(content[offset:], data)
	return content
}

func resize(content []byte, size int64) []byte {
	if have := int64(len(content)); size > have {
		return append(content, make([]byte, size-have)...)
	}
	return slices.Clip(content[:size])
}

// where returns the path of a node as programs see it.
func (r *recording) where(node uint64) string {
	at, ok := find(r.now, root, "", node)
	if !ok {
		return "a removed file"
	}
	return at
}

func find(tree map[uint64]map[string]uint64, directory uint64, at string, node uint64) (string, bool) {
	if directory == node {
		return at, true
	}
	for name, child := range tree[directory] {
		if child == node {
			return path.Join(at, name), true
		}
		if tree[child] != nil {
			if found, ok := find(tree, child, path.Join(at, name), node); ok {
				return found, true
			}
		}
	}
	return "", false
}
