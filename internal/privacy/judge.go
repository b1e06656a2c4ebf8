package privacy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Type is what a database says of the values of a column.
type Type int

// The types, as far as they matter.
const (
	OtherType   Type = iota // nothing that is read as text, a number or a tree: bytes, XML, searches, rows in a row, whatever is not known
	TextType                // with case or without, of any length
	NumberType              // whole
	DecimalType             // with a fraction
	DateType                // a day
	TimeType                // a moment
	PlainType               // truth, enumeration, UUID, duration: tells nothing of itself
	AddressType             // of a network
	MACType
	PointType // places and lines on a map
	JSONType
)

// Column is what is known of a column, or of a path in a tree of JSON, when it is judged.
type Column struct {
	Table, Name string // Name of a path: the column's with the path behind it
	Comment     string
	Type        Type
	Range       bool     // its values are ranges, and Type and Sample are of their bounds
	Sample      []string // values that are not empty, as text
	Empty       bool     // there is no value in any row
	Key         bool     // a whole number or UUID by which rows are told apart or joined
}

// Verdict is what a column holds, and how that is known. Kind "" is a column that cannot be judged.
type Verdict struct {
	Kind  Kind
	Why   string
	Guard Guard // what every value that is kept has to be; the sample has shown it for a part
}

// Guard is what was taken for granted when a column was kept.
type Guard string

// The guards.
const (
	AnyValue  Guard = ""
	OnlyUUIDs Guard = "uuid"
	OnlyCodes Guard = "codes" // and few different ones
	OnlyEmpty Guard = "empty"
)

// FewCodes is how many different words of a program a column may have that is kept because of them.
const FewCodes = 60

// Judge says what a column holds: by its type, its name and comment, in German and English, and by its values. It would rather say that
// it does not know than keep what is of a person.
func Judge(c Column) Verdict {
	if c.Range {
		return judgeRange(c)
	}
	switch c.Type { //nolint:exhaustive // text is what is left
	case PlainType:
		return Verdict{Kind: Keep, Why: "its type tells nothing of a person"}
	case JSONType:
		return Verdict{Kind: JSON, Why: "each path is judged by itself"}
	case AddressType:
		return Verdict{Kind: IP, Why: "by its type"}
	case MACType:
		return Verdict{Kind: MAC, Why: "by its type"}
	case PointType:
		return Verdict{Kind: Coordinates, Why: "by its type"}
	case DateType, TimeType:
		return judgeTime(c)
	case NumberType, DecimalType:
		return judgeNumber(c)
	case OtherType:
		if c.Empty {
			return empty()
		}
		return Verdict{Why: "its values cannot be read"}
	}
	return judgeText(c)
}

func empty() Verdict { return Verdict{Kind: Keep, Why: "it is empty", Guard: OnlyEmpty} }

// judgeRange takes numbers for what they would be by themselves, where they stay. Days and moments with an end that is open are often a life's: only
// a name that says so tells.
func judgeRange(c Column) Verdict {
	if c.Empty {
		return empty()
	}
	switch c.Type { //nolint:exhaustive // there are no ranges of others that could be read
	case NumberType, DecimalType:
		if v := judgeNumber(c); v.Kind == Keep {
			return Verdict{Kind: Keep, Why: "a range of numbers"}
		}
	case DateType, TimeType:
		if v := judgeTime(c); v.Kind == Birthday {
			return v
		}
	}
	return Verdict{Why: "a range, and its name does not tell of what"}
}

func judgeTime(c Column) Verdict {
	if kind, word := byName(c); kind == Birthday {
		return Verdict{Kind: Birthday, Why: "by its name (" + word + ")"}
	}
	return Verdict{Kind: Keep, Why: "a time"}
}

func judgeNumber(c Column) Verdict {
	kind, word := byName(c)
	whole := c.Type == NumberType
	if kind == Coordinates && !whole || whole && !c.Key && slices.Contains([]Kind{Phone, ID, Card, Postcode}, kind) {
		return Verdict{Kind: kind, Why: "by its name (" + word + ")"}
	}
	if c.Key {
		return Verdict{Kind: Keep, Why: "a key: a pseudonym that joins"}
	}
	return Verdict{Kind: Keep, Why: "a number"}
}

func judgeText(c Column) Verdict {
	if c.Empty {
		return empty()
	}
	kind, word := byName(c)
	if kind != "" && fits(kind, c.Sample) {
		return Verdict{Kind: kind, Why: "by its name (" + word + ")"}
	}
	if found := byContent(c); found.Kind != "" {
		return found
	}
	if share(c.Sample, UUID) == 1 {
		return Verdict{Kind: Keep, Why: "UUIDs: pseudonyms that join", Guard: OnlyUUIDs}
	}
	if few := different(c.Sample); few <= FewCodes/2 && (few*4 <= len(c.Sample) || harmless(c)) && share(c.Sample, Code) == 1 {
		return Verdict{Kind: Keep, Why: fmt.Sprintf("words of a program, %d of them", few), Guard: OnlyCodes}
	}
	return Verdict{Why: unknown(c, kind)}
}

