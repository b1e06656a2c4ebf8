package privacy

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scrub takes out of a text for people elsewhere what may say who somebody is, or open something: mail addresses, with the name in
// front of them; network addresses (IPv4, IPv6, MAC, names such as ip-192-0-2-1); telephone numbers; names in git's trailers and in
// the paths of home folders; the given names; passwords in URLs and behind words such as password=; tokens, known by their form.
// Each is replaced by what it was, in brackets. Addresses of loopback go as well: a rule without exceptions is one that can be checked.
//
// It works by form, so it misses what has none (a name that nobody gave, in the middle of a sentence) and takes some things that are
// harmless (a version of four numbers). Names of one word are not looked for: Max is a name,
// and max is not.
func Scrub(text string, names ...string) string {
	for _, f := range forms {
		text = f.pattern.ReplaceAllString(text, f.with)
	}
	text = replaceParsed(text, ipv6, "[address]", isIPv6)
	text = replaceParsed(text, ipv4, "[address]", func(string) bool { return true })
	text = replaceParsed(text, long, "[token]", looksRandom)
	for _, name := range names {
		text = scrubName(text, name)
	}
	return text
}

type form struct {
	pattern *regexp.Regexp
	with    string
}

// forms are in the order in which they are looked for: what holds others stands before them.
var forms = []form{
	{regexp.MustCompile(`-----BEGIN [A-Z ]+-----[^-]*(-----END [A-Z ]+-----)?`), "[token]"},
	{regexp.MustCompile(`(://)[^\s/@:]*:[^\s/@]+@`), "${1}[token]@"},
	{regexp.MustCompile(`(?im)^(\s*(?:author|committer|commit-by|tagger|[a-z-]+-by)\s*:)[ \t]*\S.*$`), "$1 [name]"},
	{regexp.MustCompile(`(?:\p{Lu}[\p{L}.'’-]*[ \t]+){1,4}<[^<>\s]+(?:@|%40)[^<>\s]+>`), "[name] [mail]"},
	{regexp.MustCompile(`(?i)[\p{L}\p{N}._%+'-]+(?:@|%40)(?:[\p{L}\p{N}-]+\.)+\p{L}{2,}`), "[mail]"},
	{regexp.MustCompile(`(?i)((?:/|\\+)(?:home|users)(?:/|\\+))[^/\\\s:"'<>\[\]]+`), "$1[name]"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?`), "[token]"},
	{regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|[sprw]k_(?:live|test)_|whsec_|sk-|AKIA|ASIA|AIza|npm_|SG\.|ya29\.|AGE-SECRET-KEY-)[A-Za-z0-9_.-]{10,}`), "[token]"},
	{regexp.MustCompile(`(?i)\b(bearer|basic)[ \t]+[A-Za-z0-9+/=._~-]{8,}`), "$1 [token]"},
	{regexp.MustCompile(`(?i)((?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|authorization)["']?[ \t]*[:=][ \t]*["']?)[^\s"',;&\[\]]{6,}`), "${1}[token]"},
	{regexp.MustCompile(`(?i)\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b`), "[address]"},
	{regexp.MustCompile(`(?i)\bip-\d{1,3}(?:-\d{1,3}){3}\b`), "[address]"},
	{regexp.MustCompile(`(^|[^\w.:-])(?:\+|00)\d(?:[ ()/-]{0,2}\d){6,13}\b`), "${1}[number]"},
	{regexp.MustCompile(`(^|[^\w.:-])0\d{2,5}[ \t]?[ /-][ \t]?\d(?:[ -]?\d){3,9}\b`), "${1}[number]"},
	{regexp.MustCompile(`(^|[^\w.:-])\(\d{2,6}\)[ \t]?\d(?:[ -]?\d){4,9}\b`), "${1}[number]"},
}

var (
	ipv6 = regexp.MustCompile(`(?i)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){1,6}:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}`)
	ipv4 = regexp.MustCompile(`\d{1,3}(?:\.\d{1,3}){3}`)
	long = regexp.MustCompile(`[A-Za-z0-9_+=-]{32,}`)
)

// isIPv6 reports whether s is an address, as it stands or without the colon that ends the word before it.
func isIPv6(s string) bool {
	s = strings.TrimSuffix(s, ":")
	if strings.HasPrefix(s, ":") && !strings.HasPrefix(s, "::") {
		s = s[1:]
	}
	address, err := netip.ParseAddr(s)
	return err == nil && address.Is6() && s != "::"
}

// looksRandom tells a key from a long word: letters of both kinds, and digits among them. Digests are in one kind of letters.
func looksRandom(s string) bool {
	return strings.ContainsFunc(s, unicode.IsUpper) && strings.ContainsFunc(s, unicode.IsLower) && strings.ContainsFunc(s, unicode.IsDigit)
}

// replaceParsed replaces what pattern finds and is confirms, unless it is the middle of a longer word.
func replaceParsed(text string, pattern *regexp.Regexp, with string, is func(string) bool) string {
	var out strings.Builder
	rest := 0
	for _, at := range pattern.FindAllStringIndex(text, -1) {
		if !is(text[at[0]:at[1]]) || insideWord(text, at[0], at[1]) {
			continue
		}
		out.WriteString(text[rest:at[0]])
		out.WriteString(with)
		rest = at[1]
	}
	return out.String() + text[rest:]
}

func insideWord(text string, from, to int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:from])
	first, _ := utf8.DecodeRuneInString(text[from:])
	after, _ := utf8.DecodeRuneInString(text[to:])
	last, _ := utf8.DecodeLastRuneInString(text[:to])
	return wordly(before) && wordly(first) || wordly(last) && wordly(after)
}

func wordly(r rune) bool {
	return r == '_' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// scrubName takes a name of several words out, however it is written and spaced.
func scrubName(text, name string) string {
	words := strings.Fields(name)
	if len(words) < 2 {
		return text
	}
	for i := range words {
		words[i] = regexp.QuoteMeta(words[i])
	}
	pattern, err := regexp.Compile(`(?i)` + strings.Join(words, `[\s._-]+`))
	if err != nil { // a name that is no UTF-8
		return strings.ReplaceAll(text, name, "[name]")
	}
	return pattern.ReplaceAllString(text, "[name]")
}
