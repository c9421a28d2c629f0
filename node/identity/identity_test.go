package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

func newIdentity(t *testing.T) *Identity {
	t.Helper()
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func filesOf(t *testing.T, id *Identity, name string) map[string][]byte {
	t.Helper()
	files, err := id.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func equal(a, b *Identity) bool { return a.Signing.Equal(b.Signing) && a.VRF == b.VRF }

func TestIdentitiesAreDrawnAnew(t *testing.T) {
	a, b := newIdentity(t), newIdentity(t)
	if a.Public().PublicKey == b.Public().PublicKey || a.Public().VRFKey == b.Public().VRFKey {
		t.Error("two new identities share a key")
	}
}

func TestParseIsTheInverseOfFiles(t *testing.T) {
	id := newIdentity(t)
	files := filesOf(t, id, "v0")
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, []string{PublicFile, SigningKeyFile, VRFKeyFile}) {
		t.Errorf("files %v", got)
	}
	var public chain.PublicIdentity
	if err := json.Unmarshal(files[PublicFile], &public); err != nil || public != id.Publish("v0", "") || public.Verify("any") != nil {
		t.Errorf("public.json is %s: %v", files[PublicFile], err)
	}
	// Secrets that were made before there was a proof are there still.
	unproven, err := json.Marshal(chain.NamedValidator{Name: "v0", Validator: id.Public()})
	if err != nil {
		t.Fatal(err)
	}
	old := maps.Clone(files)
	old[PublicFile] = unproven
	if again, err := Parse(old); err != nil || !equal(again, id) {
		t.Errorf("with a public.json without a proof: %v, %v", again, err)
	}
	for _, missing := range []string{"", PublicFile} {
		some := maps.Clone(files)
		delete(some, missing)
		again, err := Parse(some)
		if err != nil || !equal(again, id) {
			t.Errorf("without %q: %v, %v", missing, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	id := newIdentity(t)
	files, other := filesOf(t, id, "v0"), filesOf(t, newIdentity(t), "v0")
	signing, vrfKey := files[SigningKeyFile], files[VRFKeyFile]
	for name, c := range map[string]struct {
		file    string
		content []byte // nil: the file is missing
		want    string
	}{
		"no signing key":            {SigningKeyFile, nil, "signing.key is missing"},
		"no VRF key":                {VRFKeyFile, nil, "vrf.key is missing"},
		"empty signing key":         {SigningKeyFile, []byte{}, "signing.key: want one PEM block"},
		"half a signing key":        {SigningKeyFile, signing[:len(signing)/2], "signing.key: want one PEM block"},
		"two signing keys":          {SigningKeyFile, append(bytes.Clone(signing), signing...), "signing.key: want one PEM block"},
		"a PEM block of rubbish":    {SigningKeyFile, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "no Ed25519 key"},
		"half a VRF key":            {VRFKeyFile, vrfKey[:32], "vrf.key: "},
		"a VRF key that is no hex":  {VRFKeyFile, append([]byte("zz"), vrfKey[2:]...), "vrf.key: want 64 hex digits"},
		"a VRF key too large":       {VRFKeyFile, bytes.Repeat([]byte("f"), 64), "vrf.key: "},
		"another signing key":       {SigningKeyFile, other[SigningKeyFile], "public.json names the keys"},
		"another VRF key":           {VRFKeyFile, other[VRFKeyFile], "public.json names the keys"},
		"another public.json":       {PublicFile, other[PublicFile], "public.json names the keys"},
		"a public.json of nothing":  {PublicFile, []byte("{}"), "public.json names the keys"},
		"a public.json of no JSON":  {PublicFile, []byte("name: v0"), "public.json: "},
		"a public.json with no hex": {PublicFile, []byte(`{"name":"v0","public_key":"x"}`), "public.json: "},
	} {
		changed := maps.Clone(files)
		changed[c.file] = c.content
		if c.content == nil {
			delete(changed, c.file)
		}
		_, err := Parse(changed)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), string(vrfKey[:20])) || strings.Contains(err.Error(), string(signing[40:60]))) {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

func TestADirectoryIsWrittenOnceAndReadBack(t *testing.T) {
	id := newIdentity(t)
	dir := filepath.Join(t.TempDir(), "keys")
	// An earlier try was cut off and left this.
	if err := os.MkdirAll(dir+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir+".new", SigningKeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := id.Write(dir, "v0"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left beside the directory: %v", err)
	}
	for file, want := range filesOf(t, id, "v0") {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", file, len(got), len(want), err)
		}
	}
	again, err := Load(dir)
	if err != nil || !equal(again, id) {
		t.Errorf("loaded %v, %v, want %v", again, err, id)
	}
	if err := newIdentity(t).Write(dir, "v0"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second Write: %v", err)
	}
	if again, err = Load(dir); err != nil || !equal(again, id) {
		t.Errorf("after a refused Write: %v, %v", again, err)
	}
}

// In a pod the files belong to root and to the group of the volumes, and the node may be any user:
// a platform assigns its ids, with 0 as the primary group.
func TestKeysAreReadByAnyUserOfTheirGroup(t *testing.T) {
	for _, tt := range []struct {
		owner, process int64
		mode           os.FileMode
		want           bool
	}{
		{0, 65532, 0o440, true},
		{0, 1000650000, 0o440, true},
		{0, 1000650000, 0o640, true},
		{0, 1000650000, 0o444, false},
		{0, 1000650000, 0o460, false},
		{1000650000, 1000650000, 0o600, true},
		{1000650000, 1000650000, 0o440, false},
		{0, 0, 0o440, false},
	} {
		if got := tt.mode&forbidden(tt.owner, tt.process) == 0; got != tt.want {
			t.Errorf("a file of %d with mode %04o is read by %d: %v", tt.owner, tt.mode, tt.process, got)
		}
	}
}

func TestLoadSaysWhichFileIsDamaged(t *testing.T) {
	for file, damaged := range map[string][]byte{SigningKeyFile: []byte("x"), VRFKeyFile: []byte("1234")} {
		dir := filepath.Join(t.TempDir(), "keys")
		if err := newIdentity(t).Write(dir, "v0"); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "identity: "+path) {
			t.Errorf("damaged %s: %v", path, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing %s: %v", path, err)
		}
	}
}

func TestAnIdentityIsNeverShown(t *testing.T) {
	id := newIdentity(t)
	scalar, seed := id.VRF.Bytes(), id.Signing.Seed()
	files := filesOf(t, id, "v0")
	type holder struct{ Key *Identity }
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+" "+verb+" "+verb+" "+verb+"\n", id, *id, []Identity{*id}, struct{ Key Identity }{*id})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(h).Info("start", "identity", id, "value", *id, "inside", holder{id}, "list", []*Identity{id})
	}
	if encoded, err := json.Marshal(holder{id}); err == nil {
		t.Errorf("an identity was encoded: %s", encoded)
	}
	if !strings.Contains(shown.String(), id.Public().PublicKey.String()) {
		t.Error("the public key was not printed either: nothing was tested")
	}
	for _, secret := range [][]byte{scalar[:], seed} {
		for _, form := range []string{
			string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), strings.Trim(fmt.Sprintf("%d", secret[:16]), "[]"),
		} {
			if strings.Contains(shown.String(), form) {
				t.Errorf("%q was printed", form)
			}
		}
	}
	for _, file := range []string{SigningKeyFile, VRFKeyFile} {
		if strings.Contains(shown.String(), strings.TrimSpace(string(files[file]))) {
			t.Errorf("the content of %s was printed", file)
		}
	}
}
