package chain

import (
	"fmt"
	"slices"
)

// MinSynchronyDeltaMS and MaxSynchronyDeltaMS bound the synchrony wait's Delta. Below the least, a
// garbage collection is a breach.
const (
	MinSynchronyDeltaMS = 10
	MaxSynchronyDeltaMS = 60_000
)

// MaxValidators is the largest size of a validator set.
const MaxValidators = 100

// Validator is one member of a validator set: an identity that signs and a key that the beacon's
// reveals are proved for.
type Validator struct {
	PublicKey PublicKey `json:"public_key"`
	VRFKey    VRFKey    `json:"vrf_key"`
}

// ValidatorSet holds the validators that decide a height, and how many of them it takes. A
// validator is named by its index in the set.
type ValidatorSet struct {
	// Generation is 0 for the set of the genesis document and one more with each change.
	Generation uint32      `json:"generation"`
	Validators []Validator `json:"validators"`
	// Threshold is the number of votes of a certificate: more than half of the validators.
	Threshold uint32 `json:"threshold"`
	// SynchronyDeltaMS is the synchrony wait's Delta in milliseconds; 0 turns the wait off.
	SynchronyDeltaMS uint32 `json:"synchrony_delta_ms"`
}

// Validate checks what [ValidatorSet.CheckForm] checks, that each public key is one that an owner
// can have (see [PublicKey.Validate]), and that each VRF key is a field element. It takes about 33
// µs for each validator.
func (s *ValidatorSet) Validate() error {
	if err := s.CheckForm(); err != nil {
		return err
	}
	for i, v := range s.Validators {
		if err := v.PublicKey.Validate(); err != nil {
			return fmt.Errorf("validator %d has the public key %v: %w", i, v.PublicKey, err)
		}
		if !v.VRFKey.wellFormed() {
			return fmt.Errorf("validator %d has VRF key %v, at or above the order of the field", i, v.VRFKey)
		}
	}
	return nil
}

// CheckForm checks the size, the threshold (n/2 < t <= n), the synchrony wait's Delta and that no
// key is there twice. For a set that is validated already, it is enough.
func (s *ValidatorSet) CheckForm() error {
	n := len(s.Validators)
	if n < 1 || n > MaxValidators {
		return fmt.Errorf("validator set of %d, allowed are 1 to %d", n, MaxValidators)
	}
	if t := int(min(s.Threshold, MaxValidators+1)); 2*t <= n || t > n {
		return fmt.Errorf("threshold %d with %d validators, allowed are %d to %d", s.Threshold, n, n/2+1, n)
	}
	if d := s.SynchronyDeltaMS; d != 0 && (d < MinSynchronyDeltaMS || d > MaxSynchronyDeltaMS) {
		return fmt.Errorf("synchrony_delta_ms %d, allowed are 0, which turns the synchrony wait off, and %d to %d",
			d, MinSynchronyDeltaMS, MaxSynchronyDeltaMS)
	}
	keys := make(map[[32]byte]int, 2*n)
	for i, v := range s.Validators {
		for _, key := range [][32]byte{v.PublicKey, v.VRFKey} {
			if key == [32]byte{} {
				return fmt.Errorf("validator %d has an empty key", i)
			}
			if j, ok := keys[key]; ok {
				return fmt.Errorf("validators %d and %d share the key %x", j, i, key)
			}
			keys[key] = i
		}
	}
	return nil
}

// Index returns the index of the validator with that key, or -1.
func (s *ValidatorSet) Index(key PublicKey) int {
	return slices.IndexFunc(s.Validators, func(v Validator) bool { return v.PublicKey == key })
}

// Hash covers the generation, the keys, the VRF keys, the threshold and the synchrony delta: all
// that a reader needs to check a certificate of the set.
func (s *ValidatorSet) Hash() Hash { return digest("diseq/validators", s.append(nil)) }

func (s *ValidatorSet) append(b []byte) []byte {
	b = appendU32(b, s.Generation)
	b = appendU32(b, s.Threshold)
	b = appendU32(b, s.SynchronyDeltaMS)
	b = appendU32(b, uint32(len(s.Validators)))
	for _, v := range s.Validators {
		b = append(b, v.PublicKey[:]...)
		b = append(b, v.VRFKey[:]...)
	}
	return b
}
