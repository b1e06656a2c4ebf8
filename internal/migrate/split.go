package migrate

import (
	"slices"
	"strings"
	"unicode"
)

// split finds the statements of a script as psql does: by the semicolons that stand outside of quotes, comments, brackets and the
// bodies of functions in SQL ("Lexical Structure" in PostgreSQL's manual; BEGIN ATOMIC in "CREATE FUNCTION"). Each of blocks, which lie in
// order, is one statement whatever is in it.
func split(text []rune, blocks []span) []span {
	l := lexer{text: text, from: -1}
	for l.at < len(text) {
		if len(blocks) > 0 && l.at >= blocks[0].from {
			l.end(l.at)
			if b := trimmed(text, blocks[0]); b.from < b.to {
				l.found = append(l.found, b)
			}
			l.at, blocks = max(l.at, blocks[0].to), blocks[1:]
			continue
		}
		l.step()
	}
	l.end(len(text))
	return l.found
}

func trimmed(text []rune, s span) span {
	for s.from < s.to && unicode.IsSpace(text[s.from]) {
		s.from++
	}
	for s.from < s.to && unicode.IsSpace(text[s.to-1]) {
		s.to--
	}
	return s
}

type lexer struct {
	text  []rune
	at    int
	from  int      // where the statement begins, -1 before its first sign
	words []string // the first ones of the statement
	depth int      // of brackets
	body  int      // of BEGIN ATOMIC and CASE in the body of a function
	found []span
}

// end ends the statement before at.
func (l *lexer) end(at int) {
	if l.from >= 0 {
		if s := trimmed(l.text, span{l.from, at}); s.from < s.to {
			l.found = append(l.found, s)
		}
	}
	l.from, l.words, l.depth, l.body = -1, nil, 0, 0
}

func (l *lexer) peek(i int) rune {
	if l.at+i < len(l.text) {
		return l.text[l.at+i]
	}
	return 0
}

// step takes one sign, word, quote or comment.
func (l *lexer) step() {
	if l.blank() {
		return
	}
	if l.peek(0) == ';' && l.depth == 0 && l.body == 0 {
		l.at++
		if l.from >= 0 {
			l.end(l.at)
		}
		return
	}
	if l.from < 0 {
		l.from = l.at
	}
	switch {
	case l.literal():
	case isWord(l.peek(0)):
		l.word()
	default:
		l.sign()
	}
}

// blank goes behind white space or a comment, and reports whether there was one.
func (l *lexer) blank() bool {
	switch r := l.peek(0); {
	case unicode.IsSpace(r):
		l.at++
	case r == '-' && l.peek(1) == '-':
		l.line()
	case r == '/' && l.peek(1) == '*':
		l.comment()
	default:
		return false
	}
	return true
}

// literal goes behind a text, or a name in quotes, and reports whether there was one.
func (l *lexer) literal() bool {
	switch r := l.peek(0); {
	case r == '\'', r == '"':
		l.quote(r, false)
	case (r == 'e' || r == 'E') && l.peek(1) == '\'':
		l.at++
		l.quote('\'', true)
	case r == '$':
		l.dollar()
	default:
		return false
	}
	return true
}

// sign goes behind one sign, and counts brackets.
func (l *lexer) sign() {
	switch l.peek(0) {
	case '(':
		l.depth++
	case ')':
		l.depth = max(0, l.depth-1)
	}
	l.at++
}

func (l *lexer) line() {
	for l.at < len(l.text) && l.text[l.at] != '\n' {
		l.at++
	}
}

func (l *lexer) comment() {
	depth := 0
	for l.at < len(l.text) {
		switch {
		case l.peek(0) == '/' && l.peek(1) == '*':
			depth++
			l.at++
		case l.peek(0) == '*' && l.peek(1) == '/':
			depth--
			l.at++
		}
		l.at++
		if depth == 0 {
			return
		}
	}
}

// quote goes behind the closing mark; a doubled one is two quotes in a row, which comes to the same.
func (l *lexer) quote(mark rune, escapes bool) {
	for l.at++; l.at < len(l.text); l.at++ {
		switch {
		case escapes && l.peek(0) == '\\':
			l.at++
		case l.peek(0) == mark && escapes && l.peek(1) == mark:
			l.at++
		case l.peek(0) == mark:
			l.at++
			return
		}
	}
}

// dollar goes behind a text between $tag$ and $tag$, or behind the sign of a parameter.
func (l *lexer) dollar() {
	end := l.at + 1
	for end < len(l.text) && isWord(l.text[end]) && l.text[end] != '$' {
		end++
	}
	if end >= len(l.text) || l.text[end] != '$' || unicode.IsDigit(l.text[l.at+1]) {
		l.at++
		return
	}
	tag := l.text[l.at : end+1]
	for l.at = end + 1; l.at < len(l.text); l.at++ {
		if l.text[l.at] == '$' && len(l.text)-l.at >= len(tag) && slices.Equal(l.text[l.at:l.at+len(tag)], tag) {
			l.at += len(tag)
			return
		}
	}
}

func isWord(r rune) bool {
	return r == '_' || r == '$' || r >= 0x80 || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// name takes an identifier or a keyword, and returns it in small letters.
func (l *lexer) name() string {
	begin := l.at
	for l.at < len(l.text) && isWord(l.text[l.at]) {
		l.at++
	}
	return strings.ToLower(string(l.text[begin:l.at]))
}

// word takes an identifier or a keyword, and counts what opens and closes the body of a function.
func (l *lexer) word() {
	word := l.name()
	if len(l.words) < 4 {
		l.words = append(l.words, word)
	}
	if !l.routine() || l.depth > 0 {
		return
	}
	switch {
	case word == "begin", word == "case" && l.body > 0:
		l.body++
	case word == "end" && l.body > 0:
		l.body--
	}
}

// routine reports whether the statement is CREATE [OR REPLACE] FUNCTION or PROCEDURE.
func (l *lexer) routine() bool {
	words := l.words
	if len(words) < 2 || words[0] != "create" {
		return false
	}
	if words = words[1:]; len(words) > 2 && words[0] == "or" && words[1] == "replace" {
		words = words[2:]
	}
	return words[0] == "function" || words[0] == "procedure"
}
