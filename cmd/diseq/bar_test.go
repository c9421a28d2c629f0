package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// A load shows a bar where the standard error is a terminal, and the output stays as it is.
func TestBenchDrawsABarOnATerminal(t *testing.T) {
	_, url := startFake(t, func(int) (int, bool) { return http.StatusAccepted, false })
	terminal, stderr, err := pty.Open()
	must(t, err)
	must(t, pty.Setsize(terminal, &pty.Winsize{Rows: 24, Cols: 100}))
	var shown bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&shown, terminal) // it ends with an error when the other end is closed
	}()
	var out bytes.Buffer
	args := []string{"bench", "-u", url, "--rate", "100", "--batch", "1", "--connections", "1", "--duration", "1s"}
	code := run(t.Context(), args, strings.NewReader(""), &out, stderr)
	must(t, stderr.Close())
	<-read
	must(t, terminal.Close())
	if text := shown.String(); code != 0 || !strings.Contains(text, "%") || !strings.Contains(text, " accepted, ") {
		t.Errorf("exit code %d; the terminal shows %q", code, text)
	}
	if !strings.Contains(out.String(), "submit to final: ") || strings.Contains(out.String(), "%") {
		t.Errorf("the output is %q", out.String())
	}
	if o := diseq(t, "", args...); o.code != 0 || o.stderr != "" {
		t.Errorf("without a terminal: exit code %d, %q", o.code, o.stderr)
	}
}
