package prose

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// read finds the texts of a file, and the comments in it that are too wide.
func read(file, source string) ([]text, []finding, error) {
	base := path.Base(file)
	switch ext := path.Ext(file); {
	case ext == ".md", base == "NOTES.txt":
		return markdown(file, 0, withoutTemplates(source), shown), nil, nil
	case ext == ".go":
		return golang(file, source)
	case base == "openapi.yaml":
		all, err := described(file, source)
		return append(all, hashComments(file, source, comment)...), nil, err
	case base == "values.yaml":
		return hashComments(file, source, shown), nil, nil
	case ext == ".yaml", ext == ".yml":
		return hashComments(file, source, comment), nil, nil
	case ext == ".sh", file == ".ci/run":
		return append(hashComments(file, source, comment), echoed(file, source)...), nil, nil
	case base == "Makefile":
		return append(hashComments(file, source, comment), targets(file, source)...), nil, nil
	case base == "Dockerfile":
		return hashComments(file, source, comment), nil, nil
	case ext == ".proto":
		return lineComments(file, source, regexp.MustCompile(`^\s*// ?`), comment), nil, nil
	}
	return nil, nil, nil
}

var (
	templateLine   = regexp.MustCompile(`(?m)^\s*{{.*}}\s*$`)
	templateAction = regexp.MustCompile(`(?s){{.*?}}`)
)

func withoutTemplates(source string) string {
	source = templateLine.ReplaceAllString(source, "")
	return templateAction.ReplaceAllStringFunc(source, func(action string) string {
		return string(codeMark) + strings.Repeat("\n", strings.Count(action, "\n"))
	})
}

// generated is the line by which tools mark their output.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// golang finds the comments and the strings of a Go file. The comments of the API's types are shown
// to users, as descriptions of the CRD.
func golang(file, source string) (all []text, found []finding, err error) {
	if generated.MatchString(source) {
		return nil, nil, nil
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	of := comment
	if strings.HasPrefix(file, "api/") {
		of = shown
	}
	sourceLines := strings.Split(source, "\n")
	for _, group := range parsed.Comments {
		var lines []line
		for _, c := range group.List {
			first := files.Position(c.Pos()).Line
			for i, s := range strings.Split(c.Text, "\n") {
				whole := sourceLines[first+i-1]
				alone := i > 0 || strings.HasPrefix(strings.TrimSpace(whole), "//")
				if directive.MatchString(s) || example.MatchString(s) {
					lines = append(lines, line{first + i, ""})
					continue
				}
				if n := columns(whole); alone && n > maxColumns && strings.Contains(strings.TrimSpace(s)[min(3, len(strings.TrimSpace(s))):], " ") {
					rule := strconv.Itoa(n) + " columns, want " + strconv.Itoa(maxColumns) + " at most"
					found = append(found, finding{file, first + i, rule, strings.TrimSpace(whole)})
				}
				s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(s, "//"), "/*"), "*/")
				lines = append(lines, line{first + i, strings.TrimPrefix(s, " ")})
			}
		}
		all = append(all, paragraphs(file, lines, of)...)
	}
	if !strings.HasSuffix(file, "_test.go") && !strings.HasPrefix(file, "test/") {
		all = append(all, literals(file, files, parsed)...)
	}
	return all, found, nil
}

var (
	directive = regexp.MustCompile(`^//([a-z]+:[a-z]|line |nolint|export |extern |` +
		` ?\+(kubebuilder|k8s|optional|required|list|map|struct|genclient|enum|default))`)
	example = regexp.MustCompile(`^// ?((Unordered )?[Oo]utput:|Promises? \d)`)
)

// paragraphs splits a comment at its empty lines and at its items; what is indented is code, unless
// it is an item or goes on with one.
func paragraphs(file string, lines []line, k kind) (all []text) {
	var current []line
	flush := func() {
		if len(current) > 0 {
			all = append(all, text{file, k, plain(current)})
			current = nil
		}
	}
	inItem := false
	for _, l := range lines {
		trimmed := strings.TrimSpace(l.text)
		switch {
		case trimmed == "":
			flush()
			inItem = false
		case strings.HasPrefix(trimmed, "# ") && k != shown:
			flush()
			all = append(all, text{file, heading, plain([]line{{l.number, trimmed[2:]}})})
		case listItem.MatchString(l.text):
			flush()
			inItem = true
			current = append(current, line{l.number, listItem.ReplaceAllString(l.text, "")})
		case (strings.HasPrefix(l.text, "\t") || strings.HasPrefix(l.text, "  ")) && !inItem:
			flush()
		default:
			current = append(current, line{l.number, trimmed})
		}
	}
	flush()
	return all
}

var (
	verb = regexp.MustCompile(`%[-+# 0]*(\[\d+\])?(\d+|\*)?(\.(\d+|\*)?)?(\[\d+\])?[a-zA-Z]`)
	sql  = regexp.MustCompile(`^\s*(SELECT|INSERT|CREATE|UPDATE|DELETE|PRAGMA|WITH|REPLACE|BEGIN|ALTER|DROP|ATTACH)\b`)
	// spoken is a word as prose has them.
	spoken = regexp.MustCompile(`(^|[\s(])[A-Za-z][a-z']*[.,:;)]?(\s|$)`)
)

// minWords is how many words make a string prose; one of them may be a value.
const minWords = 4

