package prose

import (
	"regexp"
	"strings"
)

// codeMark stands for code, a link's address or a format verb in the midst of a text: one word that
// is nobody's English.
const codeMark = '⌘'

var (
	codeSpan   = regexp.MustCompile("(``+)(.+?)``+|`[^`]+`")
	link       = regexp.MustCompile(`\]\([^)\s]*\)|\]\[[^\]]*\]`)
	address    = regexp.MustCompile(`<?https?://[^\s)>]*[^\s)>.,;:]>?`)
	htmlTag    = regexp.MustCompile(`</?[a-z][^>]*>|<!--.*?-->`)
	entry      = regexp.MustCompile(`^\[[^\]]*\]\([^)]*\)$`) // a heading's words, as in a table of contents
	fence      = regexp.MustCompile("^(```|~~~)")
	listItem   = regexp.MustCompile(`^\s*([-*+]|\d+[.)])\s+`)
	tableRule  = regexp.MustCompile(`^[\s|:]*-[\s|:-]+$`)
	underlined = regexp.MustCompile(`^\s*(=+|-{3,})\s*$`)
)

// plain takes the marks of Markdown out of a paragraph, line by line. A code span may go over a
// line's end, so the lines are joined for it.
func plain(lines []line) []line {
	joined := make([]string, len(lines))
	for i, l := range lines {
		joined[i] = l.text
	}
	s := codeSpan.ReplaceAllStringFunc(strings.Join(joined, "\n"), func(span string) string {
		return string(codeMark) + strings.Repeat("\n", strings.Count(span, "\n"))
	})
	s = htmlTag.ReplaceAllString(s, "")
	s = link.ReplaceAllString(s, "]")
	s = address.ReplaceAllString(s, string(codeMark))
	s = strings.NewReplacer("**", "", "*", "", "[", "", "]", "").Replace(s)
	result := make([]line, len(lines))
	for i, part := range strings.Split(s, "\n") {
		result[i] = line{lines[i].number, part}
	}
	return result
}

// markdown finds the texts of a document: headings, paragraphs, items and cells. base is the number
// of the line before the first.
func markdown(file string, base int, source string, k kind) (all []text) {
	var current []line
	flush := func() {
		if len(current) == 0 {
			return
		}
		of := k
		if len(current) == 1 && entry.MatchString(current[0].text) {
			of = heading
		}
		all = append(all, text{file, of, plain(current)})
		current = nil
	}
	lines := strings.Split(source, "\n")
	fenced, blank, inItem, hidden := false, true, false, false
	for i, raw := range lines {
		number := base + i + 1
		trimmed := strings.TrimSpace(raw)
		if fence.MatchString(trimmed) {
			flush()
			fenced, inItem, blank = !fenced, inItem && indented(raw), true
			continue
		}
		if strings.HasPrefix(trimmed, "<!--") && !strings.Contains(trimmed, "-->") {
			hidden = true
		}
		switch {
		case hidden:
			flush()
			hidden = !strings.Contains(trimmed, "-->")
		case fenced:
		case trimmed == "":
			flush()
			blank = true
			continue
		case blank && indented(raw) && !inItem: // a block of code
			continue
		case strings.HasPrefix(trimmed, "#"):
			flush()
			title := strings.TrimSpace(strings.TrimLeft(trimmed, "#"))
			all = append(all, text{file, heading, plain([]line{{number, title}})})
			inItem = false
		case tableRule.MatchString(trimmed) && strings.HasPrefix(trimmed, "|"):
		case strings.HasPrefix(trimmed, "|"):
			flush()
			inItem = false
			of := k
			if i+1 < len(lines) && tableRule.MatchString(lines[i+1]) {
				of = heading
			}
			all = append(all, cells(file, number, trimmed, of)...)
		case underlined.MatchString(raw):
			flush()
		case listItem.MatchString(raw):
			flush()
			current = append(current, line{number, listItem.ReplaceAllString(raw, "")})
			inItem = true
		default:
			inItem = inItem && (!blank || strings.HasPrefix(raw, " "))
			current = append(current, line{number, strings.TrimLeft(trimmed, "> ")})
		}
		blank = false
	}
	flush()
	return all
}

func indented(s string) bool {
	return strings.HasPrefix(s, "    ") || strings.HasPrefix(s, "\t")
}

// cells splits a row at the bars that are neither escaped nor in a code span.
func cells(file string, number int, row string, k kind) (all []text) {
	row = codeSpan.ReplaceAllString(row, string(codeMark))
	row = strings.ReplaceAll(row, `\|`, " ")
	for cell := range strings.SplitSeq(strings.Trim(row, "|"), "|") {
		of := k
		if entry.MatchString(strings.TrimSpace(cell)) {
			of = heading
		}
		all = append(all, text{file, of, plain([]line{{number, cell}})})
	}
	return all
}
