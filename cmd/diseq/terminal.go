package main

import (
	"os"

	"github.com/mattn/go-isatty"
)

// isTerminal reports whether an input or output of a command is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
