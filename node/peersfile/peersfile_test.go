package peersfile

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

func hexOf(b string) string { return "'" + strings.Repeat(b, 32) + "'" }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileDeclaresATargetAndACheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peers.yaml")
	peers := "peers:\n- {name: a, public_key: " + hexOf("06") + ", vote_store: true, named_for: 4294967295}\n"
	target := "target:\n  follows: 3\n  threshold: 1\n  validators:\n  - {name: a, public_key: " + hexOf("06") + ", vrf_key: " + hexOf("0b") + "}\n"
	checkpoint := "checkpoint: {height: 120, hash: " + hexOf("0c") + "}\n"
	write(t, path, peers+target+checkpoint)
	file, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	member := chain.NamedValidator{Name: "a"}
	for i := range 32 {
		member.PublicKey[i], member.VRFKey[i] = 6, 11
	}
	if got := file.Target; got == nil || got.Follows != 3 || got.Threshold != 1 || len(got.Validators) != 1 || got.Validators[0] != member {
		t.Errorf("target %+v", got)
	}
	if got := file.TrustedUpTo(); got.Height != 120 || got.Hash[0] != 12 {
		t.Errorf("checkpoint %+v", got)
	}
	if !file.MadeVoteStore(member.PublicKey) || len(file.Keys()) != 1 || file.Peers[0].NamedFor != 4294967295 {
		t.Errorf("peers %+v", file.Peers)
	}
	write(t, path, peers)
	if file, err := Read(path); err != nil || file.Target != nil || file.TrustedUpTo() != (chain.Checkpoint{}) {
		t.Errorf("without target and checkpoint: %+v, %v", file, err)
	}
	for content, want := range map[string]string{
		"peers: [{name: a, public_key: '01" + strings.Repeat("00", 31) + "'}]\n":                        "peers[0].public_key",
		"peers: [{name: a, public_key: '02" + strings.Repeat("00", 31) + "'}]\n":                        "no point",
		peers + "target: {follows: 0, threshold: 1, validators: [], delta: 5}\n":                        "delta",
		peers + "target: {follows: -1, threshold: 1, validators: []}\n":                                 "/target/follows",
		peers + "checkpoint: {height: 0, hash: " + hexOf("0c") + "}\n":                                  "from 1 on",
		peers + "checkpoint: {height: 5, hash: " + hexOf("00") + "}\n":                                  "from 1 on",
		peers + "checkpoint: {height: 5, hash: 0c}\n":                                                   "/checkpoint/hash",
		peers + "target: {validators: [" + strings.Repeat("{name: a},", chain.MaxValidators+1) + "]}\n": "101 validators",
	} {
		write(t, path, content)
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.150s: %v, want %q", content, err, want)
		}
	}
}

// lines are a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// A change of the file is taken over without a restart. A file that cannot be read changes nothing.
func TestAChangedFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "peers.yaml")
		write(t, path, "peers: []\n")
		first, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		read, refused, ended := make(chan *File), make(lines), make(chan struct{})
		go func() {
			first.Watch(ctx, func(f *File) { read <- f }, slog.New(slog.NewTextHandler(refused, &slog.HandlerOptions{Level: slog.LevelError})))
			close(ended)
		}()
		later := time.Now()
		change := func(content string) {
			write(t, path, content)
			later = later.Add(time.Minute)
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
		}
		change("peers: nothing\n")
		if line := <-refused; !strings.Contains(line, "what it said before stays in force") {
			t.Errorf("logs %s", line)
		}
		change("peers: []\ncheckpoint: {height: 7, hash: " + hexOf("0c") + "}\n")
		if f := <-read; f.TrustedUpTo().Height != 7 {
			t.Errorf("read %+v", f)
		}
		cancel()
		<-ended
	})
}
