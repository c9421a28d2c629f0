// Package dashboard shows a network on a terminal until the user has seen enough: a line for each
// node, renewed every second.
//
// [Model] is the dashboard without a terminal: events in, a picture out. It decides nothing about
// nodes; package overview does.
package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/diseq/diseq/internal/overview"
)

// every is the pause between two looks at the network.
const every = time.Second

// Run shows what look returns on the terminal of in and out, until the user ends it or ctx does.
func Run(ctx context.Context, look func(context.Context) *overview.Network, in io.Reader, out io.Writer) error {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	model := New(func() *overview.Network { return look(asking) })
	// Ctrl-C is a key here, and the command has a handler of its own for signals.
	_, err := tea.NewProgram(model, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil && errors.Is(err, tea.ErrProgramKilled) {
		return nil
	}
	return err
}

// A Model is what the dashboard shows and how.
type Model struct {
	look          func() *overview.Network
	network       *overview.Network // nil before the first look
	width, height int
	// sorted is an index in sorts.
	sorted int
	// from is the first node on the screen.
	from int
	help bool
}

// New returns a dashboard of what look returns.
func New(look func() *overview.Network) *Model { return &Model{look: look, width: 80, height: 24} }

// The orders of the nodes: as the user named them, and by columns.
var sorts = []string{"", "NODE", "STATE", "BEHIND", "HEIGHT", "POOL"}

type (
	looked struct{ network *overview.Network }
	due    struct{}
)

func (m *Model) ask() tea.Msg { return looked{m.look()} }

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return m.ask }

// Update implements tea.Model.
func (m *Model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case looked:
		m.network = message.network
		return m, tea.Tick(every, func(time.Time) tea.Msg { return due{} })
	case due:
		return m, m.ask
	case tea.WindowSizeMsg:
		m.width, m.height = message.Width, message.Height
	case tea.KeyPressMsg:
		switch message.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		case "s":
			m.sorted, m.from = (m.sorted+1)%len(sorts), 0
		case "?", "h":
			m.help = !m.help
		case "down", "j":
			m.from++
		case "up", "k":
			m.from--
		case "pgdown", "space":
			m.from += 10
		case "pgup":
			m.from -= 10
		case "home":
			m.from = 0
		}
		m.from = max(0, min(m.from, m.nodes()-1))
	}
	return m, nil
}

func (m *Model) nodes() int {
	if m.network == nil {
		return 0
	}
	return len(m.network.Nodes)
}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(m.Picture())
	v.AltScreen = true
	return v
}

var (
	title = lipgloss.NewStyle().Bold(true)
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Red)
	poor  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	faint = lipgloss.NewStyle().Faint(true)
)

const helpText = `q, Esc, Ctrl-C  end
s               sort by another column
up, down        other nodes, where not all fit
?, h            this help, or back

STATE   The node votes, abstains (the synchrony wait), is rejoining or an observer.
        It cannot vote without a vote store. A hidden one asks for the right Observe.
        It is away if it does not answer.
BEHIND  The node lacks so many heights that the node in the middle has.
LEADER  The validator leads the round in which the node is.
SIGNED  Certificates of the last blocks have the node's vote. They need no more votes
        than the threshold.
POOL    So many messages wait at the node.`

// Picture is the screen: at most height lines of at most width columns.
func (m *Model) Picture() string {
	if m.width <= 0 || m.height <= 0 {
		return ""
	}
	var lines []string
	switch {
	case m.help:
		lines = m.wrap(strings.Split(helpText, "\n"))
	case m.network == nil:
		lines = m.wrap([]string{"asking the nodes ..."})
	default:
		lines = m.body()
	}
	keys := "q quit  s sort"
	if by := sorts[m.sorted]; by != "" {
		keys += " (by " + by + ")"
	}
	keys += "  ? help"
	lines = append(lines[:min(len(lines), m.height-1)], faint.Render(ansi.Truncate(keys, m.width, "")))
	return strings.Join(lines, "\n")
}

// wrap breaks lines that are longer than the terminal is wide.
func (m *Model) wrap(lines []string) (out []string) {
	for _, line := range lines {
		// the second one is for words that are wider than the terminal
		out = append(out, strings.Split(ansi.Hardwrap(ansi.Wrap(line, m.width, ""), m.width, true), "\n")...)
	}
	return out
}

// body shares the height: what is wrong gets a third, the nodes the rest.
func (m *Model) body() []string {
	lines := m.wrap(m.network.Head())
	lines[0] = title.Render(lines[0])
	wrong := m.wrap(m.network.Wrong)
	if room := max(1, m.height/3); len(wrong) > room {
		rest := fmt.Sprintf("and %d lines more", len(wrong)-room+1)
		wrong = append(wrong[:room-1], ansi.Truncate(rest, m.width, ""))
	}
	// a blank line, the headings, and a blank line before what is wrong; the keys at the end
	room := m.height - len(lines) - 2 - len(wrong) - min(1, len(wrong)) - 1
	lines = append(append(lines, ""), m.table(max(1, room))...)
	if len(wrong) > 0 {
		lines = append(lines, "")
	}
	for _, line := range wrong {
		lines = append(lines, poor.Render(line))
	}
	return lines
}

// table draws at most room nodes below the headings, with the columns that the width has room for.
func (m *Model) table(room int) []string {
	shown := *m.network
	shown.Nodes = slices.Clone(shown.Nodes)
	shown.Sort(sorts[m.sorted])
	from := max(0, min(m.from, len(shown.Nodes)-room))
	nodes := shown.Nodes[from:min(len(shown.Nodes), from+room)]
	rows := make([][]string, len(nodes))
	for i := range nodes {
		rows[i] = nodes[i].Cells()
	}
	columns, widths := fit(rows, m.width)
	line := func(cells []string) string {
		var out strings.Builder
		for _, c := range columns {
			cell := ansi.Truncate(cells[c], widths[c], "~")
			out.WriteString(cell + strings.Repeat(" ", widths[c]-ansi.StringWidth(cell)+gap))
		}
		return ansi.Truncate(strings.TrimRight(out.String(), " "), m.width, "~")
	}
	lines := append(make([]string, 0, 1+len(rows)), title.Render(line(overview.Headings)))
	for i, row := range rows {
		text := line(row)
		switch nodes[i].State {
		case overview.Away, overview.Mute, overview.Stranger:
			text = bad.Render(text)
		case overview.Abstains, overview.Rejoining, overview.Hidden:
			text = poor.Render(text)
		}
		lines = append(lines, text)
	}
	return lines
}

// gap is the space between two columns; widestName is what a name gets before others lose columns.
const (
	gap        = 2
	widestName = 24
)

// fit returns the indices of the columns that fit into a width, from left to right, and the widths
// of all columns.
func fit(rows [][]string, width int) (columns, widths []int) {
	widths = make([]int, len(overview.Headings))
	for _, row := range append(slices.Clone(rows), overview.Headings) {
		for i, cell := range row {
			widths[i] = max(widths[i], ansi.StringWidth(cell))
		}
	}
	widths[0] = min(widths[0], widestName)
	left := width + gap
	for i, name := range overview.Order {
		column := slices.Index(overview.Headings, name)
		if i > 0 && widths[column]+gap > left {
			break
		}
		left -= widths[column] + gap
		columns = append(columns, column)
	}
	slices.Sort(columns)
	return columns, widths
}
