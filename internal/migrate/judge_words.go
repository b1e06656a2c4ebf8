package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// wordsOf are the words of a statement in small letters, without comments, texts, and what stands in brackets.
func wordsOf(sql string) (words []string) {
	l := lexer{text: []rune(sql)}
	for l.at < len(l.text) {
		begin, word := l.at, ""
		switch r := l.peek(0); {
		case l.blank():
		case l.literal():
			if r == '"' {
				word = strings.Trim(string(l.text[begin:min(l.at, len(l.text))]), `"`)
			}
		case isWord(r):
			word = l.name()
		default:
			l.sign()
		}
		if word != "" && l.depth == 0 {
			words = append(words, word)
		}
	}
	return words
}

// starts reports whether a statement begins with these words.
func starts(words []string, with ...string) bool {
	return len(words) >= len(with) && slices.Equal(words[:len(with)], with)
}

// body is what runs in a DO block.
var body = regexp.MustCompile(`(?is)^do\b.*?(\$[a-z_0-9]*\$)(.*)$`)

// spoken is what only the words of a statement say: what it does to rows leaves no trace in an empty clone.
func spoken(sql string) (rules []string) {
	if inside := body.FindStringSubmatch(sql); inside != nil {
		text := strings.TrimSuffix(strings.TrimSpace(inside[2]), inside[1])
		for _, piece := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' }) {
			words := wordsOf(piece)
			for i := range words { // BEGIN, THEN, LOOP and ELSE may stand before it
				rules = append(rules, spokenBy(words[i:])...)
			}
		}
		slices.Sort(rules)
		return slices.Compact(rules)
	}
	words := wordsOf(sql)
	if starts(words, "with") { // its parts stand in brackets
		words = words[max(0, slices.IndexFunc(words, func(w string) bool { return w == "update" || w == "delete" })):]
	}
	return spokenBy(words)
}

func spokenBy(words []string) (rules []string) {
	where := slices.Contains(words, "where")
	switch {
	case starts(words, "truncate"):
		return []string{"truncate"}
	case starts(words, "delete", "from") && !where:
		return []string{"delete-all-rows"}
	case starts(words, "update") && slices.Contains(words, "set") && !where:
		return []string{"update-all-rows"}
	case starts(words, "lock") && !weakly(words):
		return []string{"lock-table"}
	case starts(words, "drop", "database"):
		return []string{"drop-database"}
	}
	return nil
}

// weakly reports whether LOCK asks for a mode that keeps no writer out.
func weakly(words []string) bool {
	text := strings.Join(words, " ") + " "
	for _, mode := range []string{"in access share mode ", "in row share mode ", "in row exclusive mode ", "in share update exclusive mode "} {
		if strings.Contains(text, mode) {
			return true
		}
	}
	return false
}

// allowance is a comment by which whoever wrote a file says that one rule does not count in it, and why.
var allowance = regexp.MustCompile(`(?im)^[ \t]*--[ \t]*lotse:allow\b[ \t]*(\S*)[ \t]*(.*?)[ \t\r]*$`)

// allowances are the rules that a file lets pass, with their reasons.
func (f file) allowances() (map[string]string, error) {
	allowed := map[string]string{}
	for _, match := range allowance.FindAllStringSubmatch(string(f.text), -1) {
		switch name, reason := match[1], match[2]; {
		case !slices.ContainsFunc(rules, func(r rule) bool { return r.name == name }):
			return nil, deploy.Hint(fmt.Errorf("%w: %s: lotse:allow names no rule that there is: %q", deploy.ErrMigration, f.path, name), "-- lotse:allow RULE reason; docs/migrations.md lists the rules")
		case len(strings.Fields(reason)) < 2:
			return nil, deploy.Hint(fmt.Errorf("%w: %s: lotse:allow %s says no reason", deploy.ErrMigration, f.path, name), fmt.Sprintf("-- lotse:allow %s why it may be", name))
		default:
			allowed[name] = reason
		}
	}
	return allowed, nil
}
