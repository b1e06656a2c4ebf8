package privacy

import (
	"strconv"
	"strings"
)

// phone keeps the country, as far as the number says it (+49, 0049), and how it is written.
func (m *Masker) phone(value string) (string, bool) {
	digits, lead := onlyDigits(value)
	if len(digits) < 5 || strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune("0123456789+ ()/-.\u00a0", r) }) {
		return "", false
	}
	prefix, country := countryOf(digits, lead)
	if !m.rules.Unique[Phone] {
		if masked, ok := m.filmNumber(value, digits, prefix, country); ok {
			return masked, true
		}
	}
	keep := min(prefix+2, len(digits)-3)
	if masked, ok := m.longNumber(value, digits, lead, keep); ok {
		return masked, true
	}
	changed := []byte(digits)
	m.permute("phone"+digits[:keep]+lead, changed[keep:])
	return withDigits(value, changed), true
}

// longest is how many digits a number of a telephone may have with its country (ITU-T E.164, clause 6.2.1). None that long is given to anybody, so
// it is nobody's and was nobody's.
const longest = 15

// longNumber makes as many digits as there may be of those behind keep, and no two become one: there was no 0 in front of any.
func (m *Masker) longNumber(value, digits, lead string, keep int) (string, bool) {
	total := longest
	if lead == "00" {
		total += 2
	}
	if len(digits) >= total {
		return "", false
	}
	rest := []byte(strings.Repeat("0", total-len(digits)) + digits[keep:])
	m.permute("phone "+strconv.Itoa(len(digits))+lead+digits[:keep], rest)
	all := digits[:keep] + string(rest)
	masked := withDigits(value, []byte(all[:len(digits)])) + all[len(digits):]
	limit := m.rules.Limit[Phone]
	return masked, limit == 0 || len(masked) <= limit
}

// film reports whether nobody has a number: it is of the ranges for films.
func film(value string) bool {
	digits, lead := onlyDigits(value)
	prefix, country := countryOf(digits, lead)
	if country == "" {
		country = "49"
	}
	for _, r := range films[country] {
		r = strings.ReplaceAll(r, " ", "")
		if national := digits[prefix:]; len(national) == len(r) && strings.HasPrefix(national, strings.TrimRight(r, "x")) {
			return true
		}
	}
	return false
}

// onlyDigits returns the digits of a number and what says that a country stands in front.
func onlyDigits(value string) (digits, lead string) {
	digits = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, value)
	switch {
	case strings.HasPrefix(strings.TrimSpace(value), "+"):
		return digits, "+"
	case strings.HasPrefix(digits, "00"):
		return digits, "00"
	}
	return digits, ""
}

// withDigits writes digits into the places of those of value.
func withDigits(value string, digits []byte) string {
	out, next := []byte(value), 0
	for i, c := range out {
		if c >= '0' && c <= '9' {
			out[i] = digits[next]
			next++
		}
	}
	return string(out)
}

// twoDigits are the country codes of two digits (ITU-T E.164, list of assigned country codes); 1 and 7 have one, all others three.
const twoDigits = " 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86 90 91 92 93 94 95 98 "

// countryOf says how many digits stand before the national number, and which country they name, "" where they do not say.
func countryOf(digits, lead string) (prefix int, country string) {
	if lead == "" {
		return len(digits) - len(strings.TrimPrefix(digits, "0")), ""
	}
	at := 0
	if lead == "00" {
		at = 2
	}
	rest := digits[at:]
	size := min(3, len(rest))
	if rest != "" && (rest[0] == '1' || rest[0] == '7') {
		size = 1
	} else if len(rest) >= 2 && strings.Contains(twoDigits, " "+rest[:2]+" ") {
		size = 2
	}
	prefix = at + size
	if strings.HasPrefix(digits[prefix:], "0") { // +49 (0) 30
		prefix++
	}
	return prefix, rest[:size]
}

