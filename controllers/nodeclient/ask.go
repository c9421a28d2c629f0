package nodeclient

import (
	"context"
	"strings"

	"golang.org/x/sync/errgroup"
)

// atOnce bounds the requests that are open at the same time.
const atOnce = 32

// Answer is a node's status, or why there is none.
type Answer struct {
	Status *Status
	Err    error
}

// Ask asks all nodes for their status, several at a time, and returns their answers in the order of
// the nodes.
//
// The answers are of different moments, and a busy chain makes dozens of blocks a second, so that
// the first node to answer would look behind. So Ask asks each node that is more than slack heights
// behind the mark once more. The mark is a height of the first answers that the caller believes: a
// node may claim any. If the second answer has reached the mark, the node was not behind, and
// counts as being at that height.
func Ask(ctx context.Context, c Client, nodes []Node, slack uint64, mark func([]Answer) uint64) []Answer {
	answers := make([]Answer, len(nodes))
	all := make([]int, len(nodes))
	for i := range nodes {
		all[i] = i
	}
	forEach(all, func(i int) { answers[i].Status, answers[i].Err = c.Status(ctx, nodes[i]) })

	highest := mark(answers)
	var late []int
	for i, a := range answers {
		if a.Err == nil && a.Status.Height < highest && highest-a.Status.Height > slack {
			late = append(late, i)
		}
	}
	forEach(late, func(i int) {
		s, err := c.Status(ctx, nodes[i])
		if err != nil {
			return // the first answer is still true
		}
		s.Height = min(s.Height, highest)
		answers[i].Status = s
	})
	return answers
}

// forEach calls ask for every index, several at a time.
func forEach(indexes []int, ask func(int)) {
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for _, i := range indexes {
		group.Go(func() error {
			ask(i)
			return nil
		})
	}
	_ = group.Wait() // ask has no error
}

// cut makes a node's text fit for the status: valid UTF-8, on one line, of bounded length.
func cut(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "..."
}
