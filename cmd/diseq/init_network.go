package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node"
)

func newInitNetwork() *cobra.Command {
	var p parameters
	var to placement
	var owner string
	d := devnet{}
	cmd := &cobra.Command{
		Use:   "init-network --dir DIR --validators N --threshold T --peer 'HOST{i}:PORT'",
		Short: "Make the files of a network whose nodes run elsewhere, such as in containers",
		Long: `Make all files of a new network: DIR/genesis.json, DIR/peers.json, and DIR/node0, DIR/node1, ... with node.yaml, the keys (0600)
and the data directory with the vote store. node.yaml names the other files relative to itself. The others reach validator i at the
address of --peer, with i for {i}; it listens on that port.

The command may run before every start. It replaces no file, and completes a run that was interrupted. It refuses flags that
contradict the genesis document.

The machine that runs this command has every key. On machines of different owners, let each owner make an identity with diseq init.`,
		Example: "  diseq init-network --dir ./net --peer 'node{i}:7700'\n" +
			"  diseq init-network --dir /network --validators 7 --threshold 5 --peer '10.0.0.1{i}:7700' --owner 65532:65532",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			constants, err := p.value()
			if err != nil {
				return err
			}
			d.parameters, d.deltaMS, d.changed, d.out = constants, p.deltaMS(), cmd.Flags().Changed, cmd.OutOrStdout()
			chown := func(string) error { return nil }
			if owner != "" {
				if chown, err = ownership(owner); err != nil {
					return err
				}
			}
			if err := d.place(to); err != nil {
				return err
			}
			if err := chown(d.dir); err != nil {
				return err
			}
			_, err = fmt.Fprintf(d.out, "%s: chain %s, %d validators, threshold %d\n",
				d.dir, d.genesis.ChainID, len(d.genesis.Validators), d.genesis.Threshold)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&d.validators, "validators", 4, "how many validators")
	f.Uint32Var(&d.threshold, "threshold", 3, "how many of them must sign, more than half")
	f.StringVar(&d.dir, "dir", "", "the network's directory")
	f.StringVar(&to.peer, "peer", "", "the address at which the others reach validator i: host:port with {i} for its number")
	f.StringVar(&to.public, "public", ":8080", "the address at which each node serves clients")
	f.StringVar(&to.operations, "operations", "127.0.0.1:9090", "the address at which each node serves metrics and probes")
	f.StringVar(&owner, "owner", "", "numeric UID:GID that will own all files (needs CAP_CHOWN)")
	p.register(cmd)
	return cmd
}

// A placement says where nodes listen. In each address {i} stands for the validator's number.
type placement struct{ peer, public, operations string }

// place makes the network's files where they are missing.
func (d *devnet) place(to placement) error {
	if err := d.sized(); err != nil {
		return err
	}
	configs, peers, err := to.configs(d.validators)
	if err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	if n := len(d.genesis.Validators); n != len(configs) { // --validators was left out
		if configs, peers, err = to.configs(n); err != nil {
			return err
		}
	}
	for i, v := range d.genesis.Validators {
		configs[i].Name, peers.Peers[i].Name, peers.Peers[i].PublicKey = v.Name, v.Name, v.PublicKey
		if err := durable.MakeDirectory(d.nodeDir(i), 0o755); err != nil {
			return err
		}
		if err := unlessThere(d.configPath(i), func(path string) error { return writeConfig(path, configs[i]) }); err != nil {
			return err
		}
	}
	return unlessThere(filepath.Join(d.dir, "peers.json"), func(path string) error {
		out, err := json.MarshalIndent(peers, "", "  ")
		if err != nil {
			return err
		}
		return writeFile(path, append(out, '\n'))
	})
}

// configs returns the configurations of n nodes and the addresses of their peers, without names and
// keys.
func (p placement) configs(n int) ([]node.Config, node.PeersFile, error) {
	var peers node.PeersFile
	configs := make([]node.Config, n)
	taken := map[string]int{}
	for i := range configs {
		at := func(template string) string { return strings.ReplaceAll(template, "{i}", strconv.Itoa(i)) }
		address := at(p.peer)
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "0" {
			return nil, peers, clientcmd.Usagef("--peer %q: want host:port with {i} for the validator's number", p.peer)
		}
		if other, ok := taken[address]; ok {
			return nil, peers, clientcmd.Usagef("--peer %q: validators %d and %d would have the same address: want {i} in it", p.peer, other, i)
		}
		taken[address] = i
		c := node.DefaultConfig()
		c.Name, c.Genesis, c.Keys, c.Data, c.Peers = nodeName(i), "../genesis.json", "keys", "data", "../peers.json"
		c.Listen = node.Listen{Public: at(p.public), Peer: ":" + port, Operations: at(p.operations)}
		if err := c.Validate(); err != nil {
			return nil, peers, clientcmd.Usage(err)
		}
		configs[i] = c
		peers.Peers = append(peers.Peers, node.PeerEntry{Address: address})
	}
	return configs, peers, nil
}

func unlessThere(path string, write func(path string) error) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(path)
}

// ownership returns a function that gives a directory, with all its contents, to an owner.
func ownership(owner string) (func(dir string) error, error) {
	user, group, _ := strings.Cut(owner, ":")
	uid, err := strconv.ParseUint(user, 10, 31)
	gid, err2 := strconv.ParseUint(group, 10, 31)
	if err := errors.Join(err, err2); err != nil {
		return nil, clientcmd.Usagef("--owner %q: want UID:GID in numbers", owner)
	}
	return func(dir string) error {
		return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Lchown(path, int(uid), int(gid))
			}
			if errors.Is(err, fs.ErrNotExist) { // a running node's databases come and go
				return nil
			}
			return err
		})
	}, nil
}
