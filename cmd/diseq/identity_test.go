package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
)

// content returns every file under a directory with its mode.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = info.Mode().String() + string(b)
		return err
	}))
	return out
}

// Promise 15.
func TestInitMakesAnIdentityOnceWithItsVoteStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v0")
	printed := succeeds(t, "init", "--dir", dir)
	for file, want := range map[string]os.FileMode{
		"keys": 0o700 | fs.ModeDir, "keys/signing.key": 0o600, "keys/vrf.key": 0o600, "keys/public.json": 0o600, "data/votes.db": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, file))
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", file, info.Mode(), want)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "keys", "public.json"))
	must(t, err)
	var v chain.PublicIdentity
	must(t, json.Unmarshal(public, &v))
	id, err := identity.Load(filepath.Join(dir, "keys"))
	must(t, err)
	if v != id.Publish("v0", "") || printed != string(public) {
		t.Errorf("public.json is %s, printed was %s", public, printed)
	}
	if exists, err := store.VotesExist(filepath.Join(dir, "data")); !exists || err != nil {
		t.Errorf("vote store: %v, %v", exists, err)
	}
	observer := filepath.Join(t.TempDir(), "o0")
	succeeds(t, "init", "--dir", observer, "--observer")
	if exists, err := store.VotesExist(filepath.Join(observer, "data")); exists || err != nil {
		t.Errorf("vote store of an observer: %v, %v", exists, err)
	}
	if c, err := node.LoadConfig(filepath.Join(dir, "node.yaml")); err != nil || c.Name != "v0" || c.Keys != filepath.Join(dir, "keys") {
		t.Errorf("node.yaml: %+v, %v", c, err)
	}
	before := content(t, dir)
	fails(t, clientcmd.ExitFailure, "an identity is made once: use it, or name another --dir", "init", "--dir", dir)
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("a second init changed something")
	}
	must(t, os.RemoveAll(filepath.Join(dir, "keys")))
	before = content(t, dir)
	fails(t, clientcmd.ExitFailure, "belongs to another identity", "init", "--dir", dir)
	if !reflect.DeepEqual(content(t, dir), before) {
		t.Error("an init on another identity's vote store changed something")
	}
}

func TestInitTakesADirectoryRelativeToTheCurrentOne(t *testing.T) {
	t.Chdir(t.TempDir())
	current, err := os.Getwd()
	must(t, err)
	for dir, name := range map[string]string{"v0": "v0", "./a/v1/": "v1", ".": filepath.Base(current)} {
		if printed := succeeds(t, "init", "--dir", dir); !strings.Contains(printed, fmt.Sprintf(`"name": %q`, name)) {
			t.Errorf("%s: printed %s, want the name %q", dir, printed, name)
		}
		if exists, err := store.VotesExist(filepath.Join(dir, "data")); !exists || err != nil {
			t.Errorf("%s: vote store: %v, %v", dir, exists, err)
		}
		if _, err := identity.Load(filepath.Join(dir, "keys")); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// Promise 52.
func TestKeysThatOthersMayReadAreRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v0")
	succeeds(t, "init", "--dir", dir)
	keys := filepath.Join(dir, "keys")
	secret, err := os.ReadFile(filepath.Join(keys, "signing.key"))
	must(t, err)
	for _, file := range []string{"signing.key", "vrf.key"} {
		path := filepath.Join(keys, file)
		for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620} {
			must(t, os.Chmod(path, mode))
			if _, err := identity.Load(keys); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s with mode %v: %v", file, mode, err)
			}
		}
		must(t, os.Chmod(path, 0o400))
		_, err := identity.Load(keys)
		must(t, err)
		must(t, os.Chmod(path, 0o600))
	}
	for file, damaged := range map[string][]byte{
		"signing.key": append(secret, secret...), "vrf.key": []byte("1234"),
	} {
		path := filepath.Join(keys, file)
		good, err := os.ReadFile(path)
		must(t, err)
		for _, b := range [][]byte{damaged, nil, good[:len(good)/2], make([]byte, 10000)} {
			must(t, os.WriteFile(path, b, 0o600))
			if _, err := identity.Load(keys); err == nil || strings.Contains(err.Error(), string(good[:20])) {
				t.Errorf("damaged %s: %v", file, err)
			}
		}
		must(t, os.WriteFile(path, good, 0o600))
	}
	id, err := identity.Load(keys)
	must(t, err)
	seed := id.VRF.Bytes()
	for _, shown := range []string{printed("%v", id), printed("%+v", *id), printed("%#v", *id), printed("%s", id), printed("%x", *id)} {
		if strings.Contains(shown, string(seed[:])) || len(shown) > 100 {
			t.Errorf("printing an identity shows %q", shown)
		}
	}
}

