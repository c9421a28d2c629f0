package processes

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"

	"github.com/diseq/diseq/test/system"
)

// A screen is what a program has written to its terminal since the last resize.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// take returns the text without control sequences, and forgets it.
func (s *screen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text.String()
	s.text.Reset()
	return ansi.Strip(text)
}

// The dashboard on a real terminal sees a validator die, and ends with a key.
func TestTheDashboardSeesAKilledValidator(t *testing.T) {
	n := system.Start(t, system.Options{})
	var urls []string
	for _, node := range n.Nodes {
		urls = append(urls, node.URL)
	}
	command := exec.Command(system.Binary, "top", "-u", strings.Join(urls, ","))
	command.Env = append(command.Environ(), "TERM=xterm-256color")
	terminal, err := pty.StartWithSize(command, &pty.Winsize{Rows: 30, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	shown := &screen{}
	ended := make(chan error, 1)
	go func() {
		_, _ = io.Copy(shown, terminal) // it ends with an error when the program does
		ended <- command.Wait()
	}()
	defer func() { _ = terminal.Close() }()
	t.Cleanup(func() { _ = command.Process.Kill() })
	// The program writes what has changed. A terminal of another width gets the whole picture.
	width := uint16(100)
	shows := func(parts ...string) {
		t.Helper()
		seen := ""
		system.Eventually(t, soon, fmt.Sprintf("a screen with %q", parts), func() error {
			width = 201 - width
			if err := pty.Setsize(terminal, &pty.Winsize{Rows: 30, Cols: width}); err != nil {
				return err
			}
			seen += shown.take()
			for _, part := range parts {
				if !strings.Contains(seen, part) {
					return fmt.Errorf("not on the screen yet: %q", part)
				}
			}
			return nil
		})
	}
	shows("4 of 4 nodes answer", "1 more may fail", "q quit")
	n.Nodes[1].Kill()
	shows("3 of 4 nodes answer", "no more may fail", n.Nodes[1].Name+" does not answer: ")
	n.Nodes[1].Start()
	shows("4 of 4 nodes answer", "1 more may fail")
	if _, err := io.WriteString(terminal, "q"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the dashboard ended with %v", err)
	}
}