// literals finds the strings of a Go file that hold prose. Strings that are added are one.
func literals(file string, files *token.FileSet, parsed *ast.File) (all []text) {
	add := func(lines []line) {
		whole := make([]string, len(lines))
		for i := range lines {
			whole[i] = lines[i].text
		}
		joined := strings.Join(whole, "\n")
		if sql.MatchString(joined) || len(strings.Fields(joined)) < minWords {
			return
		}
		words := 0
		for w := range strings.FieldsSeq(joined) {
			if spoken.MatchString(w) {
				words++
			}
		}
		if words < minWords-1 {
			return
		}
		all = append(all, markdownOfLines(file, lines)...)
	}
	var visit func(n ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			ast.Inspect(n.Type, visit)
			return false
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				add(literal(files, n))
			}
		case *ast.BinaryExpr:
			if n.Op != token.ADD {
				return true
			}
			parts, others := added(files, n)
			if len(parts) == 0 {
				return true
			}
			for _, o := range others {
				ast.Inspect(o, visit)
			}
			add(parts)
			return false
		}
		return true
	}
	ast.Inspect(parsed, visit)
	return all
}

// added flattens a sum that has a string among its terms; what is not a string becomes a mark.
func added(files *token.FileSet, e ast.Expr) (lines []line, others []ast.Expr) {
	var terms []ast.Expr
	var flatten func(ast.Expr)
	flatten = func(e ast.Expr) {
		if b, ok := e.(*ast.BinaryExpr); ok && b.Op == token.ADD {
			flatten(b.X)
			flatten(b.Y)
			return
		}
		terms = append(terms, e)
	}
	flatten(e)
	strs := false
	for _, term := range terms {
		next := []line{{files.Position(term.Pos()).Line, string(codeMark)}}
		if l, ok := term.(*ast.BasicLit); ok && l.Kind == token.STRING {
			strs = true
			next = literal(files, l)
		} else {
			others = append(others, term)
		}
		if len(next) == 1 && next[0].text == "" {
			continue
		}
		if len(lines) == 0 {
			lines = next
			continue
		}
		last := &lines[len(lines)-1]
		if strings.HasSuffix(last.text, " ") && last.number != next[0].number {
			lines = append(lines, next...)
			continue
		}
		last.text += next[0].text
		lines = append(lines, next[1:]...)
	}
	if !strs {
		return nil, nil
	}
	return lines, others
}

// literal is a value of a string with marks for its format verbs. A raw string has the lines of the
// file; all lines of another string are at its beginning.
func literal(files *token.FileSet, l *ast.BasicLit) (lines []line) {
	value, err := strconv.Unquote(l.Value)
	if err != nil {
		return nil
	}
	value = verb.ReplaceAllString(strings.ReplaceAll(value, "%%", "%"), string(codeMark))
	first := files.Position(l.Pos()).Line
	for i, s := range strings.Split(value, "\n") {
		if l.Value[0] != '`' {
			i = 0
		}
		lines = append(lines, line{first + i, s})
	}
	return lines
}

// markdownOfLines reads a string as markdown does, with the numbers of the lines that it has.
func markdownOfLines(file string, lines []line) (all []text) {
	parts := make([]string, len(lines))
	for i, l := range lines {
		parts[i] = l.text
	}
	for _, t := range markdown(file, 0, strings.Join(parts, "\n"), shown) {
		for i := range t.lines {
			t.lines[i].number = lines[t.lines[i].number-1].number
		}
		all = append(all, t)
	}
	return all
}

// described finds the titles, summaries and descriptions of an OpenAPI document.
func described(file, source string) (all []text, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(source), &document); err != nil {
		return nil, err
	}
	var visit func(*yaml.Node)
	visit = func(n *yaml.Node) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			if value.Kind == yaml.ScalarNode && (key == "description" || key == "summary") {
				base := value.Line - 1
				if value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
					base++
				}
				all = append(all, markdown(file, base, value.Value, shown)...)
			}
		}
		for _, c := range n.Content {
			visit(c)
		}
	}
	visit(&document)
	return all, nil
}

// hashComments finds the comments of YAML and of scripts that stand on lines of their own.
func hashComments(file, source string, k kind) []text {
	return lineComments(file, source, regexp.MustCompile(`^\s*#+( |$)`), k)
}

func lineComments(file, source string, mark *regexp.Regexp, k kind) (all []text) {
	var block []line
	flush := func() {
		all = append(all, paragraphs(file, block, k)...)
		block = nil
	}
	for i, s := range strings.Split(source, "\n") {
		if m := mark.FindString(s); m != "" {
			block = append(block, line{i + 1, s[len(m):]})
			continue
		}
		flush()
	}
	flush()
	return all
}

var (
	echo        = regexp.MustCompile(`\b(?:echo|printf|die|wrong|say|fail|step|note)\s+(?:-\S+\s+)*("(?:[^"\\]|\\.)*"|'[^']*')`)
	shellValue  = regexp.MustCompile(`\$\{[^}]*\}|\$\([^)]*\)|\$\w+|\\n|\\t`)
	makefileRow = regexp.MustCompile(`^[a-z-]+:.*## (.*)`)
)

// echoed finds what a script prints, as far as a text stands in one line.
func echoed(file, source string) (all []text) {
	for i, s := range strings.Split(source, "\n") {
		for _, m := range echo.FindAllStringSubmatch(s, -1) {
			printed := shellValue.ReplaceAllString(m[1][1:len(m[1])-1], string(codeMark))
			printed = verb.ReplaceAllString(printed, string(codeMark))
			if len(strings.Fields(printed)) >= minWords {
				all = append(all, text{file, shown, plain([]line{{i + 1, printed}})})
			}
		}
	}
	return all
}

// targets finds the descriptions that `make help` prints.
func targets(file, source string) (all []text) {
	for i, s := range strings.Split(source, "\n") {
		if m := makefileRow.FindStringSubmatch(s); m != nil {
			all = append(all, text{file, shown, plain([]line{{i + 1, m[1]}})})
		}
	}
	return all
}
