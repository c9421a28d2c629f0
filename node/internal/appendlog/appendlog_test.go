package appendlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var unobserved = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "t"})

func options(dir string) Options {
	return Options{Dir: dir, Name: "test", Identity: [32]byte{1}, SegmentBytes: 400}
}

// inspect returns what a log has from a position on.
func inspect(o Options, from int64, known Mark) (f *Found, records []Record, err error) {
	f, err = Inspect(o, from, known, func(r Record) error { records = append(records, r); return nil })
	return f, records, err
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	f, _, err := inspect(o, 0, Mark{})
	must(t, err)
	l, err := f.Open(unobserved)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// content is that of the n-th record that fill writes.
func content(n int) []byte { return bytes.Repeat([]byte{byte(n + 1)}, 10+n%90) }

// fill appends groups of one, two and three records in turn, and returns the mark behind each.
func fill(t testing.TB, l *Log, groups int) (marks []Mark) {
	t.Helper()
	n := 0
	for g := range groups {
		var entries []Entry
		for range g%3 + 1 {
			whole := content(n)
			entries = append(entries, Entry{Kind: byte(n), Content: [][]byte{whole[:4], whole[4:]}})
			n++
		}
		_, err := l.Append(t.Context(), nil, entries...)
		must(t, err)
		marks = append(marks, l.Mark())
	}
	return marks
}

// recordsOf is how many records the first groups of fill have.
func recordsOf(groups int) (n int) {
	for g := range groups {
		n += g%3 + 1
	}
	return n
}

// isFilled fails unless records are the first ones of fill.
func isFilled(t testing.TB, records []Record, want int) {
	t.Helper()
	if len(records) != want {
		t.Fatalf("%d records, want %d", len(records), want)
	}
	for n, r := range records {
		if r.Kind != byte(n) || !bytes.Equal(r.Content, content(n)) {
			t.Fatalf("record %d is of kind %d with %x", n, r.Kind, r.Content)
		}
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	return names
}

// copyOf copies the segments of a log in use, as a machine that loses its power leaves them.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, path := range segmentFiles(t, dir) {
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600))
	}
	return to
}

func TestRecordsReadBackAsTheyWereAppended(t *testing.T) {
	o := options(t.TempDir())
	l := open(t, o)
	marks := fill(t, l, 20)
	if n := len(segmentFiles(t, o.Dir)); n < 3 {
		t.Fatalf("%d segments, want some", n)
	}
	for range 2 { // while it is open, and opened again
		f, records, err := inspect(o, 0, Mark{})
		must(t, err)
		isFilled(t, records, recordsOf(20))
		if f.Mark() != marks[19] {
			t.Errorf("the log ends at %+v, want %+v", f.Mark(), marks[19])
		}
		for _, in := range []Reader{f.Reader(), l.Reader()} {
			for n, r := range records {
				got, err := in.Record(r.Position, len(r.Content))
				must(t, err)
				if !reflect.DeepEqual(got, r) {
					t.Errorf("record %d is %+v, want %+v", n, got, r)
				}
			}
			var ranges []Range
			var want []byte
			for n := range slices.Backward(records) { // any order, any part
				ranges = append(ranges, Range{records[n].Position + HeaderBytes + 3, len(content(n)) - 5})
				want = append(want, content(n)[3:len(content(n))-2]...)
			}
			if got, err := in.Append([]byte("before"), ranges...); err != nil || !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("ranges: %x, %v", got, err)
			}
		}
		// From any record on, and from the end.
		for n, r := range records {
			_, rest, err := inspect(o, r.Position, marks[19])
			must(t, err)
			if len(rest) != len(records)-n || !reflect.DeepEqual(rest[0], r) {
				t.Errorf("from record %d on there are %d records, want %d", n, len(rest), len(records)-n)
			}
		}
		if _, rest, err := inspect(o, marks[19].End, marks[19]); err != nil || rest != nil {
			t.Errorf("behind the end there are %v, %v", rest, err)
		}
		must(t, l.Close())
		l = open(t, o)
	}
	if _, err := l.Append(t.Context(), nil, Entry{Kind: 7}); err != nil {
		t.Fatal(err)
	}
	if want := marks[19].Group + 1; l.Mark().Group != want {
		t.Errorf("group %d, want %d", l.Mark().Group, want)
	}
}

