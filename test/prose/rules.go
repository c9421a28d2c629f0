package prose

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind says which rules a text is held to.
type kind int

const (
	shown   kind = iota // documents, and texts that a user sees
	comment             // comments: their sentences may be long
	heading             // headings: they may begin as questions do
)

// A text is a paragraph, an item of a list, a cell of a table, a string or a heading: what
// sentences are looked for in. Its lines are joined with spaces.
type text struct {
	file  string
	kind  kind
	lines []line
}

type line struct {
	number int
	text   string
}

// A finding is a sentence that breaks a rule.
type finding struct {
	file     string
	line     int
	rule     string
	sentence string
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.file, f.line, f.rule, f.sentence)
}

const (
	maxWords   = 30  // of a sentence in documents and in texts that a user sees
	maxColumns = 100 // of a comment that stands on its own line
	tabColumns = 4
)

// starts are the words that no sentence begins with, questions and headings aside.
var starts = map[string]bool{
	"who": true, "whom": true, "whoever": true, "whomever": true, "what": true, "whatever": true,
}

// banned are the phrases that no text contains, in lower case. unless is what makes a match
// ordinary English; it is compared with the match and the word on either side of it.
var banned = []struct{ phrase, unless string }{
	{phrase: `(is|are|was|were|be|not) had`},
	{phrase: `had again`},
	{phrase: `(told|tells|tell) of`},
	{phrase: `is told`},
	{phrase: `goes before`},
	{phrase: `by the way`},
	{phrase: `is no [a-z]+`, unless: `^(there|here) |no (longer|one|more|less|fewer|later|earlier|` +
		`larger|smaller|better|worse|faster|slower|higher|different|other)\b`},
	{phrase: `may be lost, ever`},
	{phrase: `whom`},
}

var bannedExpressions = func() (all []bannedExpression) {
	for _, b := range banned {
		e := bannedExpression{phrase: regexp.MustCompile(`(?:[a-z]+ )?\b(` + b.phrase + `)\b(?: [a-z]+)?`)}
		if b.unless != "" {
			e.unless = regexp.MustCompile(b.unless)
		}
		all = append(all, e)
	}
	return all
}()

type bannedExpression struct{ phrase, unless *regexp.Regexp }

// check holds one text to the rules for its kind.
func check(t text) (found []finding) {
	for _, s := range sentences(t) {
		add := func(rule string) {
			found = append(found, finding{t.file, s.line, rule, s.text})
		}
		if n := s.words(); t.kind == shown && n > maxWords {
			add(fmt.Sprintf("%d words, want %d at most", n, maxWords))
		}
		if first := s.first(); t.kind != heading && starts[first] && !strings.HasSuffix(s.text, "?") {
			add(fmt.Sprintf("begins with %q", first))
		}
		lower := strings.ToLower(s.text)
		for _, b := range bannedExpressions {
			for _, at := range b.phrase.FindAllStringSubmatchIndex(lower, -1) {
				if b.unless == nil || !b.unless.MatchString(lower[at[0]:at[1]]) {
					add(fmt.Sprintf("contains %q", lower[at[2]:at[3]]))
				}
			}
		}
	}
	return found
}

// columns is the width of a line when a tab counts tabColumns.
func columns(s string) int {
	return utf8.RuneCountInString(s) + (tabColumns-1)*strings.Count(s, "\t")
}

// A sentence and the line that it begins on.
type sentence struct {
	line int
	text string
}

// words counts what is spoken: a dash, an operator or a bracket alone does not count.
func (s sentence) words() int {
	n := 0
	for w := range strings.FieldsSeq(s.text) {
		if strings.ContainsFunc(w, isWordRune) {
			n++
		}
	}
	return n
}

// first is the first word in lower case, without the quotes, brackets and emphasis around it and
// without the number of an item.
func (s sentence) first() string {
	for w := range strings.FieldsSeq(strings.ToLower(s.text)) {
		w = strings.TrimFunc(w, func(r rune) bool { return !isWordRune(r) && r != codeMark })
		w, _, _ = strings.Cut(strings.ReplaceAll(w, "’", "'"), "'")
		if strings.ContainsFunc(w, unicode.IsLetter) || strings.ContainsRune(w, codeMark) {
			return w
		}
	}
	return ""
}

func isWordRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// abbreviations end in a period that ends no sentence.
var abbreviations = regexp.MustCompile(`(?i)(^|[^a-z])(e\.g|i\.e|etc|cf|vs|approx|no|fig|sec|resp|incl|p|pp|st|al|[a-z])\.$`)

// sentences splits a text at periods, question and exclamation marks that a space follows.
func sentences(t text) (all []sentence) {
	type word struct {
		line int
		text string
	}
	var current []word
	end := func() {
		if len(current) == 0 {
			return
		}
		s := sentence{line: current[0].line}
		parts := make([]string, len(current))
		for i, w := range current {
			parts[i] = w.text
		}
		s.text = strings.Join(parts, " ")
		all, current = append(all, s), nil
	}
	for _, l := range t.lines {
		for w := range strings.FieldsSeq(l.text) {
			current = append(current, word{l.number, w})
			bare := strings.TrimRight(w, "\"'`*_)]”’")
			if bare == "" || !strings.ContainsAny(bare[len(bare)-1:], ".?!") {
				continue
			}
			if strings.HasSuffix(bare, "...") || abbreviations.MatchString(bare) {
				continue
			}
			if len(current) == 1 && isNumber(bare) { // of an item
				continue
			}
			end()
		}
	}
	end()
	return all
}

func isNumber(s string) bool {
	s = strings.Trim(s, "*.()")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsDigit(r) })
}