// films are numbers that nobody is ever given. 49: Bundesnetzagentur, Mitteilung 148/2021 (Amtsblatt 7/2021); 44: Ofcom, "Telephone numbers for use in
// TV shows and films"; 33: Arcep, decision 2018-0881; 1: 555-0100 to 555-0199 of every area (NANPA). x is any digit.
var films = map[string][]string{
	"49": {"30 23125xxx", "69 90009xxx", "40 66969xxx", "221 4710xxx", "89 99998xxx"},
	"44": {"7700 900xxx"},
	"33": {"1 99 00 xx xx", "2 61 91 xx xx", "3 53 01 xx xx", "4 65 71 xx xx", "5 36 49 xx xx", "6 39 98 xx xx"},
	"1":  {"AAA 555 01xx"},
}

// filmNumber takes a number without a country for a German one where it begins with one 0.
func (m *Masker) filmNumber(value, digits string, prefix int, country string) (string, bool) {
	national := prefix > 0 && country == ""
	if national {
		country = "49"
	}
	ranges := films[country]
	if len(ranges) == 0 || len(digits) < prefix+5 {
		return "", false
	}
	number := m.with(Phone, country+digits[prefix:], func(h *hand) string {
		filled := strings.ReplaceAll(ranges[h.below(len(ranges))], "AAA", digits[prefix:prefix+3])
		return strings.Map(func(r rune) rune {
			if r == 'x' {
				return '0' + rune(h.below(10))
			}
			return r
		}, filled)
	})
	lead := strings.TrimSuffix(digits[:prefix], "0")
	switch {
	case national:
		lead = "0"
	case strings.HasPrefix(strings.TrimSpace(value), "+"):
		lead = "+" + lead
	}
	if !national && strings.ContainsAny(value, " /-(") {
		lead += " "
	}
	if !strings.ContainsAny(value, " /-(") {
		number = strings.ReplaceAll(number, " ", "")
	}
	return lead + number, true
}

// iban keeps the country, the length and the letters (which name a bank); the checksum is computed anew (ISO 13616, ISO 7064 mod 97-10).
// No bank in Germany has a code that begins with 9 (Deutsche Bundesbank, Bankleitzahlen: 1 to 8 are the areas of clearing).
func (m *Masker) iban(value string) (string, bool) {
	compact := strings.ToUpper(strings.Join(strings.Fields(value), ""))
	if !isIBAN(compact) {
		return "", false
	}
	country, account := compact[:2], []byte(compact[4:])
	from := 0
	if country == "DE" {
		from = 1
	}
	digits, _ := onlyDigits(string(account[from:]))
	changed := []byte(digits)
	m.permute("iban"+country+strings.Map(notDigit, string(account))+string(account[:from]), changed)
	masked := withDigits(string(account[from:]), changed)
	if from == 1 {
		masked = "9" + masked
	}
	check := 98 - mod97(masked+country+"00")
	masked = country + string([]byte{'0' + byte(check/10), '0' + byte(check%10)}) + masked
	return spacedLike(strings.TrimSpace(value), masked), true
}

