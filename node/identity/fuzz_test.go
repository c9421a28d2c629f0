package identity

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// FuzzParse reads what a disk, or whoever edits a Secret, may hold: what is taken is written again
// as what is read back, the public file is of the secret ones, and no error shows a secret.
//
// Promise 37.
func FuzzParse(f *testing.F) {
	id, err := New()
	if err != nil {
		f.Fatal(err)
	}
	files, err := id.Files("a")
	if err != nil {
		f.Fatal(err)
	}
	signing, secret, public := files[SigningKeyFile], files[VRFKeyFile], files[PublicFile]
	f.Add(signing, secret, public, true)
	f.Add(signing, secret, []byte(nil), false)
	f.Add(append([]byte("header\n"), signing...), bytes.ToUpper(secret), []byte(`{"public_key":"`), true)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), []byte("00"), []byte("null"), true)
	f.Fuzz(func(t *testing.T, signing, secret, public []byte, named bool) {
		in := map[string][]byte{SigningKeyFile: signing, VRFKeyFile: secret}
		if named {
			in[PublicFile] = public
		}
		id, err := Parse(in)
		if err != nil {
			for _, hidden := range [][]byte{signing, secret} {
				text := strings.TrimSpace(string(hidden))
				if len(text) >= 16 && strings.Contains(err.Error(), text) && !bytes.Contains(public, []byte(text)) {
					t.Errorf("error %q shows %q", err, text)
				}
			}
			return
		}
		var said chain.PublicIdentity
		if named && (json.Unmarshal(public, &said) != nil || said.Validator().Validator != id.Public()) {
			t.Errorf("%s of other keys was taken: %s", PublicFile, public)
		}
		again, err := id.Files(said.Name)
		if err != nil {
			t.Fatal(err)
		}
		other, err := Parse(again)
		if err != nil || !reflect.DeepEqual(other, id) {
			t.Errorf("written and read again it is %v, want %v: %v", other, id, err)
		}
	})
}
