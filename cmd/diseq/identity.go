package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/vrf"
)

func newInit() *cobra.Command {
	var dir, name string
	var observer bool
	cmd := &cobra.Command{
		Use:   "init --dir DIR --name NAME",
		Short: "Make the identity of a new validator, and its vote store",
		Long: `Make the identity of a new validator. DIR/keys gets its two secret keys (files 0600) and public.json, which goes into a genesis
document. DIR/data gets its vote store, and DIR/node.yaml is a configuration to start from.

An identity is made once. The vote store records every vote of the validator, so that it never signs the opposite. It is made here,
together with the identity, and never again. A validator that lost its vote store rejoins by itself. Never start one with a copy of a
vote store, or with an empty one in its place: it can break the chain's agreement.

With --observer no vote store is made: the node serves readers, and is not a validator. A node with a vote store is ready for clients only
while it is in the validator set.

If DIR has an identity already, the command changes nothing and fails.`,
		Example: "  diseq init --dir ./v0 --name v0\n  diseq genesis --chain-id my-chain --threshold 3 -o genesis.json v*/keys/public.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return clientcmd.Usagef("--dir is required")
			}
			// SQLite would take the first part of a relative path for a host.
			dir, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			if name == "" {
				name = filepath.Base(dir)
			}
			if _, err := initIdentity(dir, name, !observer); err != nil {
				return err
			}
			if err := writeStarter(dir, name); err != nil {
				return err
			}
			public, err := readPublic(filepath.Join(dir, "keys", identity.PublicFile))
			if err != nil {
				return err
			}
			return clientcmd.PrintJSON(cmd.OutOrStdout(), public)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the node's directory")
	cmd.Flags().StringVar(&name, "name", "", "the validator's name, for people; by default the name of the directory")
	cmd.Flags().BoolVar(&observer, "observer", false, "make no vote store: the node is to be an observer")
	return cmd
}

func newPublic() *cobra.Command {
	var keys, name, chainID string
	cmd := &cobra.Command{
		Use:   "public --keys DIR",
		Short: "Print the public.json of an identity",
		Long: `Print the name and the public keys of an identity, with a proof that the owner of the keys made it. Genesis documents and targets
are made of it. diseq init prints the same. Use this command if public.json is lost, or was made before there was a proof.

With --chain-id the proof is for that chain. Nobody can then name the identity in the genesis document of another one.`,
		Example: "  diseq public --keys v0/keys > v0.json\n  diseq public --keys v0/keys --name v0 --chain-id my-chain",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keys == "" {
				return clientcmd.Usagef("--keys is required")
			}
			id, err := identity.Load(keys)
			if err != nil {
				return err
			}
			if name == "" {
				public, err := readPublic(filepath.Join(keys, identity.PublicFile))
				if errors.Is(err, os.ErrNotExist) {
					return clientcmd.Usagef("%s is not there: say the validator's name with --name", filepath.Join(keys, identity.PublicFile))
				}
				if err != nil {
					return err
				}
				name = public.Name
			}
			if len(name) > 63 {
				return clientcmd.Usagef("name %q: want 1 to 63 bytes", name)
			}
			return clientcmd.PrintJSON(cmd.OutOrStdout(), id.Publish(name, chainID))
		},
	}
	cmd.Flags().StringVar(&keys, "keys", "", "the directory with the keys of the identity")
	cmd.Flags().StringVar(&name, "name", "", "the validator's name; by default that of public.json")
	cmd.Flags().StringVar(&chainID, "chain-id", "", "the chain that the identity is for; by default any")
	return cmd
}

// initValidator makes keys and vote store under dir.
func initValidator(dir, name string) (chain.NamedValidator, error) {
	return initIdentity(dir, name, true)
}

