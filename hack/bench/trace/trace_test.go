package trace

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	const out = `100 1000.5 pwrite64(7</net/node0/data/blocks.db-wal>, ""..., 4096, 0) = 4096
101 1001.000001 pwrite64(7</net/node0/data/blocks.db-wal>, ""..., 4096, 4096) = 4096
101 1001.000002 fdatasync(7</net/node0/data/blocks.db-wal>) = 0
102 1001.1 fdatasync(9</net/node1/data/blocks.db-wal> <unfinished ...>
103 1001.2 pwrite64(8</net/node1/data/messages-000000000000000.log>, ""..., 100, 0 <unfinished ...>
102 1001.3 <... fdatasync resumed>)        = 0
104 1001.4 write(12<socket:[4711]>, ""..., 300) = 300
104 1001.4 writev(12<socket:[4711]>, [{iov_base=""..., iov_len=5}, {iov_base=""..., iov_len=6}], 2) = 11
104 1001.4 write(12<socket:[4711]>, ""..., 300) = -1 EAGAIN (Resource temporarily unavailable)
105 1001.4 write(2<pipe:[1]>, ""..., 80) = 80
105 1001.4 write(1</net/node0/node.log>, ""..., 80) = 80
103 1001.5 <... pwrite64 resumed>)         = 100
103 1001.6 pwritev2(8</net/node1/data/messages-000000268435712.log>, [{iov_base=""..., iov_len=7}], 1, 100, RWF_DSYNC) = 7
106 1001.7 fsync(9</net/node1/data>)        = 0
107 1001.8 msync(0x7f0000000000, 4096, MS_SYNC) = 0
108 1001.9 pwrite64(5</net/node1/data/state/pages-00000003>, ""..., 200, 400) = 200
108 1001.9 fsync(6</net/node1/data/state/checkpoint.new>) = 0
100 1009.5 fdatasync(7</net/node0/data/blocks.db-wal>) = 0
+++ exited with 0 +++
`
	got, err := Read(strings.NewReader(out), 1001, 1002)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Counts{
		"blocks.db-wal":        {Writes: 1, Syncs: 2, Bytes: 4096},
		"messages-*.log":       {Writes: 2, Bytes: 107},
		"state/pages-*":        {Writes: 1, Bytes: 200},
		"state/checkpoint.new": {Syncs: 1},
		Sockets:                {Writes: 2, Bytes: 311},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
