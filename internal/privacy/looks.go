package privacy

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	mailForm   = regexp.MustCompile(`(?i)^[\pL\pN._%+'-]+@(?:[\pL\pN-]+\.)+\pL{2,}$`)
	macForm    = regexp.MustCompile(`(?i)^[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}$`)
	uuidForm   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	pairForm   = regexp.MustCompile(`(?i)^(?:SRID=\d+;)?(?:POINT\s*)?\(?\s*-?\d{1,3}\.\d{3,}[\s,;]+-?\d{1,3}\.\d{3,}\s*\)?$`)
	streetForm = regexp.MustCompile(`(?i)(?:stra(?:ss|ß)e|str\.|weg|allee|gasse|platz|ring|damm|ufer|street|avenue|road)\s*\d+\s*[a-z]?\b`)
	secretForm = regexp.MustCompile(`^(?:\$(?:2[abxy]|argon2id?|scrypt|5|6|1|7|y)\$|eyJ[A-Za-z0-9_-]{5,}\.|(?:gh[pousr]_|glpat-|xox[abeprs]-|[sprw]k_(?:live|test)_|whsec_|AKIA))`)
)

// Looks reports whether a value has the form of a kind, checksums with it. Names and free text have none: for them it is false.
func Looks(kind Kind, value string) bool {
	value = strings.TrimSpace(value)
	switch kind { //nolint:exhaustive // the others have no form
	case Mail:
		return mailForm.MatchString(value)
	case Phone:
		return looksPhone(value)
	case IBAN:
		return isIBAN(strings.ToUpper(strings.Join(strings.Fields(value), "")))
	case BIC:
		return isBIC(value)
	case Card:
		digits, _ := onlyDigits(value)
		return len(digits) >= 13 && len(digits) <= 19 && luhn(digits) == 0 && strings.Trim(value, "0123456789 -") == ""
	case IP:
		address, _, _ := strings.Cut(value, "/")
		_, err := netip.ParseAddr(address)
		return err == nil && len(address) > 3
	case MAC:
		return macForm.MatchString(value)
	case Coordinates:
		return pairForm.MatchString(value)
	case URL:
		u, err := url.Parse(value)
		return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
	case Birthday:
		return years.MatchString(value)
	case Address:
		return streetForm.MatchString(value)
	case Token:
		return secretForm.MatchString(value)
	}
	return false
}

// looksPhone wants what tells a number of a telephone from any number: +, 00 or 0 in front, or something between.
func looksPhone(value string) bool {
	digits, lead := onlyDigits(value)
	if len(digits) < 7 || len(digits) > longest+len(strings.TrimPrefix(lead, "+")) || strings.Trim(value, "0123456789+ ()/-.") != "" || isDate(value) {
		return false
	}
	return lead != "" || digits[0] == '0' && !strings.Contains(value, ".") || strings.HasPrefix(value, "(")
}

func isDate(value string) bool { return years.MatchString(value) }

// Coarsened reports whether a value of a coarse kind is in the form that masking gives it.
func Coarsened(kind Kind, value string) bool {
	m := &Masker{}
	switch kind { //nolint:exhaustive // no other is coarse
	case Postcode:
		return m.postcode(value) == value
	case Birthday:
		masked, ok := m.birthday(value)
		return !ok || masked == strings.TrimSpace(value)
	case Coordinates:
		return onHundredths(value)
	}
	return false
}

// Evidence says how much it means when a value of the source is found in its column of the copy: nothing where the rule may keep it, where the
// kind is coarse (Coarsened says more) or where nobody has it; a little where it is so short that chance makes it again; else all.
func Evidence(kind Kind, value string) Weight {
	length := utf8.RuneCountInString(strings.TrimSpace(value))
	switch {
	case kind == Keep, kind.Coarse(), length < 3, kind == Phone && film(value), kind == Text && !strings.ContainsFunc(value, unicode.IsLetter) && length < 12:
		return Nothing
	case slices.Contains([]Kind{ID, Token, Text, URL}, kind) && length < 12, kind == MAC:
		return Chance
	}
	return Proof
}

// Weight is how much it means that a value is found again.
type Weight int

// The weights.
const (
	Nothing Weight = iota
	Chance         // one of fifty may be found
	Proof          // none may
)

// personalForms are looked for in what has no telling name, the ones that are seldom taken for another first.
var personalForms = []Kind{Mail, IBAN, Token, MAC, IP, Coordinates, Phone, Card, Address, URL}

// within finds what a person may have written into a longer text.
func within(value string) bool {
	return strings.ContainsAny(value, "@") && Scrub(value) != value || streetForm.MatchString(value)
}

// UUID reports whether a value is a UUID, which tells nothing of itself.
func UUID(value string) bool { return uuidForm.MatchString(value) }

// Code reports whether a value is a word of a program, such as in_delivery, de-DE, EUR, image/jpeg or Europe/Berlin: one word, short, in letters of
// one kind or of a language or zone, with few digits, and of no personal form.
func Code(value string) bool {
	if len(value) > 40 {
		return false
	}
	if value == "" || codeWords[value] || zoneForm.MatchString(value) {
		return true
	}
	digits, upper, lower := 0, false, false
	for _, r := range value {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r >= 'a' && r <= 'z':
			lower = true
		case r >= 'A' && r <= 'Z':
			upper = true
		case !strings.ContainsRune("_-.:/+#%", r):
			return false
		}
	}
	if digits > 4 || upper && lower && !localeForm.MatchString(value) {
		return false
	}
	return !Looks(Mail, value) && !Looks(IP, value)
}

var (
	codeWords  = map[string]bool{"True": true, "False": true, "Yes": true, "No": true}
	localeForm = regexp.MustCompile(`^[a-z]{2,3}[-_][A-Z]{2}(?:\.UTF-8)?$`)
	zoneForm   = regexp.MustCompile(`^(?:Europe|America|Africa|Asia|Australia|Pacific|Atlantic|Indian|Etc)/[A-Za-z_/+-]+\d*$`)
)
