package e2e

import (
	"crypto/sha256"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// KeySecret identifies a validator's keys without showing them.
type KeySecret struct {
	UID    types.UID
	Digest string
}

// Secrets returns the key Secrets of all validators.
func (n *Network) Secrets() []KeySecret {
	n.tb.Helper()
	out := make([]KeySecret, n.Validators)
	for k := range out {
		var s corev1.Secret
		must(n.tb, n.Get(n.tb.Context(), n.key(n.ValidatorName(k)), &s))
		digest := sha256.New()
		for _, key := range []string{"signing.key", "vrf.key", "public.json"} {
			if len(s.Data[key]) == 0 {
				n.tb.Errorf("Secret %s has no %s", s.Name, key)
			}
			fmt.Fprintf(digest, "%s %d %s", key, len(s.Data[key]), s.Data[key])
		}
		if s.Immutable == nil || !*s.Immutable {
			n.tb.Errorf("Secret %s is not immutable", s.Name)
		}
		out[k] = KeySecret{s.UID, fmt.Sprintf("%x", digest.Sum(nil)[:8])}
	}
	return out
}

// CheckSecrets fails the test if a validator has other keys than before: the chain would have lost
// that validator.
func (n *Network) CheckSecrets(before []KeySecret) {
	n.tb.Helper()
	if now := n.Secrets(); !slices.Equal(now, before) {
		n.tb.Errorf("the key Secrets of %s were %v, they are %v", n.Name, before, now)
	}
}