// harmless reports whether a name says that a column has words of a program; whether it has is for its values to say.
func harmless(c Column) bool {
	words := split(c.Name[strings.LastIndexByte(c.Name, '/')+1:])
	return slices.ContainsFunc([]string{"status", "state", "type", "typ", "kind", "role", "rolle", "currency", "waehrung", "country", "country_code", "land", "language", "lang", "sprache", "locale", "timezone", "time_zone", "tz",
		"unit", "einheit", "mime", "content_type", "color", "colour", "version", "category", "kategorie", "level", "priority", "provider", "theme", "size"}, func(word string) bool { return hasWords(words, word) })
}

func unknown(c Column, kind Kind) string {
	if kind != "" {
		return "its name says " + string(kind) + " and its values do not"
	}
	return fmt.Sprintf("neither its name nor %d values tell", len(c.Sample))
}

// fits asks the values whether they are what the name says, where they have a form.
func fits(kind Kind, sample []string) bool {
	if len(sample) == 0 || !slices.Contains([]Kind{Mail, IBAN, BIC, Card, IP, MAC, URL, Birthday, Coordinates}, kind) {
		return true
	}
	if kind == Coordinates {
		return share(sample, func(v string) bool { return Looks(kind, v) || decimals.MatchString(v) || len(v) > 40 }) >= 0.5
	}
	return share(sample, func(v string) bool { return Looks(kind, v) || kind == URL && strings.Contains(v, "/") }) >= 0.5
}

// byContent takes nearly all for all, since people mistype, and a few for free text.
func byContent(c Column) Verdict {
	some := 0.0
	for _, kind := range personalForms {
		part := share(c.Sample, func(v string) bool { return Looks(kind, v) })
		if part >= 0.8 {
			return Verdict{Kind: kind, Why: fmt.Sprintf("%.0f %% of %d values look so", 100*part, len(c.Sample))}
		}
		some = max(some, part)
	}
	some = max(some, share(c.Sample, within))
	if prose := share(c.Sample, func(v string) bool { return strings.Count(v, " ") >= 3 }); some > 0 || prose > 0.3 {
		return Verdict{Kind: Text, Why: fmt.Sprintf("sentences, or personal data among %d values", len(c.Sample))}
	}
	return Verdict{}
}

func share(sample []string, is func(string) bool) float64 {
	if len(sample) == 0 {
		return 0
	}
	n := 0
	for _, v := range sample {
		if is(v) {
			n++
		}
	}
	return float64(n) / float64(len(sample))
}

func different(sample []string) int {
	seen := map[string]bool{}
	for _, v := range sample {
		seen[v] = true
	}
	return len(seen)
}

// byName is the first of the table that the column's name has; then what its comment says.
func byName(c Column) (Kind, string) {
	words := split(c.Name[strings.LastIndexByte(c.Name, '/')+1:])
	for _, n := range names {
		for _, word := range n.words {
			if hasWords(words, word) && (n.kind != Name || word != "name" || aboutPeople(c)) {
				return n.kind, word
			}
		}
	}
	for _, n := range names {
		for _, word := range n.words {
			if len(word) > 3 && word != "name" && n.kind != Text && hasWords(split(c.Comment), word) {
				return n.kind, word + ", in its comment"
			}
		}
	}
	return "", ""
}