func TestGenesisIsMadeOfIdentities(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"a", "b", "c"} {
		succeeds(t, "init", "--dir", filepath.Join(dir, name), "--name", name)
		files = append(files, filepath.Join(dir, name, "keys", "public.json"))
	}
	out := filepath.Join(dir, "genesis.json")
	args := append([]string{
		"genesis", "--chain-id", "my-chain", "--threshold", "2", "--beacon-interval", "1", "--min-block-interval", "5ms", "-o", out,
	}, files...)
	succeeds(t, args...)
	g, err := clientcmd.ReadGenesis(out)
	must(t, err)
	if g.ChainID != "my-chain" || g.Threshold != 2 || len(g.Validators) != 3 || g.Validators[2].Name != "c" ||
		g.Parameters.BeaconInterval != 1 || g.Parameters.MinBlockIntervalMS != 5 || g.TimeMS == 0 {
		t.Errorf("genesis %+v", g)
	}
	fails(t, clientcmd.ExitFailure, "exists", args...)
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"threshold 1", append([]string{"--chain-id", "c", "--threshold", "1"}, files...)},
		{"chain_id", append([]string{"--chain-id", "C!", "--threshold", "2"}, files...)},
		{"is named", append([]string{"--chain-id", "c", "--threshold", "2"}, files[0], files[0])},
		{"beacon_interval", append([]string{"--chain-id", "c", "--threshold", "2", "--beacon-interval", "0"}, files...)},
	} {
		fails(t, clientcmd.ExitUsage, tt.want, append([]string{"genesis"}, tt.args...)...)
	}
	fails(t, clientcmd.ExitFailure, "no such file", "genesis", "--chain-id", "c", "--threshold", "1", filepath.Join(dir, "none"))
	fails(t, clientcmd.ExitFailure, "public.json", "genesis", "--chain-id", "c", "--threshold", "1", out)
	public, err := os.ReadFile(files[0])
	must(t, err)
	two := filepath.Join(dir, "two.json")
	must(t, os.WriteFile(two, append(public, public...), 0o600))
	fails(t, clientcmd.ExitFailure, "something follows the document", "genesis", "--chain-id", "c", "--threshold", "1", two)
	var p chain.PublicIdentity
	must(t, json.Unmarshal(public, &p))
	unproven := p
	unproven.Proof = chain.Signature{}
	stolen := p
	stolen.Name = "b"
	for want, p := range map[string]chain.PublicIdentity{"diseq public": unproven, "the proof of b": stolen} {
		path := filepath.Join(dir, "other.json")
		raw, err := json.Marshal(p)
		must(t, err)
		must(t, os.WriteFile(path, raw, 0o600))
		fails(t, clientcmd.ExitFailure, want, "genesis", "--chain-id", "c", "--threshold", "1", path)
	}
	v := p.Validator()
	for i := range v.VRFKey {
		v.VRFKey[i] = 0xff // above the field's modulus
	}
	id, err := identity.Load(filepath.Join(dir, "a", "keys"))
	must(t, err)
	public, err = json.Marshal(chain.ProveIdentity(id.Signing, v, ""))
	must(t, err)
	noField := filepath.Join(dir, "no-field-element.json")
	must(t, os.WriteFile(noField, public, 0o600))
	fails(t, clientcmd.ExitFailure, "vrf_key", "genesis", "--chain-id", "c", "--threshold", "1", noField)
	one := succeeds(t, "genesis", "--chain-id", "c", "--threshold", "1", "--time-ms", "7", files[0])
	if one != succeeds(t, "genesis", "--chain-id", "c", "--threshold", "1", "--time-ms", "7", files[0]) {
		t.Error("the same call made two documents")
	}
}

// A public.json that is lost, or that an older version wrote, is made again from the keys.
func TestAPublicIdentityIsMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v0")
	printed := succeeds(t, "init", "--dir", dir)
	keys := filepath.Join(dir, "keys")
	if again := succeeds(t, "public", "--keys", keys); again != printed {
		t.Errorf("printed %s, want %s", again, printed)
	}
	must(t, os.Remove(filepath.Join(keys, "public.json")))
	fails(t, clientcmd.ExitUsage, "--name", "public", "--keys", keys)
	fails(t, clientcmd.ExitUsage, "1 to 63 bytes", "public", "--keys", keys, "--name", strings.Repeat("x", 64))
	fails(t, clientcmd.ExitUsage, "--keys is required", "public")
	if again := succeeds(t, "public", "--keys", keys, "--name", "v0"); again != printed {
		t.Errorf("printed %s, want %s", again, printed)
	}
	bound := filepath.Join(dir, "bound.json")
	must(t, os.WriteFile(bound, []byte(succeeds(t, "public", "--keys", keys, "--name", "v0", "--chain-id", "mine")), 0o600))
	succeeds(t, "genesis", "--chain-id", "mine", "--threshold", "1", bound)
	fails(t, clientcmd.ExitFailure, `published it for chain "mine"`, "genesis", "--chain-id", "other", "--threshold", "1", bound)
}