// initIdentity makes keys under dir and, for a node that is to vote, the vote store. The vote store
// comes first: an identity without one could not vote.
func initIdentity(dir, name string, votes bool) (chain.NamedValidator, error) {
	keys, data := filepath.Join(dir, "keys"), filepath.Join(dir, "data")
	if _, err := os.Lstat(keys); !errors.Is(err, os.ErrNotExist) {
		return chain.NamedValidator{}, errors.Join(fmt.Errorf("%s exists: an identity is made once: use it, or name another --dir", keys), err)
	}
	if c := (&chain.NamedValidator{Name: name}); c.Name == "" || len(c.Name) > 63 {
		return chain.NamedValidator{}, clientcmd.Usagef("name %q: want 1 to 63 bytes", name)
	}
	id, err := identity.New()
	if err != nil {
		return chain.NamedValidator{}, err
	}
	public := chain.NamedValidator{Name: name, Validator: id.Public()}
	if !votes {
		return public, errors.Join(durable.MakeDirectory(data, 0o700), id.Write(keys, name))
	}
	if err := store.CreateVotes(data, public.PublicKey); err != nil {
		if errors.Is(err, store.ErrExists) {
			return public, fmt.Errorf("%s has a vote store but %s no keys: it belongs to another identity, use another directory", data, dir)
		}
		return public, err
	}
	return public, id.Write(keys, name)
}

// writeStarter writes a configuration unless there is one.
func writeStarter(dir, name string) error {
	path := filepath.Join(dir, "node.yaml")
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	c := node.DefaultConfig()
	c.Name = name
	return writeConfig(path, c)
}

func writeConfig(path string, c node.Config) error {
	out, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeFile(path, out)
}

// writeFile replaces a file whole or not at all. The new one is durable when it returns nil.
func writeFile(path string, content []byte) error {
	return durable.WriteFile(path, content, 0o644)
}

// writeJSON replaces a file whole or not at all.
func writeJSON(path string, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(out, '\n'))
}

// parameters are the flags for a chain's constants.
type parameters struct {
	chain.Parameters
	minBlockInterval, roundTimeout, maxRoundTimeout, synchronyDelta time.Duration
}

func (p *parameters) register(cmd *cobra.Command) {
	d := chain.DefaultParameters()
	p.Parameters = d
	f := cmd.Flags()
	f.DurationVar(&p.minBlockInterval, "min-block-interval", time.Duration(d.MinBlockIntervalMS)*time.Millisecond,
		"how long a leader waits for a block to fill")
	f.Uint32Var(&p.BeaconInterval, "beacon-interval", d.BeaconInterval,
		"length of a beacon epoch in heights; 1 changes the beacon with every block")
	f.Uint32Var(&p.MaxMessageBytes, "max-message-bytes", d.MaxMessageBytes, "the largest message")
	f.Uint32Var(&p.MaxBlockBytes, "max-block-bytes", d.MaxBlockBytes, "the largest block")
	f.DurationVar(&p.roundTimeout, "round-timeout", time.Duration(d.RoundTimeoutMS)*time.Millisecond,
		"when the validators give up a round without a decision: at least three one-way delays")
	f.DurationVar(&p.maxRoundTimeout, "max-round-timeout", time.Duration(d.MaxRoundTimeoutMS)*time.Millisecond,
		"the largest value of the round timeout, which grows after each failed round")
	f.DurationVar(&p.synchronyDelta, "synchrony-delta", 0,
		"the synchrony wait, 10ms to 1m: while messages arrive within it, agreement withstands t-1 Byzantine validators; 0 for none")
}

// deltaMS is Delta of the synchrony wait in milliseconds.
func (p *parameters) deltaMS() uint32 { return uint32(p.synchronyDelta / time.Millisecond) }

// value returns the parameters, which genesis.Validate checks further.
func (p *parameters) value() (chain.Parameters, error) {
	out := p.Parameters
	var delta uint32
	for _, d := range []struct {
		flag string
		from time.Duration
		to   *uint32
	}{
		{"min-block-interval", p.minBlockInterval, &out.MinBlockIntervalMS}, {"round-timeout", p.roundTimeout, &out.RoundTimeoutMS},
		{"max-round-timeout", p.maxRoundTimeout, &out.MaxRoundTimeoutMS}, {"synchrony-delta", p.synchronyDelta, &delta},
	} {
		if d.from < 0 || d.from > time.Hour || d.from%time.Millisecond != 0 {
			return out, clientcmd.Usagef("--%s %v: want whole milliseconds up to an hour", d.flag, d.from)
		}
		*d.to = uint32(d.from / time.Millisecond)
	}
	return out, nil
}

