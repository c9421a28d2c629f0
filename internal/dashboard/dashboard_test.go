package dashboard

import (
	"fmt"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/diseq/diseq/internal/overview"
)

// network is n nodes, the second of which is away.
func network(n int) *overview.Network {
	spare, rate := 0, 1234.0
	out := &overview.Network{
		ChainID: "c", Height: 30, Validators: n, Threshold: 3, Spare: &spare, MessagesPerSecond: &rate,
		Wrong: []string{"v1 does not answer: connection refused"},
	}
	for i := range n {
		out.Nodes = append(out.Nodes, overview.Node{
			Name: fmt.Sprintf("v%d", i), State: overview.Votes, Height: 30, Behind: uint64(i), Pool: 5, Ready: true, Leader: "v2",
		})
	}
	out.Nodes[1] = overview.Node{Name: "v1", State: overview.Away}
	return out
}

// after is the dashboard after messages, the first look among them.
func after(n *overview.Network, messages ...tea.Msg) *Model {
	m := New(func() *overview.Network { return n })
	m.Update(m.Init()())
	for _, message := range messages {
		m.Update(message)
	}
	return m
}

func key(text string) tea.Msg {
	special := map[string]rune{"esc": tea.KeyEscape, "down": tea.KeyDown, "up": tea.KeyUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome}
	if code, ok := special[text]; ok {
		return tea.KeyPressMsg{Code: code}
	}
	return tea.KeyPressMsg{Code: []rune(text)[0], Text: text}
}

func size(width, height int) tea.Msg { return tea.WindowSizeMsg{Width: width, Height: height} }

func lines(m *Model) []string { return strings.Split(ansi.Strip(m.Picture()), "\n") }

func TestThePictureShowsTheNetwork(t *testing.T) {
	if got := ansi.Strip(New(nil).Picture()); !strings.Contains(got, "asking the nodes") {
		t.Errorf("before the first look: %q", got)
	}
	m := after(network(4), size(100, 24))
	text := ansi.Strip(m.Picture())
	for _, want := range []string{
		"chain c  height 30  3 of 4 nodes answer", "messages/s 1234", "no more may fail", "NODE  STATE  HEIGHT  BEHIND  ROUND  LEADER",
		"v0    votes  30", "v1    away   -", "v1 does not answer: connection refused", "q quit  s sort  ? help",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if !m.View().AltScreen {
		t.Error("the dashboard writes over what the user had on the screen")
	}
}

// The picture fits into a terminal of any size, and shows the nodes and the keys.
func TestThePictureFitsIntoTheTerminal(t *testing.T) {
	for _, n := range []int{4, 100} {
		for _, width := range []int{1, 2, 9, 17, 31, 55, 80, 129} {
			for _, height := range []int{1, 2, 5, 12, 24, 39} {
				m := after(network(n), size(width, height))
				for _, press := range []string{"", "?", "?", "s", "pgdown", "pgdown"} {
					if press != "" {
						m.Update(key(press))
					}
					got := lines(m)
					if len(got) > height {
						t.Fatalf("%d by %d: %d lines", width, height, len(got))
					}
					for _, line := range got {
						if ansi.StringWidth(line) > width {
							t.Fatalf("%d by %d: a line of %d columns: %q", width, height, ansi.StringWidth(line), line)
						}
					}
				}
			}
		}
	}
	text := strings.Join(lines(after(network(4), size(30, 24))), "\n")
	for _, want := range []string{"NODE  STATE  HEIGHT  READY", "v1    away   -", "q quit"} {
		if !strings.Contains(text, want) {
			t.Errorf("a narrow terminal lacks %q:\n%s", want, text)
		}
	}
	if got := after(network(4), size(0, 0)).Picture(); got != "" {
		t.Errorf("a terminal without a size gets %q", got)
	}
}

func TestKeys(t *testing.T) {
	first := func(m *Model) string {
		all := lines(m)
		for i, line := range all {
			if strings.HasPrefix(line, "NODE") {
				return strings.Fields(all[i+1])[0]
			}
		}
		t.Fatalf("no nodes in\n%s", strings.Join(all, "\n"))
		return ""
	}
	m := after(network(100), size(80, 24))
	for _, step := range []struct{ key, want string }{
		{"", "v0"}, {"down", "v1"}, {"j", "v2"}, {"up", "v1"}, {"k", "v0"}, {"up", "v0"}, {"pgdown", "v10"}, {"home", "v0"},
		{"s", "v0"}, {"s", "v1"}, // by name; by state: away comes first
		{"s", "v1"}, // by behind: so does it there
	} {
		if step.key != "" {
			m.Update(key(step.key))
		}
		if got := first(m); got != step.want {
			t.Errorf("after %q the first node is %s, want %s", step.key, got, step.want)
		}
	}
	if keys := lines(m); !strings.Contains(keys[len(keys)-1], "(by BEHIND)") {
		t.Errorf("the last line is %q", keys[len(keys)-1])
	}
	m.Update(key("?"))
	if text := ansi.Strip(m.Picture()); !strings.Contains(text, "SIGNED") || strings.Contains(text, "v50") {
		t.Errorf("help is\n%s", text)
	}
	for _, end := range []tea.Msg{key("q"), key("esc"), tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}} {
		_, command := m.Update(end)
		if command == nil {
			t.Fatalf("%v does not end the dashboard", end)
		}
		if _, quits := command().(tea.QuitMsg); !quits {
			t.Errorf("%v does not end the dashboard", end)
		}
	}
	if _, command := m.Update(key("x")); command != nil {
		t.Error("an unknown key does something")
	}
}

// A look follows the pause that follows a look.
func TestLooksFollowEachOther(t *testing.T) {
	looks := 0
	m := New(func() *overview.Network { looks++; return network(4) })
	_, pause := m.Update(m.Init()())
	if pause == nil || looks != 1 {
		t.Fatalf("%d looks", looks)
	}
	_, ask := m.Update(due{})
	if _, ok := ask().(looked); !ok || looks != 2 {
		t.Errorf("%d looks", looks)
	}
}
