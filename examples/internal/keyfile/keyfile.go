// Package keyfile reads the keys with which the examples sign.
package keyfile

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// Read reads an Ed25519 key in PKCS #8 and PEM. The form is that of diseq submit --sign-with.
func Read(path string) (ed25519.PrivateKey, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(content); block != nil {
		parsed, _ := x509.ParsePKCS8PrivateKey(block.Bytes) // nil after an error
		if key, ok := parsed.(ed25519.PrivateKey); ok {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s has no Ed25519 key in PEM; openssl genpkey -algorithm ed25519 makes one", path)
}
