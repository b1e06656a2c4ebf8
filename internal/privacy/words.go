package privacy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	consonants = "bdfghklmnprstvwz"
	vowels     = "aeiou"
	base32     = "abcdefghijkmnpqrstuvwxyz23456789" // without what is taken for another
)

// invent makes a word of so many syllables that ends with q. Hardly any name does, so that it is seen to be invented, and that what is
// found in a copy is told from what was there.
func (h *hand) invent(syllables int) string {
	word := make([]byte, 0, 2*syllables+1)
	for range syllables {
		word = append(word, consonants[h.below(len(consonants))], vowels[h.below(len(vowels))])
	}
	return string(append(word, 'q'))
}

// random makes n letters and digits of 5 bits each.
func (h *hand) random(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = base32[h.source.Uint64()&31]
	}
	return string(text)
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// likeCase writes masked in capitals where all letters of value are.
func likeCase(value, masked string) string {
	if len(value) > 1 && value == strings.ToUpper(value) && value != strings.ToLower(value) {
		return strings.ToUpper(masked)
	}
	return masked
}

// namelike is one invented word for one word, in the same kind of letters. 64 bits beyond it keep apart what must be unique.
func (m *Masker) namelike(kind Kind, value string) string {
	value = strings.TrimSpace(value)
	masked := m.with(kind, strings.ToLower(value), func(h *hand) string { return title(h.invent(4)) })
	return likeCase(value, masked)
}

// apart makes a name unique that must be, by what it was, letter by letter.
func (m *Masker) apart(kind Kind, value, masked string) string {
	if !m.rules.Unique[kind] {
		return masked
	}
	suffix := m.with(kind+" apart", value, func(h *hand) string { return h.random(12) })
	if limit := m.rules.Limit[kind]; limit > 0 && utf8.RuneCountInString(masked)+13 > limit {
		return suffix[:min(limit, 12)]
	}
	return masked + " " + suffix
}

func (m *Masker) firstName(value string) string {
	return m.apart(FirstName, value, m.words(FirstName, value))
}
func (m *Masker) lastName(value string) string {
	return m.apart(LastName, value, m.words(LastName, value))
}

// words replaces each word, and keeps what stands between: Anna-Lena has two.
func (m *Masker) words(kind Kind, value string) string {
	var out strings.Builder
	for rest := value; rest != ""; {
		end := strings.IndexFunc(rest, between)
		if end < 0 {
			end = len(rest)
		}
		if end > 0 {
			out.WriteString(m.namelike(kind, rest[:end]))
		}
		rest = rest[end:]
		if rest != "" {
			_, size := utf8.DecodeRuneInString(rest)
			out.WriteString(rest[:size])
			rest = rest[size:]
		}
	}
	return out.String()
}

func between(r rune) bool { return r == '-' || r == ',' || r == '&' || r == '/' || unicode.IsSpace(r) }

// name takes the last word for the family's name, or what stands before a comma, so that it becomes what the columns of its parts become.
func (m *Masker) name(value string) string {
	if last, first, found := strings.Cut(value, ","); found {
		return m.apart(Name, value, m.words(LastName, last)+","+m.words(FirstName, first))
	}
	trimmed := strings.TrimSpace(value)
	at := strings.LastIndexFunc(trimmed, unicode.IsSpace)
	if at < 0 {
		return m.apart(Name, value, m.words(LastName, trimmed))
	}
	return m.apart(Name, value, m.words(FirstName, trimmed[:at])+trimmed[at:at+1]+m.words(LastName, trimmed[at+1:]))
}

// letterCase writes letters of masked in capitals by chance where value has capitals: what differs in case alone differs in case alone.
func (m *Masker) letterCase(kind Kind, value, masked string) string {
	if value == strings.ToLower(value) {
		return masked
	}
	return m.with(kind+" case", value, func(h *hand) string {
		out := []byte(masked)
		capital := false
		for i, c := range out {
			if c >= 'a' && c <= 'z' && h.below(2) == 1 {
				out[i], capital = c-'a'+'A', true
			}
		}
		if at := strings.IndexFunc(masked, unicode.IsLower); !capital && at >= 0 {
			out[at] = out[at] - 'a' + 'A'
		}
		return string(out)
	})
}

// username has 55 bits: two of a million become one in 1 of 70,000 copies, and the index of the copy says so.
func (m *Masker) username(value string) (string, bool) {
	masked := m.with(Username, strings.ToLower(value), func(h *hand) string { return h.invent(2)[:4] + h.random(11) })
	if limit := m.rules.Limit[Username]; limit > 0 && limit < len(masked) {
		masked = masked[len(masked)-limit:]
	}
	return m.letterCase(Username, value, masked), true
}

// mail has 60 bits before the @ and 30 of its domain.
func (m *Masker) mail(value string) (string, bool) {
	value = strings.TrimSpace(value)
	at := strings.LastIndexByte(value, '@')
	if at <= 0 || at == len(value)-1 {
		return "", false
	}
	small := strings.ToLower(value)
	label := m.with(Mail+" domain", small[strings.LastIndexByte(small, '@')+1:], func(h *hand) string { return h.random(6) })
	local := m.with(Mail, small, func(h *hand) string { return h.invent(3) + "." + h.random(12) })
	domain := "@" + label + ".example"
	if limit := m.rules.Limit[Mail]; limit > 0 && limit < len(local)+len(domain) {
		domain = "@" + label[:2] + ".example"
		local = local[max(0, len(local)-max(1, limit-len(domain))):]
		local = strings.TrimPrefix(local, ".")
	}
	return m.letterCase(Mail, value, local) + domain, true
}

// text keeps how long words are, what stands between them, and nothing else: which words come is said by the whole text, so that counting
// words tells nothing.
func (m *Masker) text(value string) string {
	return m.with(Text, value, func(h *hand) string {
		var out strings.Builder
		out.Grow(len(value))
		runes := []rune(value)
		for i := 0; i < len(runes); {
			j := i
			for j < len(runes) && (unicode.IsLetter(runes[j]) || unicode.IsMark(runes[j])) {
				j++
			}
			switch {
			case j > i:
				out.WriteString(h.word(runes[i:j]))
			case unicode.IsDigit(runes[i]):
				out.WriteByte('0' + byte(h.below(10)))
				j++
			case runes[i] == '@': // nothing in it may look like an address
				out.WriteByte(' ')
				j++
			case runes[i] >= 0x2000 && unicode.IsSymbol(runes[i]): // signs for moods are as many as words
				out.WriteByte('*')
				j++
			default:
				out.WriteRune(runes[i])
				j++
			}
			i = j
		}
		return out.String()
	})
}

// word is as long as what it stands for, begins with a capital where that did, and ends with q.
func (h *hand) word(was []rune) string {
	word := h.invent(len(was)/2 + 1)
	word = word[len(word)-len(was):]
	if unicode.IsUpper(was[0]) {
		word = title(word)
	}
	return word
}

// token keeps what says how it was made: $2b$10$, $argon2id$v=19$m=65536,t=3,p=4$.
func (m *Masker) token(value string) string {
	if !strings.HasPrefix(value, "$") {
		return m.shape(Token, value)
	}
	parts := strings.Split(value, "$")
	for i, part := range parts {
		if i >= 2 && !strings.Contains(strings.TrimRight(part, "="), "=") && len(part) > 6 {
			parts[i] = m.with(Token+Kind(strconv.Itoa(i)), value, func(h *hand) string { return h.shape(part) })
		}
	}
	return strings.Join(parts, "$")
}
