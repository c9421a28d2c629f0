package client_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// A block from a node that nobody has to trust: the genesis document, which came from the operators
// of the chain, tells whether the block is final.
func ExampleBlock_Verify() {
	genesis, node := testNode()
	defer node.Close()

	c, err := client.New(node.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	block, err := c.Block(context.Background(), 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := block.Verify(genesis, 0); err != nil {
		fmt.Println("not verified:", err)
		return
	}
	fmt.Printf("block %d is final by %d validators, with %d messages\n",
		block.Header.Height, block.Certificate.Strength, len(block.Messages))

	// A message that the validators did not sign for:
	block.Messages[1].Data = []byte("another")
	block.Messages[1].ID = block.Messages[1].Message.ID()
	fmt.Println("altered:", block.Verify(genesis, 0) != nil)
	// Output:
	// block 1 is final by 3 validators, with 3 messages
	// altered: true
}

// testNode serves block 1 of the chain of node/chain/testdata/refused.json.
func testNode() (*chain.Genesis, *httptest.Server) {
	raw, err := os.ReadFile("../node/chain/testdata/refused.json")
	if err != nil {
		panic(err)
	}
	var file struct {
		Accepted []struct{ Kind, Text string }
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		panic(err)
	}
	first := func(kind string) string {
		for _, s := range file.Accepted {
			if s.Kind == kind {
				return s.Text
			}
		}
		panic("no " + kind)
	}
	genesis, err := chain.ReadGenesis(strings.NewReader(first("genesis")))
	if err != nil {
		panic(err)
	}
	return genesis, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, first("block"))
	}))
}

// A message that shows its author to everyone who reads it. Its data is what Client.Submit takes.
func ExampleSign() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // of an author, kept by the author
	message, err := client.Sign(key, "demo", []byte("order 1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	data := message.Encode()

	// A reader has the data from a receipt, and the author's key from the author.
	read, err := client.ParseSigned(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := read.Verify("demo"); err != nil {
		fmt.Println("not verified:", err)
		return
	}
	fmt.Printf("%q by the author: %v\n", read.Content, read.Author == chain.PublicKeyOf(key))
	fmt.Println("on another chain:", read.Verify("test"))
	// Output:
	// "order 1" by the author: true
	// on another chain: the author signed for chain "demo", this is chain "test"
}
