// Rollup keeps accounts whose balances follow from the order of a chain. It reads the blocks from
// the first on, verifies each, and carries out the transfers in them. Every reader who does so has
// the same balances, and trusts no node.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/examples/internal/keyfile"
	"github.com/diseq/diseq/node/chain"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "rollup:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	genesisFile := flag.String("genesis", "genesis.json", "the genesis document, from the operators of the chain")
	allocationFile := flag.String("allocation", "allocation.json", "the accounts before the first block")
	path := flag.String("state", "state.json", "the file of the state that was derived so far")
	nodes := flag.String("nodes", client.DefaultURL, "the nodes, separated by commas")
	keyFile := flag.String("key", "author.key", "send, prove: your key, made by openssl genpkey -algorithm ed25519")
	amount := flag.Uint64("amount", 0, "send: how much")
	var to, claimant chain.PublicKey
	flag.TextVar(&to, "to", to, "send: the account that gets it")
	flag.TextVar(&claimant, "claimant", claimant, "check: the account whose word on the state you take")
	flag.Parse()

	genesis, noGenesis := os.ReadFile(*genesisFile)
	allocation, noAllocation := os.ReadFile(*allocationFile)
	c, noClient := client.New(strings.Split(*nodes, ",")...)
	if err := errors.Join(noGenesis, noAllocation, noClient); err != nil {
		return err
	}
	s, err := begin(genesis, allocation)
	if err != nil {
		return err
	}
	if flag.Arg(0) == "check" {
		return s.check(os.Stdin, claimant)
	}
	newest, err := c.LatestBlock(ctx)
	if err := errors.Join(err, s.load(*path)); err != nil {
		return err
	}
	r := &reader{state: s, client: c, path: *path}
	if err := r.follow(ctx, newest.Header.Height); err != nil {
		return err
	}
	switch flag.Arg(0) {
	case "balances":
		return json.NewEncoder(os.Stdout).Encode(s.Accounts)
	case "follow":
		return r.follow(ctx, math.MaxUint64)
	case "send":
		if err := to.Validate(); err != nil || *amount == 0 {
			return errors.Join(errors.New("send needs -amount, and -to with the public key of an account"), err)
		}
		_, err = r.send(ctx, *keyFile, to, *amount)
		return err
	case "prove":
		block, err := c.Block(ctx, s.Height)
		if err != nil {
			return err
		}
		p := proof{State: s.encode(), Block: *block}
		if p.Receipt, err = r.send(ctx, *keyFile, to, 0); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(p)
	}
	return fmt.Errorf("want balances, follow, send, prove or check after the flags, not %q", flag.Args())
}

// A reader derives the state from what nodes tell.
type reader struct {
	*state
	client *client.Client
	path   string
}

// follow derives the state up to a height, and saves it after each block.
func (r *reader) follow(ctx context.Context, until uint64) error {
	if r.Height >= until {
		return nil
	}
	enough, follower := errors.New("enough"), r.client.Follow(r.Trust)
	err := r.client.Stream(ctx, r.Height+1, func(b *client.Block) error {
		if err := follower.Verify(ctx, b, 0); err != nil {
			return err
		}
		if b.Header.ParentHash != r.Block {
			return fmt.Errorf("block %d does not stand on block %v, where the state ends", b.Header.Height, r.Block)
		}
		for _, m := range b.Messages {
			if t, err := r.apply(m.Data); err != nil {
				fmt.Fprintf(os.Stderr, "block %d: refused: %d to %v: %v\n", b.Header.Height, t.Amount, t.To, err)
			} else if t != nil {
				fmt.Fprintf(os.Stderr, "block %d: %d to %v\n", b.Header.Height, t.Amount, t.To)
			}
		}
		r.Height, r.Block, r.Trust = b.Header.Height, b.HeaderHash, follower.Eras().Checkpoint()
		if err := r.save(r.path); err != nil || r.Height < until {
			return err
		}
		return enough
	})
	if err == enough {
		return nil
	}
	return err
}

// send submits a transfer, and follows the chain up to it.
func (r *reader) send(ctx context.Context, keyFile string, to chain.PublicKey, amount uint64) (receipt chain.Receipt, err error) {
	key, err := keyfile.Read(keyFile)
	if err != nil {
		return receipt, err
	}
	sender := chain.PublicKeyOf(key)
	t := transfer{r.Rollup, sha256.Sum256(r.encode()), to, amount, r.Accounts[sender].Nonce}
	content, _ := binary.Append(nil, binary.BigEndian, t) // its size is fixed
	message, err := client.Sign(key, r.Trust.ChainID, content)
	if err != nil {
		return receipt, err
	}
	results, err := r.client.SubmitWait(ctx, message.Encode())
	if err != nil {
		return receipt, err
	}
	receipt = *results[0].Receipt
	if err = r.follow(ctx, receipt.Height); err == nil && amount > 0 && r.Accounts[sender].Nonce == t.Nonce {
		err = errors.New("the transfer is in the chain, and the rollup refused it")
	}
	return receipt, err
}

// A proof is a state, the block that it ends with, and the receipt of a word that it is right.
type proof struct {
	State   json.RawMessage `json:"state"`
	Block   client.Block    `json:"block"`
	Receipt chain.Receipt   `json:"receipt"`
}

// check verifies a proof offline, with the genesis document and the allocation.
func (s *state) check(in io.Reader, claimant chain.PublicKey) error {
	p := proof{}
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return err
	}
	message, t := s.parse(p.Receipt.Message.Data)
	if t == nil || message.Author != claimant || t.State != sha256.Sum256(p.State) {
		return fmt.Errorf("the receipt is not of a word of %v about this state", claimant)
	}
	proved, eras := &state{}, s.Trust.Eras()
	if err := errors.Join(message.Verify(s.Trust.ChainID), p.Receipt.Verify(eras, 0), p.Block.Verify(eras, 0)); err != nil {
		return err
	}
	if err := json.Unmarshal(p.State, proved); err != nil || proved.Block != p.Block.HeaderHash {
		return errors.Join(errors.New("the block is not the one that the state ends with"), err)
	}
	fmt.Fprintf(os.Stderr, "after block %d, on the word of %v:\n", proved.Height, claimant)
	return json.NewEncoder(os.Stdout).Encode(proved.Accounts)
}
