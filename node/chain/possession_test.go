package chain

import (
	"errors"
	"strings"
	"testing"
)

// Promise 11.
func TestAnIdentityIsPublishedByItsOwner(t *testing.T) {
	n := newNetwork(t, 4, 3)
	own := ProveIdentity(n.keys[0], n.Validators[0], "")
	if err := own.Verify(n.ChainID); err != nil || own.Validator() != n.Validators[0] {
		t.Fatalf("%+v: %v", own, err)
	}
	for name, alter := range map[string]func(*PublicIdentity){
		"another name":             func(p *PublicIdentity) { p.Name = "v1" },
		"the VRF key of another":   func(p *PublicIdentity) { p.VRFKey = n.Validators[1].VRFKey },
		"the key of another":       func(p *PublicIdentity) { p.PublicKey = n.Validators[1].PublicKey },
		"a chain":                  func(p *PublicIdentity) { p.ChainID = n.ChainID },
		"a proof of another owner": func(p *PublicIdentity) { p.Proof = ProveIdentity(n.keys[1], n.Validators[0], "").Proof },
	} {
		p := own
		alter(&p)
		if err := p.Verify(n.ChainID); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bound := ProveIdentity(n.keys[0], n.Validators[0], "other")
	if err := bound.Verify("other"); err != nil {
		t.Error(err)
	}
	if err := bound.Verify(n.ChainID); err == nil || !strings.Contains(err.Error(), `for chain "other"`) {
		t.Errorf("published for another chain: %v", err)
	}
	p := own
	p.Proof = Signature{}
	if err := p.Verify(n.ChainID); err == nil || !strings.Contains(err.Error(), "diseq public") {
		t.Errorf("without a proof: %v", err)
	}
	// A constant proves the possession of a weak key.
	p.PublicKey, p.Proof = PublicKey{1}, Signature{1}
	if err := p.Verify(n.ChainID); err == nil || !strings.Contains(err.Error(), "small order") {
		t.Errorf("a weak key: %v", err)
	}
}