func newGenesis() *cobra.Command {
	var p parameters
	var chainID, out string
	var threshold uint32
	var at uint64
	cmd := &cobra.Command{
		Use:   "genesis --chain-id ID --threshold T public.json...",
		Short: "Make a genesis document from the public keys of its validators",
		Long: `Make a genesis document: the chain's name, its validators in the order of the files, and its constants. Every node needs the same
document, and so does everyone who verifies receipts. Its hash is the identity of the chain.

Each file proves that its owner holds the signing key, and chose this name and this VRF key. A file without the proof is of an older
version: its owner makes it again with diseq public. A file that its owner published for another chain is refused.

The threshold t is how many of the n validators must sign: more than half. It decides which failures the chain tolerates: n-t
validators may be down, and 2t-n-1 may be Byzantine on any network. With --synchrony-delta, t-1 may be Byzantine while messages arrive
within that time, and every block takes more than twice that time longer.`,
		Example: "  diseq genesis --chain-id my-chain --threshold 3 -o genesis.json v?/keys/public.json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if chainID == "" || threshold == 0 {
				return clientcmd.Usagef("--chain-id and --threshold are required")
			}
			if at == 0 {
				at = uint64(time.Now().UnixMilli())
			}
			constants, err := p.value()
			if err != nil {
				return err
			}
			g := &chain.Genesis{
				Version: 1, ChainID: chainID, TimeMS: at, Threshold: threshold, SynchronyDeltaMS: p.deltaMS(), Parameters: constants,
			}
			for _, path := range args {
				v, err := readProven(path, chainID)
				if err != nil {
					return err
				}
				g.Validators = append(g.Validators, v)
			}
			if err := g.Validate(); err != nil {
				return clientcmd.Usage(err)
			}
			if out == "" || out == "-" {
				return clientcmd.PrintJSON(cmd.OutOrStdout(), g)
			}
			return writeNew(out, g)
		},
	}
	cmd.Flags().StringVar(&chainID, "chain-id", "", "the chain's name: 1 to 64 of a-z, 0-9, '-' and '.'")
	cmd.Flags().Uint32Var(&threshold, "threshold", 0, "how many validators must sign, more than half")
	cmd.Flags().Uint64Var(&at, "time-ms", 0, "the time of block 0 in Unix milliseconds; by default now")
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write, which must not exist; by default the standard output")
	p.register(cmd)
	return cmd
}

// writeNew writes a document that must not replace another: a chain has one genesis.
func writeNew(path string, v any) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := clientcmd.PrintJSON(f, v); err != nil {
		return err
	}
	return errors.Join(f.Sync(), durable.Sync(filepath.Dir(path)))
}

// maxPublicBytes bounds a public.json.
const maxPublicBytes = 64 << 10

// readPublic reads a public.json of our own.
func readPublic(path string) (p chain.PublicIdentity, err error) {
	raw, err := clientcmd.ReadLimited(path, nil, maxPublicBytes)
	if err != nil {
		return p, err
	}
	if err := document.Unmarshal(raw, &p); err != nil {
		return p, fmt.Errorf("%s: want the public.json of an identity: %w", path, err)
	}
	return p, nil
}

// readProven reads a public.json that somebody else published, for a chain.
func readProven(path, chainID string) (v chain.NamedValidator, err error) {
	p, err := readPublic(path)
	if err != nil {
		return v, err
	}
	if err := p.Verify(chainID); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := vrf.ParsePublicKey(p.VRFKey[:]); err != nil {
		return v, fmt.Errorf("%s: vrf_key: %w", path, err)
	}
	return p.Validator(), nil
}
