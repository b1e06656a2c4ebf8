package migrate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// script is what of a file runs.
type script struct {
	path       string
	text       []rune // as long as the file, with blanks for what does not run: PostgreSQL's positions are those of the file
	statements []span
	alone      bool   // annotated: not in a transaction
	sum        string // of what runs
	acts       []act  // of a command: its statements with their values; nil: a file
}

// span is a piece of a script, in runes.
type span struct{ from, to int }

func (s script) piece(i int) string {
	return string(s.text[s.statements[i].from:s.statements[i].to])
}

// place is a position as editors take it.
func (s script) place(at int) string {
	before := s.text[:min(max(at, 0), len(s.text))]
	line := 1
	begin := 0
	for i, r := range before {
		if r == '\n' {
			line, begin = line+1, i+1
		}
	}
	return fmt.Sprintf("%s:%d:%d", s.path, line, len(before)-begin+1)
}

// sumOf is the checksum of the first statements, by which a run knows that it goes on with the file that was begun.
func (s script) sumOf(statements int) string {
	h := sha256.New()
	for i := range statements {
		fmt.Fprintf(h, "%s\x00", strings.ReplaceAll(s.piece(i), "\r", ""))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Annotations of tools, each a comment on a line of its own.
var (
	goose     = regexp.MustCompile(`^\s*--\s*\+goose\s+(\S.*?)\s*$`)
	dbmate    = regexp.MustCompile(`(?s)^\s*--\s*migrate:(up|down)\b(.*)$`)
	ownAlone  = regexp.MustCompile(`(?i)^\s*--\s*(lotse:no-transaction|atlas:txmode\s+none)\s*$`)
	fromStdin = regexp.MustCompile(`(?is)^copy\b.*\bfrom\s+stdin\b`)
)

// parse finds what runs in a file, and how.
func parse(path string, raw []byte) (script, error) {
	s := script{path: path}
	if !utf8.Valid(raw) || slices.Contains(raw, 0) {
		return s, fmt.Errorf("%w: %s is no text in UTF-8", deploy.ErrMigration, path)
	}
	p := parser{script: &s, runs: true}
	lines := strings.SplitAfter(strings.Replace(string(raw), "\ufeff", " ", 1), "\n")
	for _, line := range lines {
		p.tool = p.tool || goose.MatchString(line) || dbmate.MatchString(line)
	}
	p.runs = !p.tool // where there are annotations, they say where what runs begins
	for _, line := range lines {
		if err := p.line(line); err != nil {
			return s, err
		}
	}
	switch {
	case p.open:
		return s, fmt.Errorf("%w: %s: StatementBegin has no StatementEnd", deploy.ErrMigration, s.place(p.block))
	case p.tool && !p.seen:
		return s, deploy.Hint(fmt.Errorf("%w: %s says nowhere where the part begins that runs", deploy.ErrMigration, path), "-- +goose Up, or -- migrate:up")
	}
	s.sum = hex.EncodeToString(p.sum())
	s.statements = split(s.text, p.blocks)
	return s, s.check()
}

// parser goes through a file line by line.
type parser struct {
	*script
	tool   bool // it has goose's or dbmate's annotations
	runs   bool // the line belongs to what runs
	seen   bool // what runs has begun
	blocks []span
	open   bool // between StatementBegin and StatementEnd
	block  int  // where that has begun
	kept   strings.Builder
}

func (p *parser) sum() []byte {
	h := sha256.Sum256([]byte(p.kept.String()))
	return h[:]
}

func (p *parser) line(line string) error {
	begin := len(p.text)
	if match := goose.FindStringSubmatch(line); match != nil {
		if err := p.goose(match[1], begin, begin+len([]rune(line))); err != nil {
			return err
		}
	} else if match := dbmate.FindStringSubmatch(line); match != nil {
		p.runs = match[1] == "up"
		p.seen = p.seen || p.runs
		p.alone = p.alone || p.runs && strings.Contains(match[2], "transaction:false")
	}
	p.alone = p.alone || ownAlone.MatchString(line)
	if p.runs {
		p.text = append(p.text, []rune(line)...)
		p.kept.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		return nil
	}
	for _, r := range line {
		if r != '\n' {
			r = ' '
		}
		p.text = append(p.text, r)
	}
	return nil
}

// goose does what one of its annotations says; see "SQL migrations" in goose's manual.
func (p *parser) goose(says string, begin, end int) error {
	switch word := strings.ToUpper(says); word {
	case "UP", "DOWN":
		p.runs = word == "UP"
		p.seen = p.seen || p.runs
	case "NO TRANSACTION":
		p.alone = true
	case "STATEMENTBEGIN":
		p.open, p.block = true, end
	case "STATEMENTEND":
		if p.runs && p.open {
			p.blocks = append(p.blocks, span{p.block, begin})
		}
		p.open = false
	case "ENVSUB OFF":
	default:
		return fmt.Errorf("%w: %s: Lotse does not know the annotation +goose %.40s", deploy.ErrMigration, p.place(begin), says)
	}
	return nil
}

// check refuses what would not do what it says, and takes away a transaction around the whole, since there is one already.
func (s *script) check() error {
	var control []int
	for i := range s.statements {
		switch text := s.piece(i); {
		case strings.HasPrefix(text, `\`):
			return deploy.Hint(fmt.Errorf("%w: %s: a command of psql's own is no SQL", deploy.ErrMigration, s.place(s.statements[i].from)), "take the lines that begin with \\ away")
		case fromStdin.MatchString(text):
			return deploy.Hint(fmt.Errorf("%w: %s: COPY FROM stdin needs a client that sends the rows", deploy.ErrMigration, s.place(s.statements[i].from)), "use INSERT; pg_dump --inserts writes it")
		case controls(text):
			control = append(control, i)
		}
	}
	if len(control) == 0 {
		return nil
	}
	last := len(s.statements) - 1
	if len(control) == 2 && control[0] == 0 && control[1] == last && begins(s.piece(0)) && commits(s.piece(last)) {
		for _, i := range control {
			blank(s.text[s.statements[i].from:s.statements[i].to])
		}
		s.statements = s.statements[1:last]
		return nil
	}
	return deploy.Hint(fmt.Errorf("%w: %s: the file handles transactions itself, in which the record that it ran cannot be", deploy.ErrMigration, s.place(s.statements[control[0]].from)),
		"leave BEGIN and COMMIT out: a file is one transaction; what needs several goes into several files")
}

func blank(text []rune) {
	for i, r := range text {
		if r != '\n' {
			text[i] = ' '
		}
	}
}

var (
	beginning = regexp.MustCompile(`(?is)^(begin|start\s+transaction)\b`)
	ending    = regexp.MustCompile(`(?is)^(commit|end)\b`)
	turning   = regexp.MustCompile(`(?is)^(abort|prepare\s+transaction|rollback(\s+(work|transaction))?\s*($|;|and\b|prepared\b))`)
)

func begins(text string) bool   { return beginning.MatchString(text) }
func commits(text string) bool  { return ending.MatchString(text) }
func controls(text string) bool { return begins(text) || commits(text) || turning.MatchString(text) }
