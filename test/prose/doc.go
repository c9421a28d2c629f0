// Package prose checks the English of this repository: its documents, the texts that a user sees
// and the comments. It knows nothing of grammar. It reads sentences and looks for a few habits that
// make a text hard to follow: too many words, a relative clause as the subject, and phrases of a
// fixed list. The rules are the table in rules.go.
//
// One area is checked alone with
//
//	go test ./test/prose -args -only node/server,docs/api.md
//
// Code is not prose: fenced and indented blocks, code spans, URLs, SQL and format verbs are left
// out or count as one word.
package prose
