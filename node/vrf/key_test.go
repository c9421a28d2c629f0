package vrf

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

func newKey(t *testing.T) SecretKey {
	t.Helper()
	sk, err := NewSecretKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sk
}

func TestSecretKeySurvivesStorage(t *testing.T) {
	sk := newKey(t)
	raw := sk.Bytes()
	again, err := ParseSecretKey(raw[:])
	if err != nil {
		t.Fatal(err)
	}
	if again != sk || again.Public() != sk.Public() {
		t.Error("the parsed key is another one")
	}
}

func TestParseSecretKeyRefuses(t *testing.T) {
	var modulus [32]byte
	fr.Modulus().FillBytes(modulus[:])
	for name, raw := range map[string][]byte{
		"nil": nil, "short": make([]byte, 31), "long": make([]byte, 33), "zero": make([]byte, 32),
		"modulus": modulus[:], "all ones": bytes.Repeat([]byte{0xff}, 32),
	} {
		_, err := ParseSecretKey(raw)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
		if err != nil && len(raw) == 32 && strings.Contains(err.Error(), hex.EncodeToString(raw)) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestNewSecretKeyIsRejectionSampled(t *testing.T) {
	// The first block is not below the modulus even without its highest bit, the
	// second is zero, the third is a key.
	want := newKey(t).Bytes()
	random := bytes.NewReader(bytes.Join([][]byte{bytes.Repeat([]byte{0xff}, 32), make([]byte, 32), want[:]}, nil))
	sk, err := NewSecretKey(random)
	if err != nil {
		t.Fatal(err)
	}
	if sk.Bytes() != want {
		t.Error("the key is not the first block below the modulus")
	}
}

func TestNewSecretKeyReportsABrokenSource(t *testing.T) {
	broken := errors.New("no entropy")
	if _, err := NewSecretKey(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if _, err := NewSecretKey(bytes.NewReader(make([]byte, 1<<16))); err == nil {
		t.Error("a source of zeros gave a key")
	}
}

// Promise 52.
func TestSecretKeyIsNeverPrinted(t *testing.T) {
	sk := newKey(t)
	raw := sk.Bytes()
	secrets := []string{
		hex.EncodeToString(raw[:]), strings.ToUpper(hex.EncodeToString(raw[:])),
		string(raw[:]), sk.k.String(), fmt.Sprint(sk.k[0]), fmt.Sprintf("%x", sk.k[0]),
	}
	type holder struct {
		Name string
		Key  SecretKey
		Ptr  *SecretKey
	}
	var printed bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%e", "%c", "%U", "%t", "%z"} {
		fmt.Fprintf(&printed, verb+" "+verb+" "+verb+"\n", sk, &sk, []SecretKey{sk})
		fmt.Fprintf(&printed, verb+"\n", holder{"a", sk, &sk})
	}
	fmt.Fprintln(&printed, sk, fmt.Errorf("key %v", sk), sk.String(), sk.GoString())
	for _, h := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
		slog.New(h).Info("start", "key", sk, "pointer", &sk, "inside", holder{"a", sk, &sk})
	}
	encoded, err := json.Marshal(holder{"a", sk, &sk})
	if err != nil {
		t.Fatal(err)
	}
	printed.Write(encoded)
	for _, secret := range secrets {
		if strings.Contains(printed.String(), secret) {
			t.Errorf("%q was printed", secret)
		}
	}
	if !strings.Contains(printed.String(), redacted) {
		t.Error("the fixed text was not printed either: nothing was tested")
	}
}
