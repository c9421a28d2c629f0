// Command setup writes the keys of package vrf, derived from the points of the
// Ethereum KZG ceremony: go generate in node/vrf runs it. The same bytes come
// out each time; a test of package vrf holds that.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/diseq/diseq/node/vrf/internal/ceremony"
	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

func main() {
	if err := run("keys"); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	path, err := ceremony.Path()
	if err != nil {
		return err
	}
	srs, err := ceremony.Load(path)
	if err != nil {
		return err
	}
	pk, vk, err := ceremony.DeriveKeys(srs)
	if err != nil {
		return err
	}
	proving, err := circuit.MarshalProvingKey(pk)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "proving.key"), proving, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "verifying.key"), circuit.MarshalVerifyingKey(vk), 0o644)
}
