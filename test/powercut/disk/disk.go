package disk

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/diseq/diseq/hack/skipped"
)

// A Disk is mounted until its test ends. The test itself must not open files on it, or the Go
// runtime may wait for itself: other processes do.
type Disk struct {
	// Dir is where it is mounted.
	Dir string

	mu      sync.Mutex
	changes []change
	seen    *recording // the tree as programs see it, for paths
	nodes   uint64
	stall   *Stall
}

// Mount mounts an empty disk. The test is left out where the machine does not allow that.
func Mount(t testing.TB) *Disk {
	t.Helper()
	d := &Disk{Dir: t.TempDir(), seen: newRecording(), nodes: root}
	long := time.Hour // nobody changes the disk but through the kernel
	server, err := fs.Mount(d.Dir, &node{disk: d, id: root, mode: syscall.S_IFDIR | 0o700}, &fs.Options{
		MountOptions:    fuse.MountOptions{FsName: "powercut", Name: "powercut", DirectMount: true, MaxWrite: 1 << 20},
		EntryTimeout:    &long,
		AttrTimeout:     &long,
		RootStableAttr:  &fs.StableAttr{Ino: root},
		NegativeTimeout: &long,
	})
	if err != nil {
		skipped.Test(t, "no file system of a test can be mounted on this machine (it takes /dev/fuse and the right to mount): %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount %s: %v", d.Dir, err)
		}
	})
	return d
}

// Mark records that something has been promised to somebody. A mark is later than every fsync that
// had returned before.
func (d *Disk) Mark(what any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = append(d.changes, change{kind: declared, mark: what})
}

// A Stall holds up an fsync.
type Stall struct {
	match func(path string) bool
	// Reached is closed when there is one.
	Reached chan struct{}
	end     chan struct{}
}

// Stall holds up the next fsync of a path that matches, until End. Everything that was written
// before it is there for programs, and not durable.
func (d *Disk) Stall(match func(path string) bool) *Stall {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stall = &Stall{match: match, Reached: make(chan struct{}), end: make(chan struct{})}
	return d.stall
}

// End makes the fsync fail.
func (s *Stall) End() { close(s.end) }

// record adds a change. The caller holds the lock.
func (d *Disk) record(c change) {
	d.changes = append(d.changes, c)
	d.seen.add(change{kind: c.kind, node: c.node, name: c.name, former: c.former, target: c.target, directory: c.directory})
	delete(d.seen.pending, c.node) // only the tree of now is of use
}

func (d *Disk) sync(id uint64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.seen.where(id)
	if s := d.stall; s != nil && s.match(at) {
		d.stall = nil
		close(s.Reached)
		d.mu.Unlock()
		<-s.end
		d.mu.Lock()
		return syscall.EIO
	}
	d.record(change{kind: synced, node: id, path: at})
	return 0
}

// A node is a file or a directory. go-fuse keeps the tree.
type node struct {
	fs.Inode
	disk *Disk
	id   uint64
	mode uint32

	// of the disk's lock
	content []byte
	changed time.Time
}

// handle is an open file.
type handle struct{ synchronous bool }

var (
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeFlusher   = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func (n *node) attributes(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink = n.mode, uint64(len(n.content)), 1
	out.Blocks = (out.Size + sector - 1) / sector
	out.Owner = fuse.Owner{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())}
	out.SetTimes(&n.changed, &n.changed, &n.changed)
}

func (n *node) add(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) *fs.Inode {
	d := n.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes++
	child := &node{disk: d, id: d.nodes, mode: mode, changed: time.Now()}
	d.record(change{kind: named, node: n.id, name: name, target: child.id, directory: mode&syscall.S_IFMT == syscall.S_IFDIR})
	child.attributes(&out.Attr)
	return n.NewPersistentInode(ctx, child, fs.StableAttr{Mode: mode & syscall.S_IFMT, Ino: child.id})
}

// Create implements fs.NodeCreater.
func (n *node) Create(
	ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return n.add(ctx, name, syscall.S_IFREG|mode&0o777, out), &handle{flags&syscall.O_DSYNC != 0}, fuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.add(ctx, name, syscall.S_IFDIR|mode&0o777, out), 0
}

// Unlink implements fs.NodeUnlinker.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.disk.record(change{kind: unnamed, node: n.id, name: name})
	return 0
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if child := n.GetChild(name); child != nil && len(child.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	return n.Unlink(ctx, name)
}

// Rename implements fs.NodeRenamer.
func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	target, ok := to.(*node)
	child := n.GetChild(name)
	if !ok || child == nil || flags&^uint32(1) != 0 { // 1 is RENAME_NOREPLACE
		return syscall.EINVAL
	}
	if flags != 0 && target.GetChild(newName) != nil {
		return syscall.EEXIST
	}
	d := n.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	c := change{kind: named, node: target.id, name: newName, target: child.StableAttr().Ino, directory: child.IsDir()}
	if target.id == n.id {
		c.former = name
		d.record(c)
		return 0
	}
	d.record(c)
	d.record(change{kind: unnamed, node: n.id, name: name})
	return 0
}

// Open implements fs.NodeOpener.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		n.disk.mu.Lock()
		n.resize(0)
		n.disk.mu.Unlock()
	}
	return &handle{flags&syscall.O_DSYNC != 0}, fuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fs.NodeReader.
func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	read := 0
	if offset < int64(len(n.content)) {
		read = copy(dest, n.content[offset:])
	}
	return fuse.ReadResultData(dest[:read]), 0
}

// Write implements fs.NodeWriter.
func (n *node) Write(_ context.Context, file fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	n.disk.mu.Lock()
	n.content, n.changed = overwrite(n.content, offset, data), time.Now()
	n.disk.record(change{kind: written, node: n.id, offset: offset, data: append([]byte(nil), data...)})
	n.disk.mu.Unlock()
	if h, ok := file.(*handle); ok && h.synchronous {
		return uint32(len(data)), n.disk.sync(n.id)
	}
	return uint32(len(data)), 0
}

// resize needs the lock.
func (n *node) resize(size int64) {
	if size != int64(len(n.content)) {
		n.content, n.changed = resize(n.content, size), time.Now()
		n.disk.record(change{kind: resized, node: n.id, offset: size})
	}
}

// Fsync implements fs.NodeFsyncer, for files and directories.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return n.disk.sync(n.id) }

// Flush implements fs.NodeFlusher: closing a file makes nothing durable.
func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.attributes(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		n.resize(int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode&0o7777
	}
	n.attributes(&out.Attr)
	return 0
}

// Allocate implements fs.NodeAllocater, as far as it makes room.
func (n *node) Allocate(_ context.Context, _ fs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode&^keepSize != 0 {
		return syscall.ENOTSUP
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if end := int64(offset + size); mode == 0 && end > int64(len(n.content)) {
		n.resize(end)
	}
	return 0
}

// Statfs implements fs.NodeStatfser: there is always room.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const blocks = 1 << 24 // of 4 KiB: 64 GiB
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks, out.Bfree, out.Bavail, out.Files, out.Ffree = blocks, blocks, blocks, blocks, blocks
	return 0
}
