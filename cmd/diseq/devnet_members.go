package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peersfile"
)

// join makes the newcomers' nodes and waits until they have caught up. It returns their
// directories.
func (r *reshape) join(ctx context.Context, h *history) (dirs []string, err error) {
	if r.count == 0 {
		return nil, nil
	}
	d := &devnet{dir: r.dir, genesis: r.genesis}
	if err := errors.Join(d.find(), r.base(d)); err != nil {
		return nil, err
	}
	// A node that an earlier command added, and that was in no set yet, comes first.
	var fresh []*devNode
	for _, n := range d.nodes {
		if !h.ever[n.key] && len(dirs) < r.count {
			fresh, dirs = append(fresh, n), append(dirs, d.nodeDir(n.index))
			fmt.Fprintf(r.out, "%s: added before, in %s\n", n.name, d.nodeDir(n.index))
		}
	}
	made := len(fresh)
	first, err := d.count()
	if err != nil {
		return nil, err
	}
	end := first + r.count - made
	ports := d.ports(end)
	defer ports.close()
	for i := first; i < end; i++ {
		n := &devNode{index: i, name: nodeName(i)}
		c := node.DefaultConfig()
		c.Listen.Peer, c.Listen.Operations = "", ""
		if err := d.configure(n, c, &ports); err != nil {
			return nil, err
		}
		fresh = append(fresh, n)
	}
	ports.close()
	// The identities come last: the network starts a node whose identity is whole. The peers file
	// has to have all of them by then.
	for _, n := range fresh[made:] {
		if dir := d.nodeDir(n.index); !exists(filepath.Join(dir, "keys")) {
			// A command that was cut off may have left a vote store. Without keys it has no votes.
			if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
				return nil, err
			}
		}
		public, err := initValidator(d.nodeDir(n.index), n.name)
		if err != nil {
			return nil, err
		}
		n.key = public.PublicKey
		dirs = append(dirs, d.nodeDir(n.index))
	}
	if err := editPeers(r.peers, func(f *peersfile.File) {
		for _, n := range fresh[made:] {
			entry := n.entry()
			entry.VoteStore = true
			f.Peers = append(f.Peers, entry)
		}
	}); err != nil {
		return nil, err
	}
	for _, n := range fresh[made:] {
		fmt.Fprintf(r.out, "%s: http://%s, in %s\n", n.name, n.config.Listen.Public, d.nodeDir(n.index))
	}
	return dirs, r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		var behind []string
		for _, n := range fresh {
			if s := all[n.name]; s == nil || !s.CaughtUp || !s.VoteStore {
				behind = append(behind, n.name)
			}
		}
		return len(behind) == 0, strings.Join(behind, ", ") + " to catch up"
	})
}

// base finds the address that the public ports of the network are counted from.
func (r *reshape) base(d *devnet) error {
	n := r.network.Nodes[0]
	host, port, err := net.SplitHostPort(strings.TrimPrefix(n.HTTP, "http://"))
	if err != nil {
		return fmt.Errorf("network.json: %w", err)
	}
	index, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(n.Dir), "node"))
	if err != nil {
		return fmt.Errorf("network.json: %s: want a directory node0, node1, ...: %w", n.Dir, err)
	}
	if d.port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("network.json: %w", err)
	}
	d.host, d.port = host, d.port-index
	return nil
}

// inForce waits until all nodes that answer have the next set, and returns the height of the
// change.
func (r *reshape) inForce(ctx context.Context, next *chain.NextSet) (uint64, error) {
	err := r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		behind := 0
		var target *client.Target
		for _, s := range all {
			if s.Generation < next.Generation {
				behind++
			}
			if s.Target != nil && s.Target.Generation == next.Generation && (target == nil || s.Target.Endorsements > target.Endorsements) {
				target = s.Target
			}
		}
		text := fmt.Sprintf("%d of %d nodes have the next set", len(all)-behind, len(all))
		if target != nil {
			text += fmt.Sprintf("; endorsed by %d of %d needed, %d of %d needed of the next set linked",
				target.Endorsements, target.Needed, target.Linked, target.LinkedNeeded)
			if target.Problem != "" {
				text += "; " + target.Problem
			}
		}
		return behind == 0, text
	})
	if err != nil {
		return 0, err
	}
	h, err := r.history(ctx)
	if err != nil {
		return 0, err
	}
	newest := h.eras.Checkpoint()
	if h.now.Hash() != next.Hash() {
		return 0, fmt.Errorf("generation %d is another set than the one declared: %s", newest.Set.Generation, names(h.now.Validators))
	}
	return newest.Height, editPeers(r.peers, func(f *peersfile.File) {
		f.Target, f.Checkpoint = nil, &chain.Checkpoint{Height: newest.Height, Hash: newest.Hash}
	})
}

// drained is how long a node that leaves is waited for, until what it holds is ordered.
const drained = time.Minute

// part lets those go that are in the set no more, once it is safe: every validator that answers, a
// threshold at least, is above the change, all have the checkpoint, and what a leaver holds is
// final.
func (r *reshape) part(ctx context.Context, before, next *chain.NextSet, height uint64) error {
	_, leavers, _ := difference(before, next)
	if len(leavers) == 0 {
		return nil
	}
	begun := time.Now()
	err := r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		above, held, unknown := 0, 0, 0
		for _, v := range next.Validators {
			s := all[v.Name]
			if s == nil {
				continue
			}
			if s.Height <= height || s.Checkpoint == nil || s.Checkpoint.Height < height {
				return false, v.Name + " to be above the change, with the checkpoint"
			}
			above++
		}
		for _, v := range leavers {
			switch s := all[v.Name]; {
			case s == nil, s.Pool.HeldMessages == nil: // it is down, or does not know yet that it has left
				unknown++
			default:
				held += *s.Pool.HeldMessages
			}
		}
		empty := held == 0 && unknown == 0 || time.Since(begun) > drained
		return above >= int(next.Threshold) && empty, fmt.Sprintf("the %d messages that leavers hold to be final", held)
	})
	if err != nil {
		return err
	}
	for _, n := range r.network.Nodes {
		if !slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.Name == n.Name }) {
			continue
		}
		if err := writeFile(filepath.Join(n.Dir, goneFile), []byte("This identity has left the network and does not come back.\n")); err != nil {
			return err
		}
	}
	if err := editPeers(r.peers, func(f *peersfile.File) {
		f.Peers = slices.DeleteFunc(f.Peers, func(p peersfile.Entry) bool {
			return slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.PublicKey == p.PublicKey })
		})
	}); err != nil {
		return err
	}
	// Those that diseq devnet started are stopped by it.
	if err := r.await(ctx, func(map[string]*client.Status) (bool, string) {
		var still []string
		for _, n := range r.network.Nodes {
			if slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.Name == n.Name }) {
				still = append(still, n.Name)
			}
		}
		return len(still) == 0, strings.Join(still, ", ") + " to be stopped"
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.out, "%s left\n", names(leavers))
	return err
}
