package privacy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/privacy"
)

// What columns are taken for, by name, in German and English, by type, comment and content.
func TestJudge(t *testing.T) {
	many := func(form string) (values []string) {
		for i := range 100 {
			values = append(values, strings.ReplaceAll(form, "#", fmt.Sprint(i)))
		}
		return values
	}
	codes := strings.Split(strings.Repeat("created in_delivery done ", 40), " ")[:120]
	for _, c := range []struct {
		table, name string
		of          privacy.Type
		sample      []string
		want        privacy.Kind // "": cannot be judged
		guard       privacy.Guard
	}{
		{"users", "email", privacy.TextType, many("p#@example.com"), "mail", ""},
		{"users", "emailAddress", privacy.TextType, many("p#@example.com"), "mail", ""},
		{"users", "email_status", privacy.TextType, codes, "keep", "codes"},
		{"users", "email_verified", privacy.PlainType, nil, "keep", ""},
		{"users", "telefonnummer", privacy.TextType, many("0171 55501#"), "phone", ""},
		{"users", "phone", privacy.NumberType, many("4917155501#"), "phone", ""},
		{"kunden", "Vorname", privacy.TextType, many("Ada"), "first-name", ""},
		{"kunden", "nachname", privacy.TextType, many("Lovelace"), "last-name", ""},
		{"kunden", "name", privacy.TextType, many("Ada Lovelace"), "name", ""},
		{"products", "name", privacy.TextType, many("Kiste #"), "", ""},
		{"kunden", "straße", privacy.TextType, many("Weg #"), "street", ""},
		{"kunden", "plz", privacy.TextType, many("101#"), "postcode", ""},
		{"kunden", "wohnort", privacy.TextType, many("Köln"), "city", ""},
		{"orders", "pickup_address", privacy.TextType, many("Weg #, Köln"), "address", ""},
		{"users", "geburtsdatum", privacy.DateType, nil, "birthday", ""},
		{"users", "created_at", privacy.TimeType, nil, "keep", ""},
		{"drivers", "steuer_id", privacy.TextType, many("8609574271#"), "id", ""},
		{"drivers", "führerscheinnummer", privacy.TextType, many("B072RRE2I#"), "id", ""},
		{"x", "lat", privacy.DecimalType, many("50.9#"), "coordinates", ""},
		{"x", "weight", privacy.DecimalType, many("50.9#"), "keep", ""},
		{"x", "place", privacy.PointType, nil, "coordinates", ""},
		{"x", "seen", privacy.AddressType, nil, "ip", ""},
		{"x", "password_hash", privacy.TextType, many("$2b$10$abc#"), "token", ""},
		{"x", "beschreibung", privacy.TextType, many("Sofa #"), "text", ""},
		{"x", "data", privacy.JSONType, nil, "json", ""},
		{"x", "doc", privacy.OtherType, many("\\x00"), "", ""},
		{"x", "field1", privacy.TextType, many("p#@example.com"), "mail", ""},
		{"x", "field1", privacy.TextType, append(many("nichts #"), "ruf an: ada@example.com"), "text", ""},
		{"x", "field1", privacy.TextType, many("DE89370400440532013000"), "iban", ""},
		{"x", "field1", privacy.TextType, many("192.0.2.#"), "ip", ""},
		{"x", "field1", privacy.TextType, many("50.93751, 6.95#"), "coordinates", ""},
		{"x", "field1", privacy.TextType, many("+49 171 555010#"), "phone", ""},
		{"x", "field1", privacy.TextType, many("Hauptstraße # in Köln"), "address", ""},
		{"x", "field1", privacy.TextType, many("das ist ein Satz mit #"), "text", ""},
		{"x", "field1", privacy.TextType, codes, "keep", "codes"},
		{"x", "field1", privacy.TextType, codes[:6], "", ""}, // too few to tell
		{"x", "status", privacy.TextType, codes[:6], "keep", "codes"},
		{"x", "field1", privacy.TextType, strings.Split(strings.Repeat("Anna Bernd ", 60), " ")[:110], "", ""},
		{"x", "field1", privacy.TextType, many("123e4567-e89b-12d3-a456-4266141740aa"), "keep", "uuid"},
		{"x", "field1", privacy.TextType, nil, "keep", "empty"},
		{"x", "field1", privacy.TextType, many("Zz#"), "", ""},
	} {
		v := privacy.Judge(privacy.Column{Table: c.table, Name: c.name, Type: c.of, Sample: c.sample, Empty: len(c.sample) == 0})
		if v.Kind != c.want || v.Guard != c.guard || v.Why == "" {
			t.Errorf("%s.%s (%.40v) is taken for %q, %q: %s", c.table, c.name, c.sample, v.Kind, v.Guard, v.Why)
		}
		if len(c.sample) > 0 && c.name == "field1" && strings.Contains(v.Why, c.sample[0]) {
			t.Errorf("why repeats a value: %s", v.Why)
		}
	}
	if v := privacy.Judge(privacy.Column{Table: "x", Name: "f", Comment: "Telefonnummer des Fahrers", Type: privacy.TextType, Sample: many("Zz#")}); v.Kind != "phone" {
		t.Errorf("the comment says %q", v.Kind)
	}
}