// names are words in a column's name, German and English; those with two words come before those of their parts.
var names = []struct {
	kind  Kind
	words []string
}{
	{Token, []string{"password", "passwort", "passwd", "pwd", "kennwort", "secret", "token", "api_key", "apikey", "access_key", "private_key", "otp", "totp", "pin", "salt",
		"session_id", "session_key", "refresh", "hash", "encrypted", "recovery_code", "signature", "unterschrift", "qr_code", "pickup_code", "handover_code", "cookie", "credential", "credentials"}},
	{IP, []string{"ip", "ip_address", "ipaddress", "ip_adresse", "remote_addr", "client_ip", "last_ip"}},
	{MAC, []string{"mac", "mac_address", "mac_adresse"}},
	{IBAN, []string{"iban", "kontonummer", "account_iban"}},
	{BIC, []string{"bic", "swift"}},
	{Card, []string{"card_number", "cardnumber", "kreditkarte", "kreditkartennummer", "credit_card", "pan"}},
	{Mail, []string{"email", "e_mail", "mail", "emails", "mailadresse", "email_adresse"}},
	{Phone, []string{"phone", "phones", "telefon", "telephone", "tel", "mobile", "mobil", "handy", "fax", "phonenumber", "telefonnummer", "handynummer", "mobilnummer", "rufnummer", "msisdn", "whatsapp", "cell"}},
	{Birthday, []string{"birthday", "birthdate", "birth_date", "date_of_birth", "dob", "born", "geburtstag", "geburtsdatum", "geboren", "geb_datum"}},
	{FirstName, []string{"first_name", "firstname", "vorname", "vornamen", "given_name", "givenname", "forename", "middle_name", "middlename", "rufname"}},
	{LastName, []string{"last_name", "lastname", "nachname", "surname", "family_name", "familyname", "familienname", "zuname", "maiden_name", "geburtsname"}},
	{Username, []string{"username", "user_name", "login", "nickname", "nick", "benutzername", "nutzername", "handle", "screen_name"}},
	{Coordinates, []string{"latitude", "longitude", "lat", "lon", "lng", "coordinates", "coordinate", "koordinaten", "breitengrad", "laengengrad", "längengrad", "geo", "geom", "geometry", "gps", "latlng", "latlon"}},
	{Postcode, []string{"postcode", "post_code", "postal_code", "postalcode", "plz", "zip", "zipcode", "postleitzahl"}},
	{Street, []string{"street", "strasse", "straße", "str", "hausnummer", "house_number", "house_no", "hausnr", "address_line", "addressline"}},
	{City, []string{"city", "town", "stadt", "ort", "wohnort", "geburtsort", "birthplace", "gemeinde", "village"}},
	{Address, []string{"address", "adresse", "anschrift", "addresses", "lieferadresse", "rechnungsadresse", "abholadresse", "zieladresse", "abholort", "zielort", "pickup_location", "dropoff_location"}},
	{ID, []string{"tax_id", "tax_number", "taxid", "steuernummer", "steuer_id", "steuerid", "vat_id", "vat_number", "vat", "ust_id", "ustid", "ssn", "social_security", "sozialversicherungsnummer", "passport",
		"passport_number", "reisepass", "ausweis", "ausweisnummer", "personalausweis", "id_card", "id_number", "national_id", "licence_number", "license_number", "driving_licence", "drivers_license", "driver_license",
		"fuehrerschein", "führerschein", "fuehrerscheinnummer", "führerscheinnummer", "license_plate", "licence_plate", "plate", "kennzeichen", "insurance_number", "kundennummer", "customer_number"}},
	{Name, []string{"full_name", "fullname", "display_name", "displayname", "anzeigename", "contact_name", "ansprechpartner", "kontoinhaber", "account_holder", "holder", "recipient_name", "recipient", "empfaenger",
		"empfänger", "absender", "sender_name", "driver_name", "fahrername", "kundenname", "customer_name", "author_name", "user_fullname", "nutzer_name", "owner_name", "inhaber", "company", "company_name", "firma", "firmenname", "signed_by", "name"}},
	{URL, []string{"avatar", "avatar_url", "photo", "photo_url", "foto", "picture", "profile_url", "homepage", "website", "linkedin", "facebook", "instagram", "image_url", "url", "link", "referer", "referrer"}},
	{Text, []string{"note", "notes", "notiz", "notizen", "comment", "comments", "kommentar", "message", "nachricht", "messages", "bio", "about", "body", "text", "description", "beschreibung", "bemerkung", "bemerkungen", "subject",
		"betreff", "feedback", "review", "bewertung", "content", "inhalt", "title", "titel", "remark", "remarks", "instructions", "hinweis", "hinweise", "grund", "user_agent", "useragent", "query", "suchbegriff", "search_term"}},
}

// people are words in the name of a table whose column "name" is a person's.
var people = []string{"user", "users", "person", "persons", "personen", "people", "profile", "profiles", "profil", "profile", "customer", "customers", "client", "clients", "contact", "contacts", "kontakt", "kontakte",
	"member", "members", "mitglied", "mitglieder", "driver", "drivers", "fahrer", "sender", "senders", "recipient", "recipients", "employee", "employees", "mitarbeiter", "account", "accounts", "konto", "kunde", "kunden", "nutzer",
	"benutzer", "guest", "guests", "gast", "admin", "admins", "manager", "managers", "author", "authors", "patient", "patients", "lead", "leads", "applicant", "bewerber"}

// aboutPeople also takes the keys above a name in a tree, as in sender/name.
func aboutPeople(c Column) bool {
	words := slices.Concat(split(c.Table), split(c.Name))
	return slices.ContainsFunc(people, func(word string) bool { return slices.Contains(words, word) })
}

// split makes words of lastLoginIP, last_login_ip and LAST-LOGIN-IP.
func split(name string) []string {
	var words []string
	word := ""
	end := func() {
		if word != "" {
			words = append(words, strings.ToLower(word))
		}
		word = ""
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r):
			end()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end()
		}
		word += string(r)
	}
	end()
	return words
}

// hasWords reports whether the words of wanted stand in words, one behind the other.
func hasWords(words []string, wanted string) bool {
	return strings.Contains("_"+strings.Join(words, "_")+"_", "_"+wanted+"_")
}
