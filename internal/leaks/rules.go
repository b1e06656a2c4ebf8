package leaks

import (
	"bytes"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
)

// rulesFile is what Lotse reads of gitleaks' configuration.
type rulesFile struct {
	Allowlist allowlistFile
	Rules     []ruleFile
}

type ruleFile struct {
	ID          string
	Regex       string
	Path        string
	Entropy     float64
	SecretGroup int
	Keywords    []string
	Allowlists  []allowlistFile
}

type allowlistFile struct {
	Condition   string
	RegexTarget string
	Regexes     []string
	Paths       []string
	StopWords   []string
}

// rule is one kind of key.
type rule struct {
	id      string
	pattern func() *regexp.Regexp   // nil: the path alone decides. Made when it is first needed: most rules never are
	word    []func() *regexp.Regexp // see atWord
	path    *regexp.Regexp          // nil: every file
	entropy float64                 // in bits for each character; the key must have more. 0: it is not asked
	group   int                     // of the pattern that is the key; 0: the first that is not empty
	reach   int                     // how many bytes a match can have
	allowed []*allowlist
}

func (r *rule) generic() bool { return strings.Contains(r.id, "generic") }

func newRule(f ruleFile) (*rule, error) {
	r := &rule{id: f.ID, entropy: f.Entropy, group: f.SecretGroup}
	var err error
	if f.Path != "" {
		if r.path, err = regexp.Compile(f.Path); err != nil {
			return nil, err
		}
	}
	if f.Regex != "" {
		parsed, err := syntax.Parse(f.Regex, syntax.Perl)
		if err != nil {
			return nil, err
		}
		r.reach = min(longest(parsed), mostReach)
		r.word = atWord(parsed, f.Keywords)
		r.pattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(f.Regex) })
	}
	for _, a := range f.Allowlists {
		one, err := newAllowlist(a)
		if err != nil {
			return nil, err
		}
		r.allowed = append(r.allowed, one)
	}
	return r, nil
}

// likely leaves out the spots of words where no match can be.
func (r *rule) likely(data []byte, spots []int) []int {
	return slices.DeleteFunc(spots, func(at int) bool {
		near := data[at:min(len(data), at+r.reach+margin)]
		return slices.ContainsFunc(r.word, func(p func() *regexp.Regexp) bool { return !p().Match(near) })
	})
}

// mostReach bounds a match where its pattern does not: a private key of RSA with 8192 bits has 6.4 KB.
const mostReach = 8 << 10

// longest is how many bytes a match can have at most, mostReach where there is no end to it. Letters have one byte: the patterns are of ASCII.
func longest(re *syntax.Regexp) int {
	sum := 0
	switch re.Op { //nolint:exhaustive // of the others, the sum of what they hold
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpStar, syntax.OpPlus:
		return mostReach
	case syntax.OpRepeat:
		if re.Max < 0 {
			return mostReach
		}
		return min(mostReach, re.Max*longest(re.Sub[0]))
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			sum = max(sum, longest(sub))
		}
		return sum
	}
	for _, sub := range re.Sub {
		sum += longest(sub)
	}
	return min(mostReach, sum)
}

// match is what a rule has found. It stays in this package: it holds the key.
type match struct {
	rule     int
	from, to int // of the key
	key      string
	whole    string // with what the pattern wants around it
	line     string // or lines
}

// matches tries the pattern in a window of the file.
func (r *rule) matches(data []byte, w window) (all []match) {
	for _, at := range r.pattern().FindAllSubmatchIndex(data[w.from:w.to], -1) {
		if at[0] == 0 && w.from > 0 || at[1] == w.to-w.from && w.to < len(data) {
			continue // the window cut something off, and what is there is another window's
		}
		from, to := at[0], at[1]
		for group := 1; group < len(at)/2; group++ {
			if (r.group == 0 || r.group == group) && at[2*group+1] > at[2*group] {
				from, to = at[2*group], at[2*group+1]
				break
			}
		}
		m := match{from: w.from + from, to: w.from + to, whole: string(data[w.from+at[0] : w.from+at[1]])}
		m.key, m.line = string(data[m.from:m.to]), lineOf(data, w.from+at[0], w.from+at[1])
		all = append(all, m)
	}
	return all
}

// lineOf is the lines of a match; of a very long one, what is near.
func lineOf(data []byte, from, to int) string {
	begin, end := max(0, from-mostReach), min(len(data), to+mostReach)
	if i := bytes.LastIndexByte(data[begin:from], '\n'); i >= 0 {
		begin += i + 1
	}
	if i := bytes.IndexByte(data[to:end], '\n'); i >= 0 {
		end = to + i
	}
	return string(data[begin:end])
}

// entropy is Shannon's, in bits for each character of the key.
func (m match) entropy() float64 {
	counts := map[rune]float64{}
	n := 0.0
	for _, c := range m.key {
		counts[c]++
		n++
	}
	bits := 0.0
	for _, c := range counts {
		bits -= c / n * math.Log2(c/n)
	}
	return bits
}

// allowlist is what is no key although it looks like one.
type allowlist struct {
	all       bool   // all of what it names must be so; else one of it
	target    string // of the patterns: match, line, or the key
	patterns  func() []*regexp.Regexp
	paths     []*regexp.Regexp
	stopwords []string // small letters
}

func newAllowlist(f allowlistFile) (*allowlist, error) {
	a := &allowlist{all: f.Condition == "AND", target: f.RegexTarget}
	for _, word := range f.StopWords {
		a.stopwords = append(a.stopwords, strings.ToLower(word))
	}
	for _, p := range f.Paths {
		compiled, err := regexp.Compile(p)
		if err != nil {
			return nil, err
		}
		a.paths = append(a.paths, compiled)
	}
	a.patterns = sync.OnceValue(func() (all []*regexp.Regexp) {
		for _, p := range f.Regexes {
			all = append(all, regexp.MustCompile(p))
		}
		return all
	})
	return a, nil
}

func (a *allowlist) path(name string) bool {
	return slices.ContainsFunc(a.paths, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}

func (a *allowlist) allows(path string, m match) bool {
	text := m.key
	switch a.target {
	case "match":
		text = m.whole
	case "line":
		text = m.line
	}
	pattern := slices.ContainsFunc(a.patterns(), func(p *regexp.Regexp) bool { return p.MatchString(text) })
	key := strings.ToLower(m.key)
	stopword := slices.ContainsFunc(a.stopwords, func(word string) bool { return strings.Contains(key, word) })
	if !a.all {
		return pattern || stopword
	}
	return (len(a.paths) == 0 || a.path(path)) && (len(a.patterns()) == 0 || pattern) && (len(a.stopwords) == 0 || stopword)
}
