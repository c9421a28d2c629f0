package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
)

func newVerify() *cobra.Command {
	var from clientcmd.Trust
	var strength int
	var authors []string
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE | --checkpoint FILE",
		Short: "Verify receipts, blocks and proofs offline",
		Long: `Verify what a node says with nothing but the genesis document or a checkpoint: no node is asked.

- A receipt proves that its message is final.
- A block proves that it is final, with its messages.
- A proof proves that a message is, or is not, in the blocks up to a height.
- Changes, as diseq get changes prints them, prove which validators decided which heights.

The file holds one document, or several of them one after the other, as diseq submit --lines --wait and diseq tail print them. The
command prints one verdict for each. It exits with 0 if every document is verified, otherwise with 1. A document that two programs could
read differently is refused: a name in other letters or twice, base64 with line breaks, an unknown member of a receipt.

The validators of a chain may change. Each set is believed only once the set before it has voted for it. A receipt brings the changes
that lead to its block. A block or a proof does not: put the changes, or every block since the start, before it in the file.

The genesis document is what you trust. Take it from the operators of the chain, not from the person who gave you the receipt. A
checkpoint is trusted in the same way: it is short however often the validators have changed, and what stolen keys of validators that
left before it sign is refused. With it, documents at or below its height cannot be verified.

--author also asks who wrote the message of a receipt: it must be signed, as diseq submit --sign-with does, by the key that you name. The
key is 64 hex digits, or a file with the public key in PEM, as openssl pkey -pubout writes it. Blocks and proofs do not show authors.

--strength asks for more signatures than the chain's threshold. With a certificate of all n validators, finality holds on any network
unless as many validators as the threshold are malicious. The verdict says how many that is for the document at hand. If the chain has a
synchrony wait, the verdict also says what the wait adds.`,
		Example: "  diseq verify receipt.json --genesis genesis.json --author author.pub\n" +
			"  diseq get receipt ID | diseq verify - --genesis genesis.json --strength 4\n" +
			"  diseq submit --lines --wait orders.txt > receipts.jsonl && diseq verify receipts.jsonl --genesis genesis.json\n\n" +
			"  (diseq get changes; diseq get block latest) | diseq verify - --checkpoint checkpoint.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			eras, _, err := from.Read()
			if err != nil {
				return err
			}
			if strength < 0 || strength > chain.MaxValidators {
				return clientcmd.Usagef("--strength %d: want 0 to %d signatures", strength, chain.MaxValidators)
			}
			v := &clientcmd.Verifier{Eras: eras, Strength: strength}
			if v.Authors, err = clientcmd.ReadAuthors(authors); err != nil {
				return err
			}
			in, err := clientcmd.OpenInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }() // it was only read
			return clientcmd.VerifyAll(cmd.OutOrStdout(), v, args[0], in)
		},
	}
	from.Register(cmd.Flags())
	cmd.Flags().IntVar(&strength, "strength", 0, "the least number of signatures; 0 for the chain's threshold")
	cmd.Flags().StringSliceVar(&authors, "author", nil, "the public key of the author, hex or a file in PEM; may be repeated: any of them")
	return cmd
}

// evidenceName is the name of the command, and of the member of an answer.
const evidenceName = "evidence"

func newEvidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:     evidenceName,
		Short:   "Find and judge evidence against validators",
		Example: "  diseq get evidence > evidence.json\n  diseq evidence verify evidence.json --genesis genesis.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return clientcmd.Usagef("say what to do with it: %s", subcommands(cmd))
		},
	}
	cmd.AddCommand(newEvidenceVerify(), newEvidenceFind())
	return cmd
}

// ruleTexts say in words what breaks a rule of consensus.
var ruleTexts = map[chain.Rule]string{
	chain.RuleE1:      "it voted twice in a round",
	chain.RuleE2:      "it both nullified and finalized a round",
	chain.RuleE3:      "it finalized one block and notarized another in the same round",
	chain.RulePropose: "as leader it proposed two blocks in a round",
}

func newEvidenceVerify() *cobra.Command {
	var from clientcmd.Trust
	cmd := &cobra.Command{
		Use:   "verify FILE|- --genesis FILE | --checkpoint FILE",
		Short: "Verify evidence offline and name who broke which rule",
		Long: `Verify evidence: pairs of votes that no honest validator signs. FILE holds one piece, a list of them, or the answer of
GET /v1/evidence. For each piece one line names the validator and the rule it broke; the first that is not true ends it with
exit code 1 and the reason.

A piece brings the changes of the validators up to its height, so the key of a validator that has left is convicted too. Such a key may
have been stolen after the validator left: the line then says when its set was replaced.`,
		Example: "  diseq evidence verify evidence.json --genesis genesis.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			eras, nameOf, err := from.Read()
			if err != nil {
				return err
			}
			raw, err := clientcmd.ReadLimited(args[0], cmd.InOrStdin(), clientcmd.MaxReceiptBytes)
			if err != nil {
				return err
			}
			pieces, err := parseEvidence(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			// All of them first: a later piece may know of a later set.
			verified, failed := 0, error(nil)
			for i := range pieces {
				if err := pieces[i].Verify(eras); err != nil {
					failed = fmt.Errorf("piece %d is not evidence: %w", i, err)
					break
				}
				verified++
			}
			newest := eras.Checkpoint()
			for i := range pieces[:verified] {
				e := &pieces[i]
				v, since := e.First, ""
				if v.Height <= newest.Height {
					since = fmt.Sprintf("; the validators have changed since, generation %d came with block %d", newest.Set.Generation, newest.Height)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "verified: validator %d (%s, %v) broke rule %s at height %d round %d: %s%s\n",
					v.Validator, nameOf(e.PublicKey), e.PublicKey, e.Rule, v.Height, v.Round, ruleTexts[e.Rule], since)
				if err != nil {
					return err
				}
			}
			if len(pieces) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "no evidence: no validator is accused")
			}
			return errors.Join(failed, err)
		},
	}
	from.Register(cmd.Flags())
	return cmd
}

// parseEvidence reads one piece, a list, or {"evidence":[...]}.
func parseEvidence(raw []byte) ([]chain.EvidenceDocument, error) {
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		var list []chain.EvidenceDocument
		err := document.Unmarshal(raw, &list)
		return list, err
	}
	var one chain.EvidenceDocument
	err := document.Unmarshal(raw, &one)
	if wrong, ok := errors.AsType[*document.Error](err); ok && wrong.Path == "/evidence" {
		var answer struct {
			Evidence []chain.EvidenceDocument `json:"evidence"`
		}
		err := document.Unmarshal(raw, &answer)
		return answer.Evidence, err
	}
	if err != nil {
		return nil, err
	}
	return []chain.EvidenceDocument{one}, nil
}