func TestAReaderRefusesWhatTheLogDoesNotHave(t *testing.T) {
	o := options(t.TempDir())
	l := open(t, o)
	in := l.Reader()
	if _, err := in.Append(nil, Range{0, 1}); !errors.Is(err, sqlitefile.ErrCorrupt) {
		t.Errorf("an empty log: %v", err)
	}
	marks := fill(t, l, 20)
	in = l.Reader()
	end := marks[19].End
	for _, at := range []Range{{end, 1}, {end - 1, 2}, {-1, 1}, {0, 1 << 30}, {10, -1}} {
		if _, err := in.Append(nil, at); !errors.Is(err, sqlitefile.ErrCorrupt) {
			t.Errorf("%+v: %v", at, err)
		}
	}
	if _, err := in.Record(headerBytes+1, 10); !errors.Is(err, sqlitefile.ErrCorrupt) {
		t.Errorf("a record that begins elsewhere: %v", err)
	}
	must(t, os.Remove(segmentFiles(t, o.Dir)[0]))
	if _, err := in.Append(nil, Range{headerBytes, 1}); !errors.Is(err, sqlitefile.ErrCorrupt) {
		t.Errorf("a segment that was removed: %v", err)
	}
}

func TestManyCallersShareGroups(t *testing.T) {
	o := options(t.TempDir())
	o.SegmentBytes = 1 << 20
	l := open(t, o)
	var mu sync.Mutex
	told := map[int64]string{}
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("%d/%d", caller, i)
				durable := func(positions []int64) {
					if l.Mark().End > positions[0] {
						t.Error("the mark covers a record before its caller is told")
					}
					mu.Lock()
					defer mu.Unlock()
					told[positions[0]] = name
				}
				if _, err := l.Append(t.Context(), durable, Entry{Kind: 1, Content: [][]byte{[]byte(name)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, records, err := inspect(o, 0, l.Mark())
	must(t, err)
	if len(records) != 400 {
		t.Fatalf("%d records, want 400", len(records))
	}
	for _, r := range records {
		if told[r.Position] != string(r.Content) {
			t.Errorf("the record at %d is %s, and its caller was told of %s", r.Position, r.Content, told[r.Position])
		}
	}
	must(t, l.Close())
	if _, err := l.Append(t.Context(), nil, Entry{}); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
}

// Wherever the last group is cut, and whichever of its bytes did not reach the disk, the log is
// that before the group, or after it.
//
// Promise 12.
func TestALossOfPowerLeavesWholeGroups(t *testing.T) {
	o := options(t.TempDir())
	o.SegmentBytes = 1 << 20
	l := open(t, o)
	marks := fill(t, l, 9) // the last has three records
	before, after := marks[7], marks[8]
	try := func(name string, change func([]byte) []byte) {
		t.Helper()
		torn := o
		torn.Dir = copyOf(t, o.Dir)
		path := segmentFiles(t, torn.Dir)[0]
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, change(b), 0o600))
		for _, known := range []Mark{{}, marks[4], before} {
			f, records, err := inspect(torn, 0, known)
			if err != nil {
				t.Fatalf("%s, known %+v: %v", name, known, err)
			}
			isFilled(t, records, recordsOf(8))
			if f.Mark() != before {
				t.Fatalf("%s: the log ends at %+v, want %+v", name, f.Mark(), before)
			}
		}
		// It goes on as if the group had never been, also through another loss.
		again := open(t, torn)
		_, err = again.Append(t.Context(), nil, Entry{Kind: byte(recordsOf(8)), Content: [][]byte{content(recordsOf(8))}})
		must(t, err)
		_, records, err := inspect(torn, 0, again.Mark())
		must(t, err)
		isFilled(t, records, recordsOf(8)+1)
	}
	for cut := before.End; cut < after.End; cut += 7 {
		try(fmt.Sprintf("cut at %d", cut), func(b []byte) []byte { return b[:cut] })
		try(fmt.Sprintf("zeros from %d", cut), func(b []byte) []byte { clear(b[cut:]); return b })
		try(fmt.Sprintf("zeros at %d, more behind", cut), func(b []byte) []byte { clear(b[cut:min(cut+7, after.End)]); return b })
	}
	try("zeros behind a cut", func(b []byte) []byte { return append(b[:before.End+5], make([]byte, 4096)...) })
}

// Bytes that were durable and changed are reported, or their group is taken for the one under way.
// They are never read as something else.
//
// Promise 21.
func TestDamageIsNotReadAsSomethingElse(t *testing.T) {
	o := options(t.TempDir())
	l := open(t, o)
	marks := fill(t, l, 12)
	files := segmentFiles(t, o.Dir)
	for i, path := range files {
		whole, err := os.ReadFile(path)
		must(t, err)
		for at := 0; at < len(whole); at += 3 {
			b := slices.Clone(whole)
			b[at] ^= 0x10
			must(t, os.WriteFile(path, b, 0o600))
			if _, _, err := inspect(o, 0, marks[11]); !errors.Is(err, sqlitefile.ErrCorrupt) && !errors.Is(err, sqlitefile.ErrWrongChain) && !errors.Is(err, sqlitefile.ErrNewerSchema) {
				t.Fatalf("byte %d of segment %d is changed: %v", at, i, err)
			}
			f, records, err := inspect(o, 0, Mark{})
			if err == nil {
				// No record of a later group follows.
				if f.Mark() != marks[10] {
					t.Fatalf("byte %d of segment %d is changed: the log ends at %+v", at, i, f.Mark())
				}
				isFilled(t, records, recordsOf(11))
			}
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
}

// Promise 21.
func TestLogsThatAreRefusedAreNotChanged(t *testing.T) {
	o := options(t.TempDir())
	l := open(t, o)
	marks := fill(t, l, 20)
	must(t, l.Close())
	known := marks[19]
	older := options(t.TempDir())
	fill(t, open(t, older), 3)
	for name, tt := range map[string]struct {
		change func(dir string, files []string)
		want   error
		known  Mark
	}{
		"another chain": {func(dir string, files []string) {
			foreign := options(dir)
			foreign.Identity[0]++
			b, err := os.ReadFile(files[1])
			must(t, err)
			copy(b, foreign.header(marks[0].End, 1, 1))
			must(t, os.WriteFile(files[0], b, 0o600))
		}, sqlitefile.ErrWrongChain, known},
		"a newer version": {func(_ string, files []string) {
			b, err := os.ReadFile(files[0])
			must(t, err)
			b[11] = formatVersion + 1
			binary.BigEndian.PutUint32(b[headerBytes-4:], crc32.Checksum(b[:headerBytes-4], castagnoli))
			must(t, os.WriteFile(files[0], b, 0o600))
		}, sqlitefile.ErrNewerSchema, known},
		"the first segment is missing":  {func(_ string, files []string) { must(t, os.Remove(files[0])) }, sqlitefile.ErrCorrupt, known},
		"a segment is missing":          {func(_ string, files []string) { must(t, os.Remove(files[1])) }, sqlitefile.ErrCorrupt, known},
		"the last segment is missing":   {func(_ string, files []string) { must(t, os.Remove(files[len(files)-1])) }, sqlitefile.ErrCorrupt, known},
		"all segments are missing":      {func(_ string, files []string) { must(t, errors.Join(slices.Collect(removed(files))...)) }, sqlitefile.ErrCorrupt, known},
		"a segment is cut short":        {func(_ string, files []string) { must(t, os.Truncate(files[1], headerBytes+20)) }, sqlitefile.ErrCorrupt, Mark{}},
		"the last segment is cut short": {func(_ string, files []string) { must(t, os.Truncate(files[len(files)-1], headerBytes+30)) }, sqlitefile.ErrCorrupt, known},
		"a segment has another's name": {func(dir string, files []string) {
			must(t, os.Rename(files[1], filepath.Join(dir, "test-000000000000001.log")))
		}, sqlitefile.ErrCorrupt, Mark{}},
		"a name without a position": {func(dir string, files []string) { must(t, os.Rename(files[1], filepath.Join(dir, "test-x.log"))) }, sqlitefile.ErrCorrupt, Mark{}},
		"an older copy": {func(_ string, files []string) {
			must(t, errors.Join(slices.Collect(removed(files))...))
			b, err := os.ReadFile(segmentFiles(t, older.Dir)[0])
			must(t, err)
			must(t, os.WriteFile(files[0], b, 0o600))
		}, sqlitefile.ErrCorrupt, known},
	} {
		t.Run(name, func(t *testing.T) {
			changed := o
			changed.Dir = copyOf(t, o.Dir)
			tt.change(changed.Dir, segmentFiles(t, changed.Dir))
			before := segmentFiles(t, copyOf(t, changed.Dir))
			if _, _, err := inspect(changed, 0, tt.known); !errors.Is(err, tt.want) {
				t.Errorf("inspect: %v, want %v", err, tt.want)
			}
			after := segmentFiles(t, changed.Dir)
			if len(after) != len(before) {
				t.Fatalf("%d files, and %d before", len(after), len(before))
			}
			for i := range after {
				a, err := os.ReadFile(after[i])
				must(t, err)
				b, err := os.ReadFile(before[i])
				must(t, err)
				if !bytes.Equal(a, b) {
					t.Errorf("%s has changed", after[i])
				}
			}
		})
	}
}

func removed(files []string) func(func(error) bool) {
	return func(yield func(error) bool) {
		for _, f := range files {
			if !yield(os.Remove(f)) {
				return
			}
		}
	}
}

// The creation of a segment that was cut off anywhere is done again.
func TestASegmentWhoseCreationWasCutOffIsMadeAgain(t *testing.T) {
	for size := 0; size <= headerBytes; size += headerBytes / 4 {
		for _, whole := range []bool{false, true} {
			o := options(t.TempDir())
			l := open(t, o)
			marks := fill(t, l, 4)
			must(t, l.Close())
			b := make([]byte, size)
			if whole {
				copy(b, o.header(marks[3].End, marks[3].Group, 5))
			}
			must(t, os.WriteFile(o.fileName(marks[3].End), b, 0o600))
			f, records, err := inspect(o, 0, marks[3])
			must(t, err)
			isFilled(t, records, recordsOf(4))
			if f.Mark() != marks[3] {
				t.Fatalf("the log ends at %+v, want %+v", f.Mark(), marks[3])
			}
			l = open(t, o)
			_, err = l.Append(t.Context(), nil, Entry{Kind: byte(recordsOf(4)), Content: [][]byte{content(recordsOf(4))}})
			must(t, err)
			must(t, l.Close())
			_, records, err = inspect(o, 0, marks[3])
			must(t, err)
			isFilled(t, records, recordsOf(4)+1)
		}
	}
}

// FuzzTornEnd puts anything behind a log. The records from before are read, and nothing more unless
// it has the checksums.
func FuzzTornEnd(f *testing.F) {
	o := options(f.TempDir())
	o.SegmentBytes = 1 << 20
	l := open(f, o)
	marks := fill(f, l, 5)
	path := segmentFiles(f, o.Dir)[0]
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add([]byte{}, uint16(0))
	f.Add(whole[headerBytes:], uint16(3))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 1}, 30), uint16(60))
	f.Fuzz(func(t *testing.T, tail []byte, cut uint16) {
		end := max(int64(len(whole))-int64(cut), headerBytes)
		must(t, os.WriteFile(path, append(slices.Clone(whole[:end]), tail...), 0o600))
		found, records, err := inspect(o, 0, Mark{})
		if err != nil {
			if !errors.Is(err, sqlitefile.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		groups := 0
		for groups < len(marks) && marks[groups].End <= end {
			groups++
		}
		if found.Mark().End < headerBytes && groups > 0 || groups > 0 && found.Mark().End < marks[groups-1].End {
			t.Fatalf("the log ends at %+v, want at least %+v", found.Mark(), marks[groups-1])
		}
		isFilled(t, records[:recordsOf(groups)], recordsOf(groups))
	})
}
