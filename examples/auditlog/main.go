// Auditlog keeps a log that nobody alters unseen, not even its owner. Each line of a pipe becomes a
// signed message of a chain. The log is a file of their receipts. It verifies from the genesis
// document and the author's key alone, years later and without a node.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/examples/internal/keyfile"
	"github.com/diseq/diseq/node/chain"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "auditlog:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	genesisFile := flag.String("genesis", "genesis.json", "the genesis document, from the operators of the chain")
	path := flag.String("log", "audit.jsonl", "the file of receipts")
	nodes := flag.String("nodes", client.DefaultURL, "append: the nodes, separated by commas")
	keyFile := flag.String("key", "author.key", "append: the author's key, made by openssl genpkey -algorithm ed25519")
	author := flag.String("author", "", "verify: the author's public key, as append prints it")
	flag.Parse()
	command := flag.Arg(0)
	if command != "append" && command != "verify" {
		return fmt.Errorf("want append or verify after the flags, not %q", flag.Args())
	}

	document, err := os.ReadFile(*genesisFile)
	if err != nil {
		return err
	}
	genesis, err := chain.ReadGenesis(bytes.NewReader(document))
	if err != nil {
		return err
	}
	l := log{eras: genesis.Eras()}
	if command == "verify" {
		if err := l.author.UnmarshalText([]byte(*author)); err != nil {
			return fmt.Errorf("-author: %w", err)
		}
		file, err := os.Open(*path)
		if err != nil {
			return err
		}
		err = l.read(file, func(receipt *chain.Receipt, r *record) {
			at := time.UnixMilli(int64(receipt.Header.Timestamp)).UTC()
			fmt.Fprintf(out, "%d %s block %d: %s\n", r.Number, at.Format(time.RFC3339), receipt.Height, r.Line)
		})
		fmt.Fprintf(out, "%d records verified\n", l.count)
		return errors.Join(err, file.Close())
	}
	a := &appender{log: l}
	if a.key, err = keyfile.Read(*keyFile); err != nil {
		return err
	}
	if a.client, err = client.New(strings.Split(*nodes, ",")...); err != nil {
		return err
	}
	if a.file, err = create(*path); err != nil {
		return err
	}
	if a.pending, err = create(*path + ".pending"); err != nil {
		return err
	}
	a.author = chain.PublicKeyOf(a.key)
	longest := (int(genesis.Parameters.MaxMessageBytes) - 512) / 4 * 3 // a record has its line in base64
	if err = a.resume(context.Background()); err == nil {
		err = a.appendAll(context.Background(), bufio.NewReaderSize(in, longest+1))
	}
	fmt.Fprintf(out, "%d records by author %v\n", a.count, a.author)
	return err
}
