package privacy

import (
	"slices"
	"strings"
)

// Kind says what a value tells of a person, and so what becomes of it in a masked copy.
type Kind string

// The kinds. What each of them becomes stands at Masker.Mask.
const (
	Keep        Kind = "keep" // nothing of a person, or nothing but a pseudonym: it stays
	Mail        Kind = "mail"
	Phone       Kind = "phone"
	FirstName   Kind = "first-name"
	LastName    Kind = "last-name"
	Name        Kind = "name" // a whole name, of a person or a company
	Username    Kind = "username"
	Street      Kind = "street" // with or without the number of the house
	Postcode    Kind = "postcode"
	City        Kind = "city"
	Address     Kind = "address" // several parts in one value
	Birthday    Kind = "birthday"
	IBAN        Kind = "iban"
	BIC         Kind = "bic"
	Card        Kind = "card" // number of a payment card
	ID          Kind = "id"   // number of a tax office, a passport, a licence, a plate
	IP          Kind = "ip"
	MAC         Kind = "mac"
	Coordinates Kind = "coordinates" // a latitude, a longitude, or both of them or more in one value
	URL         Kind = "url"
	Text        Kind = "text"  // free text
	Token       Kind = "token" // a password's hash, a key, whatever opens something
	JSON        Kind = "json"  // a tree, each leaf judged by itself
	Drop        Kind = "drop"  // the value is left out
)

// Kinds are all that a file may name, in the order of the documents.
func Kinds() []Kind {
	return []Kind{Mail, Phone, FirstName, LastName, Name, Username, Street, Postcode, City, Address, Birthday, IBAN, BIC, Card, ID,
		IP, MAC, Coordinates, URL, Text, Token, JSON, Drop, Keep}
}

// Known reports whether k may be named.
func (k Kind) Known() bool { return slices.Contains(Kinds(), k) }

// Identifies reports whether one value of this kind leads to one person or one account, wherever it stands.
func (k Kind) Identifies() bool { return slices.Contains([]Kind{Mail, Phone, IBAN, Card}, k) }

// Coarse reports whether the kind is masked by leaving precision out: then many values become one, and the proof of it is that all of
// the copy are in the coarse form.
func (k Kind) Coarse() bool { return k == Birthday || k == Postcode || k == Coordinates }

// Distinct reports whether two values of this kind stay two, where Rules.Unique asks for it, so that what was unique stays so.
func (k Kind) Distinct() bool {
	return !slices.Contains([]Kind{Postcode, Birthday, BIC, Coordinates, Address, Drop, Text, URL, JSON}, k)
}

// Grows reports whether values of this kind may become longer than they were and are joined on: then the shortest column of the kind says how long
// all are, so that one value becomes the same in all.
func (k Kind) Grows() bool {
	return slices.Contains([]Kind{Mail, Phone, FirstName, LastName, Name, Username, Street, City}, k)
}

// Near is the kind whose name is nearest to a name that is none, or "".
func Near(name string) Kind {
	name = strings.ToLower(strings.TrimSpace(name))
	also := map[string]Kind{"email": Mail, "e-mail": Mail, "telephone": Phone, "tel": Phone, "firstname": FirstName, "first_name": FirstName, "lastname": LastName,
		"last_name": LastName, "user": Username, "zip": Postcode, "plz": Postcode, "town": City, "password": Token, "secret": Token, "hash": Token, "birthdate": Birthday,
		"date-of-birth": Birthday, "latitude": Coordinates, "longitude": Coordinates, "geo": Coordinates, "point": Coordinates, "free-text": Text, "jsonb": JSON,
		"none": Keep, "ok": Keep, "no": Keep, "null": Drop, "remove": Drop, "empty": Drop, "tax": ID, "passport": ID}
	if k, found := also[name]; found {
		return k
	}
	best, least := Kind(""), 3
	for _, k := range Kinds() {
		if d := distance(name, string(k)); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance is how many letters have to be put in, taken out or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before, row[j+1] = row[j+1], min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
