package leaks

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// atWord is what of a pattern follows on the place where a word of its rule stands, bound to that place: it says "no" there fast, which
// is the answer nearly always. Of two, the first is what stands before the key, which is short and decided soonest. There are none where
// not every match begins with one of the words.
//
// What may stand before the word and need not (`[\w.-]{0,50}?`) is left out, as are word boundaries: whether there is a match does not
// depend on the one, and the other is asked by the pattern itself.
func atWord(pattern *syntax.Regexp, words []string) (all []func() *regexp.Regexp) {
	rest := *pattern
	if rest.Op != syntax.OpConcat {
		rest = syntax.Regexp{Op: syntax.OpConcat, Sub: []*syntax.Regexp{pattern}}
	}
	for len(rest.Sub) > 0 && (rest.Sub[0].Op == syntax.OpWordBoundary || optional(rest.Sub[0])) {
		rest.Sub = rest.Sub[1:]
	}
	begins, _ := beginnings(&rest)
	for _, b := range begins {
		if !slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(b, strings.ToLower(word)) }) {
			return nil
		}
	}
	if i := slices.IndexFunc(rest.Sub, func(sub *syntax.Regexp) bool { return sub.Op == syntax.OpCapture }); i > 1 {
		all = append(all, anchored(syntax.Regexp{Op: syntax.OpConcat, Sub: rest.Sub[:i]}))
	}
	return append(all, anchored(rest))
}

func anchored(re syntax.Regexp) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\A(?:` + re.String() + `)`) })
}

func optional(re *syntax.Regexp) bool {
	return re.Op == syntax.OpRepeat && re.Min == 0 && re.Max > 0 && re.Flags&syntax.NonGreedy != 0
}

// mostBeginnings bounds what is spelled out.
const mostBeginnings = 200

// beginnings spells out how matches begin, in small letters, as far as that is a matter of a few letters; whole says that nothing follows.
func beginnings(re *syntax.Regexp) (all []string, whole bool) {
	switch re.Op { //nolint:exhaustive // how the others begin is not spelled out
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}, true
	case syntax.OpEmptyMatch, syntax.OpWordBoundary, syntax.OpBeginText:
		return []string{""}, true
	case syntax.OpCapture:
		return beginnings(re.Sub[0])
	case syntax.OpQuest:
		all, whole = beginnings(re.Sub[0])
		return append(all, ""), whole
	case syntax.OpCharClass:
		return letters(re)
	case syntax.OpAlternate:
		whole = true
		for _, sub := range re.Sub {
			some, ended := beginnings(sub)
			all, whole = append(all, some...), whole && ended
		}
		return all, whole
	case syntax.OpConcat:
		return inARow(re.Sub)
	}
	return []string{""}, false
}

func inARow(subs []*syntax.Regexp) (all []string, whole bool) {
	all = []string{""}
	for _, sub := range subs {
		next, ended := beginnings(sub)
		if len(all)*len(next) > mostBeginnings {
			return all, false
		}
		var longer []string
		for _, a := range all {
			for _, b := range next {
				longer = append(longer, a+b)
			}
		}
		if all = longer; !ended {
			return all, false
		}
	}
	return all, true
}

// letters are those of a class that has few.
func letters(re *syntax.Regexp) (all []string, whole bool) {
	for i := 0; i < len(re.Rune); i += 2 {
		for c := re.Rune[i]; c <= re.Rune[i+1]; c++ {
			if all = append(all, strings.ToLower(string(c))); len(all) > 8 {
				return []string{""}, false
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), true
}
