// Package overview puts the answers of a network's nodes side by side: which of them answer, how
// far each is, what becomes final, and how many more may fail.
//
// It believes no single node. The node in the middle, by height, speaks for the network, so that
// one liar among several moves nothing but its own line. All texts are plain: nothing in them moves
// the cursor of a terminal.
//
// It proves nothing, in contrast to receipts: t lying nodes make a picture of their own.
package overview

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
)

// States of a node.
const (
	// Away is a node that does not answer.
	Away = "away"
	// Hidden is a node that tells this client no more than its height.
	Hidden = "hidden"
	// Votes, Abstains, Mute, Rejoining and Observer are of nodes that answer. The synchrony wait
	// keeps a node that abstains from voting. A mute one is in the validator set without a vote
	// store.
	Votes     = "votes"
	Abstains  = "abstains"
	Mute      = "cannot vote"
	Rejoining = "rejoining"
	Observer  = "observer"
	// Stranger is a node of another chain.
	Stranger = "other chain"
)

// A Node is what one node says.
type Node struct {
	URL string `json:"url"`
	// Name is that of the node, or its address as long as the node has not told.
	Name  string `json:"name"`
	State string `json:"state"`
	// Problem says why the node does not answer, or why it is not ready.
	Problem string `json:"problem"`
	Height  uint64 `json:"height"`
	Behind  uint64 `json:"behind"`
	Round   uint32 `json:"round"`
	// Leader is the validator that leads this round at the node's next height; empty if unknown.
	Leader string `json:"leader"`
	// Signed is how many certificates of the last blocks have the node's vote, Of how many blocks
	// there are. A certificate needs no more votes than the threshold.
	Signed int `json:"signed"`
	Of     int `json:"of"`
	// Pool is the number of messages that wait at the node.
	Pool     int  `json:"pool_messages"`
	Ready    bool `json:"ready"`
	Evidence int  `json:"evidence"`
}

// A Network is a network at one moment.
type Network struct {
	ChainID    string           `json:"chain_id"`
	Height     uint64           `json:"height"`
	Generation uint32           `json:"generation"`
	Validators int              `json:"validators"`
	Threshold  uint32           `json:"threshold"`
	Tolerance  client.Tolerance `json:"tolerance"`
	// Spare is how many more validators may fail before messages cease to become final; negative if
	// nothing becomes final now. Nil if no node says.
	Spare *int `json:"spare"`
	// MessagesPerSecond is over the last seconds; nil before there are some.
	MessagesPerSecond *float64 `json:"messages_per_second"`
	// Finality is the middle time from the proposal of a block until a node had it as final, in
	// milliseconds, and SinceBlock how long ago the last one became final. Both compare clocks of
	// several machines. Nil if unknown.
	Finality   *float64 `json:"finality_ms"`
	SinceBlock *float64 `json:"seconds_since_block"`
	Nodes      []Node   `json:"nodes"`
	// Wrong are sentences about what somebody should look at.
	Wrong []string `json:"wrong"`
}

// An answer is what a node answered when it was asked.
type answer struct {
	url    string
	status *client.Status
	err    error
}

// longestName is what a node may be called, in bytes.
const longestName = 63

func plain(text string, limit int) string {
	text = clientcmd.Plain(text)
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "~"
	}
	return text
}

// middle returns the answer of the node that speaks for the network: of those that answer, the one
// in the middle by height, the upper of two; nil if none answers.
func middle(answers []answer) *client.Status {
	var all []*client.Status
	for _, a := range answers {
		if a.status != nil {
			all = append(all, a.status)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *client.Status) int { return cmp.Compare(a.Height, b.Height) })
	return all[len(all)/2]
}

// state is what a node does, by its own word.
func state(s *client.Status) string {
	switch {
	case s.Short():
		return Hidden
	case s.Role == Rejoining, s.Role == Observer:
		return s.Role
	case s.VotesFromHeight == nil:
		return Mute
	case s.Synchrony != nil && (!s.Synchrony.Healthy || !s.Synchrony.Settled):
		return Abstains
	}
	return Votes
}

