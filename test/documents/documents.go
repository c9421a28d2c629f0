// Package documents reads the commands of the documents, so that tests run them as they stand.
package documents

import (
	"fmt"
	"os"
	"strings"
)

// Commands returns the blocks of commands under a heading of a Markdown file, in their order: lines
// that are indented by four spaces, without the indentation. The heading is written with its marks,
// such as "## Alerts". Headings below it belong to its section.
func Commands(file, heading string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, section, found := strings.Cut("\n"+string(text), "\n"+heading+"\n")
	if !found {
		return nil, fmt.Errorf("%s has no heading %q", file, heading)
	}
	marks, _, _ := strings.Cut(heading, " ")
	var blocks []string
	within := false
	for line := range strings.Lines(section) {
		if level, _, ok := strings.Cut(line, "# "); ok && strings.Trim(level, "#") == "" && len(level) < len(marks) {
			break // the next heading of this level, or of a higher one
		}
		command, code := strings.CutPrefix(line, "    ")
		switch {
		case code && within:
			blocks[len(blocks)-1] += command
		case code:
			blocks = append(blocks, command)
		}
		within = code
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s has no commands under %q", file, heading)
	}
	return blocks, nil
}
