package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// What a .env file may have at most, and one value of it (a certificate is some thousand bytes), in bytes and in lines with a
// quote in them: after each of these the library is asked again whether the value ends there.
const (
	maxFile   = 1 << 20
	maxValue  = 64 << 10
	maxQuotes = 1000
)

// maxMistakes are told at once; a file with more is something else.
const maxMistakes = 50

// EnvFile reads the variables of a .env file, in its order, as docker compose writes such files: NAME=value, quotes, # comments,
// export, values over several lines in quotes, ${NAME} of a variable above in the same file. The environment of this process is
// never looked at. Errors hold every mistake (the first 50), each with file and line, and never a value or a part of one:
//
//   - deploy.ErrNotFound: there is no such file
//   - deploy.ErrBadInput: others than its owner and group may read it, it is no file, or a line of it is wrong
func EnvFile(path string) ([]deploy.Setting, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return ReadEnv(filepath.Base(path), []byte(data))
}

// ReadEnv is EnvFile of a text; name stands for it in errors.
func ReadEnv(name string, text []byte) ([]deploy.Setting, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", name, maxFile, deploy.ErrBadInput)
	}
	data := string(bytes.TrimPrefix(text, []byte("\ufeff")))
	r := reader{file: name, lines: strings.SplitAfter(data, "\n"), values: map[string]string{}, from: map[string]int{}}
	for r.next < len(r.lines) && len(r.mistakes) < maxMistakes {
		r.statement()
	}
	if len(r.mistakes) > 0 {
		return nil, deploy.Hint(errors.Join(r.mistakes...), `one variable a line: NAME=value, or NAME='value' where it has $, #, " or blanks in it`)
	}
	return r.settings, nil
}

// read returns the text of the file if it is one that should hold secrets.
func read(path string) (string, error) {
	// A pipe in its place must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", deploy.Hint(fmt.Errorf("%s: %w", filepath.Base(path), deploy.ErrNotFound),
			"the stage names it as env_file; make it beside lotse.yaml, for its owner alone: touch .env && chmod 600 .env")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", filepath.Base(path), deploy.ErrBadInput, errors.Unwrap(err))
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file: %w", filepath.Base(path), deploy.ErrBadInput)
	case info.Mode().Perm()&0o007 != 0:
		return "", deploy.Hint(fmt.Errorf("%s is open to everybody on this machine (mode %04o): %w", filepath.Base(path), info.Mode().Perm(), deploy.ErrBadInput),
			"chmod 600 "+filepath.Base(path)+", and change the secrets in it if others use this machine")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", filepath.Base(path), errors.Unwrap(err))
	case len(data) > maxFile:
		return "", fmt.Errorf("%s is larger than %d bytes: %w", filepath.Base(path), maxFile, deploy.ErrBadInput)
	}
	return string(data), nil
}

// reader goes through the lines. The library reads whole files into a map and quotes values in its errors, so it is given one
// statement at a time: that gives lines, order, and sentences of our own.
type reader struct {
	file     string
	lines    []string
	next     int // index of the line that is read next
	settings []deploy.Setting
	values   map[string]string
	from     map[string]int // the line of each name
	mistakes []error
}

func (r *reader) fail(line int, what string) {
	r.mistakes = append(r.mistakes, fmt.Errorf("%s:%d: %s: %w", r.file, line, what, deploy.ErrBadInput))
}

// statement reads one variable, or passes over a comment or an empty line.
func (r *reader) statement() {
	first := r.next + 1
	text := strings.TrimRight(r.lines[r.next], "\r\n")
	r.next++
	if start := strings.TrimSpace(text); start == "" || start[0] == '#' {
		return
	}
	for tries := 0; ; tries++ {
		found, unknown, err := r.parse(text)
		if err == nil {
			r.keep(first, text, found, unknown)
			return
		}
		if !strings.Contains(err.Error(), "unterminated quoted value") {
			r.fail(first, mistake(err))
			return
		}
		more, ok := r.upTo(quoteOf(text), maxValue-len(text))
		if !ok || tries == maxQuotes {
			r.fail(first, "the quote does not end")
			r.next = len(r.lines) // what follows may be its value
			return
		}
		text += "\n" + more
	}
}

// upTo returns the lines that follow up to one that has the quote.
func (r *reader) upTo(quote string, most int) (string, bool) {
	var more []string
	for i, line := range r.lines[r.next:] {
		line = strings.TrimRight(line, "\r\n")
		more = append(more, line)
		if most -= len(line) + 1; most < 0 {
			return "", false
		}
		if strings.Contains(line, quote) {
			r.next += i + 1
			return strings.Join(more, "\n"), true
		}
	}
	return "", false
}

var assignment = regexp.MustCompile(`^[^=:'"]*[=:]\s*(['"])`)

// quoteOf is the quote that a value begins with.
func quoteOf(text string) string {
	if found := assignment.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return `"`
}

// parse gives one statement to the library, and says which variables it asked for that are not there.
func (r *reader) parse(text string) (found map[string]string, unknown []string, err error) {
	found, err = dotenv.UnmarshalWithLookup(text+"\n", func(name string) (string, bool) {
		value, ok := r.values[name]
		if !ok {
			unknown = append(unknown, name)
		}
		return value, true // or the library would print a warning with a part of the value
	})
	return found, unknown, err
}

// mistake tells an error of the library without what it quotes.
func mistake(err error) string {
	for part, sentence := range map[string]string{
		"in variable name":    "a name has letters, digits and _ only, and = comes right after it",
		"cannot contain a sp": "a name has letters, digits and _ only, and = comes right after it",
	} {
		if strings.Contains(err.Error(), part) {
			return sentence
		}
	}
	return "a $ in it cannot be read; write $$ for a dollar sign, or put the value in single quotes"
}

// keep checks what was read and keeps it.
func (r *reader) keep(line int, text string, found map[string]string, unknown []string) {
	name, value, ok := only(found)
	rest, _ := deploy.VariableProblem(name)
	switch {
	case !strings.ContainsAny(text, "=:") || !ok && len(found) == 0:
		r.fail(line, "a name without value; write NAME= for an empty one")
	case !ok:
		r.fail(line, "text after the closing quote")
	case rest == "is set by Lotse itself":
		r.fail(line, name+" "+rest)
	case rest != "":
		r.fail(line, "a name "+strings.TrimPrefix(rest, "must be a name ")) // not shown: it may be a piece of a value
	case r.from[name] != 0:
		r.fail(line, fmt.Sprintf("%s is there twice; the first is in line %d", name, r.from[name]))
	case len(unknown) > 0:
		r.fail(line, name+" refers to a variable that is not above it in this file; write $$ for a dollar sign, or put the value in single quotes")
	case strings.Contains(value, "\x00") || !utf8.ValidString(value):
		r.fail(line, name+" must be text in UTF-8 without NUL")
	default:
		r.from[name], r.values[name] = line, value
		r.settings = append(r.settings, deploy.Setting{Name: name, Value: secret.New(value)})
	}
}

// only returns the one entry of a map.
func only(m map[string]string) (name, value string, ok bool) {
	for name, value = range m {
	}
	return name, value, len(m) == 1
}