// A memory is what earlier answers told.
type memory struct {
	// names are the last names that the nodes said, by URL.
	names map[string]string
	// set is the validator set of the generation; nil before it is known.
	set *client.Validators
	// blocks are the last final blocks, in order, without messages.
	blocks []seenBlock
	// latencies are those of the last blocks, in milliseconds.
	latencies []float64
	// height is the newest height that was seen final, and at when. It is the zero time if that was
	// before the first look.
	height uint64
	at     time.Time
	// begun is the time of the first look.
	begun time.Time
}

type seenBlock struct {
	height   uint64
	messages int
	// set is the hash of the validator set whose members signed it, by their indices.
	set     chain.Hash
	signers []uint32
	// at is when it was seen; the zero time if it was there at the first look.
	at time.Time
}

// judge puts answers side by side.
func judge(answers []answer, m *memory, now time.Time) *Network {
	n := &Network{Nodes: make([]Node, len(answers)), Wrong: []string{}}
	speaker := middle(answers)
	if speaker != nil {
		n.ChainID, n.Height, n.Generation = plain(speaker.ChainID, 64), speaker.Height, speaker.Generation
		n.Validators, n.Threshold, n.Tolerance = speaker.Validators, speaker.Threshold, speaker.Tolerance
		if !speaker.Short() {
			spare := speaker.Headroom
			n.Spare = &spare
		}
		n.SinceBlock = m.sinceBlock(speaker, now)
	}
	n.MessagesPerSecond, n.Finality = m.rate(now), m.finality()
	for i, a := range answers {
		n.Nodes[i] = m.node(a, speaker)
		n.complain(&n.Nodes[i], a.status)
	}
	return n
}

// node is the line of one node.
func (m *memory) node(a answer, speaker *client.Status) Node {
	n := Node{URL: plain(a.url, 200), Name: cmp.Or(m.names[a.url], plain(a.url, longestName)), State: Away}
	if a.status == nil {
		n.Problem = clientcmd.OneLine(a.err)
		return n
	}
	s := a.status
	n.State, n.Height, n.Round, n.Ready, n.Pool, n.Evidence = state(s), s.Height, s.Round, s.Ready, s.Pool.Messages, s.Evidence
	n.Problem = plain(s.Reason, 200)
	if s.ChainID != speaker.ChainID {
		n.State, n.Problem = Stranger, fmt.Sprintf("is of chain %s", plain(s.ChainID, 64))
		return n
	}
	if speaker.Height > s.Height {
		n.Behind = speaker.Height - s.Height
	}
	if m.set == nil || s.Short() {
		return n
	}
	for _, v := range m.set.Validators {
		if v.Index == s.Leader && s.Generation == m.set.Generation {
			n.Leader = plain(v.Name, longestName)
		}
		if v.PublicKey == s.PublicKey {
			n.Signed, n.Of = m.signed(v.Index)
		}
	}
	return n
}

// signed counts the votes of a validator in the certificates of the last blocks.
func (m *memory) signed(index uint32) (signed, of int) {
	for _, b := range m.blocks[max(0, len(m.blocks)-votesOf):] {
		if b.set != m.set.ValidatorsHash {
			continue // the indices are those of other validators
		}
		of++
		if slices.Contains(b.signers, index) {
			signed++
		}
	}
	return signed, of
}

