package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// Submit returns when the messages are durable. Their place in the order comes later.
func ExampleClient_Submit() {
	_, node := testNode()
	defer node.Close()

	c, err := client.New(node.URL) // and the other nodes of the network: the next one is asked when one fails
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := c.Submit(context.Background(), []byte("second one"), []byte("third one!"))
	if err != nil {
		fmt.Println(err) // submit again, to any node: equal data is one message
		return
	}
	for _, r := range results {
		fmt.Println(r.ID, r.Status)
	}
	// Output:
	// 030d3a41025cfa1a085f3d76b2d3bcfeeb3b1071110e3573ac851c61f7682e6f pending
	// 20fc71ca3c08ee0811deeec041621617394d829a93e2c1df264d322b554aa254 pending
}

// SubmitWait returns when the messages have their place. The receipt shows it to everyone who has
// the genesis document.
func ExampleClient_SubmitWait() {
	genesis, node := testNode()
	defer node.Close()

	c, err := client.New(node.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, err := c.SubmitWait(ctx, []byte("second one"))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt := results[0].Receipt
	if err := receipt.Verify(genesis, 0); err != nil {
		fmt.Println("not verified:", err)
		return
	}
	fmt.Printf("%q is message %d of block %d\n", receipt.Message.Data, receipt.Index, receipt.Height)
	// Output:
	// "second one" is message 1 of block 1
}

// A receipt is verified offline, years later if need be. It is kept as JSON.
func ExampleClient_Receipt() {
	genesis, node := testNode()
	c, err := client.New(node.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := c.Receipt(context.Background(), chain.Message{Data: []byte("third one!")}.ID())
	node.Close()
	if err != nil {
		fmt.Println(err)
		return
	}
	kept, err := json.Marshal(receipt)
	if err != nil {
		fmt.Println(err)
		return
	}

	verify := func(document []byte) error {
		r, err := chain.ReadReceipt(bytes.NewReader(document))
		if err != nil {
			return err
		}
		return r.Verify(genesis, 0)
	}
	fmt.Println("kept:", verify(kept))
	forged := bytes.Replace(kept, []byte(`"index":2`), []byte(`"index":1`), 1)
	fmt.Println("forged:", verify(forged) != nil)
	// Output:
	// kept: <nil>
	// forged: true
}

// Stream goes on where it broke, at another node if there are several. A reader stores what it has
// derived from a block together with the height, and asks for the next block after a restart. The
// Follower verifies the blocks, through changes of the validator set.
func ExampleClient_Stream() {
	genesis, node := testNode()
	defer node.Close()

	c, err := client.New(node.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	follower := c.Follow(genesis)
	last := follower.Eras().First().Hash
	enough := errors.New("enough")
	err = c.Stream(context.Background(), 1, func(b *client.Block) error {
		if err := follower.Verify(context.Background(), b, 0); err != nil {
			return err
		}
		if b.Header.ParentHash != last {
			return fmt.Errorf("block %d does not stand on the block before", b.Header.Height)
		}
		last = b.HeaderHash
		fmt.Printf("block %d, %d messages\n", b.Header.Height, len(b.Messages))
		if b.Header.Height == 2 {
			return enough // of this example; the stream has no end
		}
		return nil
	})
	fmt.Println(errors.Is(err, enough))
	// Output:
	// block 1, 3 messages
	// block 2, 0 messages
	// true
}

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

// testNode serves blocks 1 and 2 of a recorded chain, and accepts the messages of block 1 as if
// they were new. Programs read the genesis document with chain.ReadGenesis from a file.
func testNode() (*chain.Genesis, *httptest.Server) {
	genesis, err := chain.ReadGenesis(strings.NewReader(recorded("genesis", "")))
	if err != nil {
		panic(err)
	}
	blocks := []string{recorded("block", `"height":1,`), recorded("block", `"height":2,`)}
	receipts := receiptsOf(blocks[0])
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/blocks/1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, blocks[0]) })
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Join(blocks, "\n")+"\n")
	})
	mux.HandleFunc("GET /v1/messages/{id}/receipt", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(receipts[r.PathValue("id")])
	})
	mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		var answer struct {
			Results []client.Result `json:"results"`
		}
		body, _ := io.ReadAll(r.Body)
		for len(body) > 0 { // a length and so many bytes, for each message
			size, n := binary.Uvarint(body)
			result := client.Result{ID: chain.Message{Data: body[n : n+int(size)]}.ID(), Status: "pending"}
			if r.URL.Query().Get("wait") == "final" {
				result.Status, result.Receipt = "final", receipts[result.ID.String()]
			}
			answer.Results, body = append(answer.Results, result), body[n+int(size):]
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	return genesis, httptest.NewServer(mux)
}

// recorded returns the first document of a kind in the test vectors that has a text in it.
func recorded(kind, with string) string {
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
	for _, s := range file.Accepted {
		if s.Kind == kind && strings.Contains(s.Text, with) {
			return s.Text
		}
	}
	panic("no " + kind)
}

// receiptsOf makes the receipts of a block, by the ids of its messages.
func receiptsOf(document string) map[string]*chain.Receipt {
	var b client.Block
	if err := json.Unmarshal([]byte(document), &b); err != nil {
		panic(err)
	}
	final := &chain.FinalBlock{Block: chain.Block{Header: b.Header}, Certificate: b.Certificate.Certificate}
	for _, m := range b.Messages {
		final.Messages = append(final.Messages, m.Message)
	}
	receipts := map[string]*chain.Receipt{}
	for i, m := range b.Messages {
		made, err := chain.NewReceipts(final, nil, i)
		if err != nil {
			panic(err)
		}
		receipts[m.ID.String()] = made[0]
	}
	return receipts
}