func notDigit(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

// isIBAN wants the form and the checksum; s is without blanks, in capitals.
func isIBAN(s string) bool {
	if len(s) < 15 || len(s) > 34 || !capital(s[0]) || !capital(s[1]) || s[2] < '0' || s[2] > '9' || s[3] < '0' || s[3] > '9' {
		return false
	}
	for i := range len(s) {
		if !capital(s[i]) && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return mod97(s[4:]+s[:4]) == 1
}

func capital(c byte) bool { return c >= 'A' && c <= 'Z' }

// mod97 takes letters for 10 to 35.
func mod97(s string) (rest int) {
	for i := range len(s) {
		if capital(s[i]) {
			rest = (rest*100 + int(s[i]-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(s[i]-'0')) % 97
		}
	}
	return rest
}

// spacedLike puts blanks where the value has them, and small letters where it has only those.
func spacedLike(value, masked string) string {
	if value == strings.ToLower(value) {
		masked = strings.ToLower(masked)
	}
	var out strings.Builder
	for _, r := range value {
		if r == ' ' {
			out.WriteByte(' ')
		} else if masked != "" {
			out.WriteByte(masked[0])
			masked = masked[1:]
		}
	}
	return out.String() + masked
}

// bic keeps the country; 0 at its eighth place says that it is for tests (ISO 9362).
func (m *Masker) bic(value string) (string, bool) {
	s := strings.ToUpper(strings.TrimSpace(value))
	if !isBIC(s) {
		return "", false
	}
	return m.with(BIC, s, func(h *hand) string {
		return h.shape("AAAA") + s[4:6] + h.shape("A") + "0" + strings.Repeat("X", len(s)-8)
	}), true
}

func isBIC(s string) bool {
	if len(s) != 8 && len(s) != 11 {
		return false
	}
	for i := range len(s) {
		if !capital(s[i]) && (i < 6 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return true
}

// card keeps the first digit, which says the industry, the length and a valid check digit (ISO/IEC 7812-1, annex B).
func (m *Masker) card(value string) (string, bool) {
	digits, _ := onlyDigits(value)
	if len(digits) < 12 || len(digits) > 19 || luhn(digits) != 0 || strings.Trim(value, "0123456789 -") != "" {
		return "", false
	}
	changed := []byte(digits)
	m.permute("card"+digits[:1], changed[1:len(changed)-1])
	changed[len(changed)-1] = '0'
	changed[len(changed)-1] = '0' + byte((10-luhn(string(changed)))%10)
	return withDigits(value, changed), true
}

func luhn(digits string) (sum int) {
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return sum % 10
}

// id changes digits by permutation and letters by chance, in the same places. Letters in front of a number of a German tax office or a VAT number
// are its country and stay.
func (m *Masker) id(value string) string {
	digits, _ := onlyDigits(value)
	letters := strings.Map(notDigit, value)
	german := (len(digits) == 9 || len(digits) == 11) && taxDigit(digits[:len(digits)-1]) == digits[len(digits)-1]
	changed := []byte(digits)
	switch {
	case german: // the first is no 0, and the last checks
		m.permute("tax", changed[1:len(changed)-1])
		changed[len(changed)-1] = taxDigit(string(changed[:len(changed)-1]))
		return withDigits(value, changed)
	case len(digits) >= 4:
		keep := 0
		if letters == "" { // what is a number stays as long
			keep = 1
		}
		m.permute("id"+letters+digits[:keep], changed[keep:])
	default:
		return m.shape(ID, value)
	}
	return withDigits(m.lettersOf(value), changed)
}

// lettersOf changes the letters alone.
func (m *Masker) lettersOf(value string) string {
	letters := strings.Map(notDigit, value)
	if strings.IndexFunc(letters, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r > 127 }) < 0 {
		return value
	}
	// By the letters alone: two numbers that differ in digits stay apart by their digits, and two that differ in letters by their tweak.
	return m.with(ID, letters, func(h *hand) string {
		return strings.Map(func(r rune) rune {
			switch {
			case r >= '0' && r <= '9':
				return '0'
			case r >= 'A' && r <= 'Z':
				return 'A' + rune(h.below(26))
			case r >= 'a' && r <= 'z', r > 127:
				return 'a' + rune(h.below(26))
			}
			return r
		}, value)
	})
}

// taxDigit is the check digit of German tax and VAT numbers (ISO 7064 mod 11,10).
func taxDigit(digits string) byte {
	product := 10
	for i := range len(digits) {
		sum := (int(digits[i]-'0') + product) % 10
		if sum == 0 {
			sum = 10
		}
		product = sum * 2 % 11
	}
	return strconv.Itoa((11 - product) % 10)[0]
}