// complain adds what is wrong with a node.
func (n *Network) complain(node *Node, s *client.Status) {
	wrong := func(format string, args ...any) { n.Wrong = append(n.Wrong, fmt.Sprintf(format, args...)) }
	switch {
	case node.State == Away:
		wrong("%s does not answer: %s", node.Name, node.Problem)
		return
	case node.State == Stranger:
		wrong("%s %s", node.Name, node.Problem)
		return
	case node.State == Hidden:
		wrong("%s tells its height only: this client lacks the right Observe", node.Name)
	case !node.Ready:
		wrong("%s is not ready: %s", node.Name, cmp.Or(node.Problem, "it does not say why"))
	}
	if node.State == Mute {
		wrong("%s is in the validator set and cannot vote: it has no vote store", node.Name)
	}
	if s.StorageLow {
		wrong("%s has no room for messages", node.Name)
	}
	if s.Evidence > 0 {
		wrong("%s has %d pieces of evidence of broken rules: diseq get evidence -u %s", node.Name, s.Evidence, node.URL)
	}
	if s.Access != nil && s.Access.Problem != "" {
		wrong("%s has a problem with its access file: %s", node.Name, plain(s.Access.Problem, 200))
	}
}

// window is the time over which messages are counted.
const window = 10 * time.Second

// rate is the number of messages that became final, a second.
func (m *memory) rate(now time.Time) *float64 {
	over := min(window, now.Sub(m.begun))
	if m.begun.IsZero() || over <= 0 {
		return nil
	}
	count := 0
	for _, b := range m.blocks {
		if !b.at.IsZero() && now.Sub(b.at) < window {
			count += b.messages
		}
	}
	per := float64(count) / over.Seconds()
	return &per
}

func (m *memory) finality() *float64 {
	if len(m.latencies) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(m.latencies))
	return &sorted[len(sorted)/2]
}

// sinceBlock is in seconds.
func (m *memory) sinceBlock(s *client.Status, now time.Time) *float64 {
	at := m.at
	if at.IsZero() {
		seen := cmp.Or(s.FinalizedTimestamp, s.BlockTimestamp)
		if seen == 0 || s.Height == 0 {
			return nil
		}
		at = time.UnixMilli(int64(seen))
	}
	since := max(0, now.Sub(at)).Seconds()
	return &since
}

// kept bounds what is kept of the past: blocks for the votes and the rate, and latencies.
const (
	keptBlocks    = 1000
	votesOf       = 20
	keptLatencies = 50
)

// remember keeps what answers tell for the next looks.
func (m *memory) remember(answers []answer, speaker *client.Status, now time.Time) {
	for _, a := range answers {
		if a.status == nil || a.status.ChainID != speaker.ChainID {
			continue
		}
		s := a.status
		if s.Node != "" {
			m.names[a.url] = plain(s.Node, longestName)
		}
		// A node that claims to be ahead of the others tells nothing here.
		if s.Height > m.height && s.Height <= speaker.Height && s.FinalizedTimestamp > 0 && s.BlockTimestamp > 0 {
			m.latencies = append(m.latencies, max(0, float64(s.FinalizedTimestamp)-float64(s.BlockTimestamp)))
		}
	}
	m.latencies = m.latencies[max(0, len(m.latencies)-keptLatencies):]
	if speaker.Height > m.height {
		if m.height > 0 || !m.begun.IsZero() {
			m.at = now
		}
		m.height = speaker.Height
	}
	if m.begun.IsZero() {
		m.begun = now
	}
}

// add keeps new final blocks, which begin where the last ones ended or above.
func (m *memory) add(blocks []client.Block, first bool, now time.Time) {
	for i := range blocks {
		b := &blocks[i]
		if len(m.blocks) > 0 && b.Header.Height <= m.blocks[len(m.blocks)-1].height {
			continue
		}
		seen := seenBlock{height: b.Header.Height, messages: int(b.Header.MessagesCount), set: b.Header.ValidatorsHash}
		if !first {
			seen.at = now
		}
		if b.Certificate != nil {
			seen.signers = signers(b.Certificate.Votes)
		}
		m.blocks = append(m.blocks, seen)
	}
	m.blocks = m.blocks[max(0, len(m.blocks)-keptBlocks):]
}

func signers(votes []chain.VoteSignature) []uint32 {
	out := make([]uint32, len(votes))
	for i, v := range votes {
		out[i] = v.Validator
	}
	return out
}
