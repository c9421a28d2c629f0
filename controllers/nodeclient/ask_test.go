package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

func nodes(n int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprintf("demo-v%d", i), PublicKey: chain.PublicKey{byte(i)}, ChainID: "demo"}
	}
	return nodes
}

// highest believes everybody.
func highest(answers []Answer) (height uint64) {
	for _, a := range answers {
		if a.Err == nil {
			height = max(height, a.Status.Height)
		}
	}
	return height
}

func TestAskTellsEveryAnswerAndError(t *testing.T) {
	fake := &Fake{}
	down := errors.New("connection refused")
	fake.Answer("demo-v0", Status{Role: RoleValidator, Height: 5})
	fake.Fail("demo-v1", down)
	fake.Answer("demo-v2", Status{Role: RoleValidator, PublicKey: chain.PublicKey{9}})
	answers := Ask(t.Context(), fake, nodes(4), 10, highest)
	if s := answers[0].Status; answers[0].Err != nil || s.Height != 5 || s.PublicKey != (chain.PublicKey{0}) || s.ChainID != "demo" {
		t.Errorf("%+v", answers[0])
	}
	if answers[1].Status != nil || !errors.Is(answers[1].Err, down) {
		t.Errorf("%+v", answers[1])
	}
	if _, ok := errors.AsType[*IdentityError](answers[2].Err); !ok || answers[2].Status != nil {
		t.Errorf("%+v", answers[2])
	}
	if answers[3].Err == nil || answers[3].Status != nil {
		t.Errorf("%+v", answers[3])
	}
	fake.Answer("demo-v1", Status{Role: RoleValidator})
	if answers = Ask(t.Context(), fake, nodes(2), 10, highest); answers[1].Err != nil {
		t.Error(answers[1].Err)
	}
}

// script answers each node with its heights, one after the other.
type script struct {
	Client
	heights map[string][]uint64
	asked   map[string]int
}

func (s *script) Status(_ context.Context, node Node) (*Status, error) {
	n := s.asked[node.Name]
	s.asked[node.Name]++
	if n >= len(s.heights[node.Name]) {
		return nil, errors.New("asked too often")
	}
	return &Status{Role: RoleValidator, Height: s.heights[node.Name][n]}, nil
}

func TestWhoAnsweredEarlyIsNotBehind(t *testing.T) {
	for _, tt := range []struct {
		name      string
		heights   []uint64 // of the first node; the second is at 130
		want      uint64
		questions int
	}{
		{"level", []uint64{125}, 125, 1},
		{"answered early", []uint64{100, 160}, 130, 2},
		{"is really behind", []uint64{100, 104}, 104, 2},
		{"does not answer again", []uint64{100}, 100, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &script{heights: map[string][]uint64{"demo-v0": tt.heights, "demo-v1": {130}}, asked: map[string]int{}}
			first := Ask(t.Context(), locked{s, make(chan struct{}, 1)}, nodes(2), 10, highest)[0]
			if first.Err != nil || first.Status.Height != tt.want || s.asked["demo-v0"] != tt.questions || s.asked["demo-v1"] != 1 {
				t.Errorf("%+v %v after %v questions, want height %d", first.Status, first.Err, s.asked, tt.want)
			}
		})
	}
}

// A node that claims an absurd height does not make the others look behind each other: those that
// answered early are measured by the height that the caller believes.
func TestAnAbsurdClaimDoesNotHideWhoAnsweredEarly(t *testing.T) {
	s := &script{heights: map[string][]uint64{"demo-v0": {100, 160}, "demo-v1": {130}, "demo-v2": {1 << 62}}, asked: map[string]int{}}
	answers := Ask(t.Context(), locked{s, make(chan struct{}, 1)}, nodes(3), 10, func([]Answer) uint64 { return 130 })
	if h := answers[0].Status.Height; h != 130 || s.asked["demo-v1"] != 1 || s.asked["demo-v2"] != 1 {
		t.Errorf("height %d after %v questions, want 130", h, s.asked)
	}
}

// locked lets one question through at a time.
type locked struct {
	Client
	turn chan struct{}
}

func (l locked) Status(ctx context.Context, node Node) (*Status, error) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	return l.Client.Status(ctx, node)
}

// slow takes a second for every answer and counts those that are open.
type slow struct {
	Client
	open, most atomic.Int32
}

func (s *slow) Status(context.Context, Node) (*Status, error) {
	s.most.Store(max(s.most.Load(), s.open.Add(1)))
	time.Sleep(time.Second)
	s.open.Add(-1)
	return &Status{Role: RoleValidator}, nil
}

func TestAskIsConcurrentAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, start := &slow{}, time.Now()
		Ask(t.Context(), client, nodes(100), 10, highest)
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("a hundred nodes took %s, want 4s at %d at once", took, atOnce)
		}
		if most := client.most.Load(); most > atOnce {
			t.Errorf("%d questions at once, want at most %d", most, atOnce)
		}
	})
}

func TestAskNobody(t *testing.T) {
	if answers := Ask(t.Context(), &Fake{}, nil, 10, highest); len(answers) != 0 {
		t.Errorf("%+v", answers)
	}
}

func TestTheFakeIsAsStrictAsTheRealOne(t *testing.T) {
	fake, node := &Fake{}, nodes(1)[0]
	fake.Answer(node.Name, Status{Role: "king"})
	if _, err := fake.Status(t.Context(), node); err == nil {
		t.Error("an unknown role is taken")
	}
	fake.Answer(node.Name, Status{Role: RoleValidator, ChainID: "other"})
	if _, err := fake.Validators(t.Context(), node); err == nil {
		t.Error("another chain's set is taken")
	}
	fake.Answer(node.Name, Status{Role: RoleValidator})
	if _, err := fake.Validators(t.Context(), node); err == nil {
		t.Error("a set that nobody gave it")
	}
	fake.AnswerSet(node.Name, Set{Threshold: 1, Validators: []Validator{{Name: "demo-v0", PublicKey: node.PublicKey}}})
	if set, err := fake.Validators(t.Context(), node); err != nil || len(set.Validators) != 1 {
		t.Errorf("%+v %v", set, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fake.Status(ctx, node); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := fake.Asked(node.Name); n != 5 {
		t.Errorf("asked %d times", n)
	}
}
