package privacy_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/privacy"
)

func masker(unique ...privacy.Kind) *privacy.Masker {
	rules := privacy.Rules{Unique: map[privacy.Kind]bool{}}
	for _, k := range unique {
		rules.Unique[k] = true
	}
	return privacy.NewMasker([]byte("a key of a test"), rules)
}

// What each kind keeps.
func TestMask(t *testing.T) {
	m := masker()
	for _, c := range []struct {
		kind        privacy.Kind
		value, form string
	}{
		{"mail", "Ada.Lovelace@Firma.Example.org", `[A-Za-z]+\.[A-Za-z2-9]{12}@[a-z2-9]{6}\.example`},
		{"mail", "n/a", `[a-z]/[a-z]`},
		{"phone", "+49 171 5550123", `\+49 \d+ ?\d+`},
		{"phone", "0171/5550123", `0(30 23125|69 90009|40 66969|221 4710|89 99998)\d{3}`},
		{"phone", "0049 (0)171 5550123", `0049 \d+ \d+`},
		{"phone", "+48 601 234 567", `\+48 60\d \d{3} \d{3,}`},
		{"phone", "+1 (212) 555-0000", `\+1 212 555 01\d\d`},
		{"phone", "+44 20 7000 0000", `\+44 7700 900\d{3}`},
		{"first-name", "Anna-Lena", `[A-Z][a-z]+q-[A-Z][a-z]+q`},
		{"last-name", "VON DER HEIDE", `[A-Z]+Q [A-Z]+Q [A-Z]+Q`},
		{"name", "Lovelace, Ada", `[A-Z][a-z]+q, [A-Z][a-z]+q`},
		{"street", "Hauptstraße 17a", `[A-Z][a-z]+q(straße|weg|allee|gasse|platz) \d+`},
		{"postcode", "10115", `10000`},
		{"postcode", "00-950", `00-000`},
		{"postcode", "SW1A 1AA", `SW0A 0AA`},
		{"city", "Köln", `[A-Z][a-z]+q[a-z]+`},
		{"address", "Hauptstr. 5, 10115 Berlin, Deutschland", `\S+ \d+, 10000 \S+, Deutschland`},
		{"birthday", "1984-05-23", `1984-01-01`},
		{"birthday", "23.5.1984", `01\.01\.1984`},
		{"birthday", "1984-05-23 11:12:13+00", `1984-01-01 00:00:00\+00`},
		{"birthday", "ca. 23. Mai", `[a-z]{2}\. 00\. [A-Z][a-z]{2}`},
		{"bic", "DEUTDEFF500", `[A-Z]{4}DE[A-Z]0XXX`},
		{"id", "L-AB 1234", `[A-Z]-[A-Z]{2} \d{4}`},
		{"ip", "192.0.2.17", `2[45]\d\.\d+\.\d+\.\d+`},
		{"ip", "192.0.2.0/24", `2[45]\d\.\d+\.\d+\.0/24`},
		{"ip", "2001:db8::1", `2001:db8:.*`},
		{"mac", "00:1A:2B:3C:4D:5E", `[0-9A-F][26AE](:[0-9A-F]{2}){5}`},
		{"coordinates", "50.9375312", `50\.9[0-4]00000`},
		{"coordinates", "(13.404954,52.520008)", `\(13\.4[0-4]0000,52\.5[0-4]0000\)`},
		{"coordinates", "POINT(13.404954 52.520008)", `POINT\(13\.4[0-4]0000 52\.5[0-4]0000\)`},
		{"coordinates", "-0.1276", `-0\.1[0-5]00`},
		{"coordinates", "51.5", `51\.5`},
		{"url", "https://social.example.org/in/ada-lovelace.jpg?me=ada", `https://[a-z2-9]{6}\.example/[a-z2-9]+/[a-z2-9]+\.jpg\?[a-z]{2}=[a-z]{3}`},
		{"text", "Ruf Ada an: 0171 5550123, ada@example.org!\n", `[A-Z][a-z]+ [A-Z][a-z]+ [a-z]+: \d{4} \d{7}, [a-z]+ [a-z]+\.[a-z]+!` + "\n"},
		{"token", "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxMg$aGFzaGhhc2hoYXNo", `\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9]{14}\$[A-Za-z0-9]{16}`},
		{"token", "0123456789abcdef", `[0-9a-f]{16}`},
		{"drop", "anything", ``},
		{"keep", "anything", `anything`},
	} {
		got := m.Mask(c.kind, c.value)
		if !hasForm(c.form, got) || got == c.value && c.kind != "keep" && c.value != "51.5" {
			t.Errorf("%s %q becomes %q, not %s", c.kind, c.value, got, c.form)
		}
	}
}

// What is joined stays joined, and the other way round.
func TestJoins(t *testing.T) {
	m, other := masker(), privacy.NewMasker([]byte("another key"), privacy.Rules{})
	if m.Mask("name", "Ada Lovelace") != m.Mask("first-name", "Ada")+" "+m.Mask("last-name", "Lovelace") || m.Mask("address", "Weg 5, 10115 Köln") != m.Mask("street", "Weg 5")+", "+m.Mask("postcode", "10115")+" "+m.Mask("city", "Köln") {
		t.Error("a whole becomes something else than its parts")
	}
	a, b := m.Mask("mail", "Ada@Example.org"), m.Mask("mail", "ada@example.org")
	if a == b || !strings.EqualFold(a, b) {
		t.Errorf("%s and %s differ in more than case, or in nothing", a, b)
	}
	for _, k := range []privacy.Kind{"mail", "phone", "name", "iban", "ip", "text", "token"} {
		value := map[privacy.Kind]string{"mail": "ada@example.org", "phone": "+48 601 234 567", "iban": "DE89370400440532013000", "ip": "192.0.2.1"}[k]
		if value == "" {
			value = "Ada Lovelace"
		}
		if m.Mask(k, value) == other.Mask(k, value) {
			t.Errorf("%s: the key does not count", k)
		}
		if m.Mask(k, "  ") != "  " || m.Mask(k, "") != "" {
			t.Errorf("%s: nothing becomes something", k)
		}
	}
}

// drawn is a text that a pattern matches.
func drawn(pattern string) *rapid.Generator[string] { return rapid.StringMatching(pattern) }

// For any two values: the same gives the same, others give others, in the form of the kind, and none becomes itself.
func TestDistinct(t *testing.T) {
	m := masker("phone", "ip", "name", "first-name", "last-name", "city", "street")
	for kind, pattern := range map[privacy.Kind]string{
		"mail": `[a-zA-Z]{1,8}\.[a-z0-9]{1,5}@[a-z]{1,6}\.(org|example)`, "phone": `(\+49 ?1[567]|\+48|0|0049)[1-9][0-9]{6,9}`, "username": `[A-Za-z_0-9]{3,12}`, "ip": `(1[0-9]{2}|[1-9])\.[1-9]\.[1-9][0-9]\.[1-9]`,
		"name": `[A-Z][a-z]{1,6} [A-Z][a-z]{1,6}`, "last-name": `[A-Z][a-z]{1,6}`, "id": `[A-Z]{2}[0-9]{6,9}`, "mac": `[0-9a-f]{2}(:[0-9a-f]{2}){5}`, "token": `[0-9a-f]{32}`, "city": `[A-Z][a-zäöü]{3,9}`,
	} {
		t.Run(string(kind), rapid.MakeCheck(func(t *rapid.T) {
			a, b := drawn(pattern).Draw(t, "a"), drawn(pattern).Draw(t, "b")
			ma, mb := m.Mask(kind, a), m.Mask(kind, b)
			switch {
			case ma == a:
				t.Fatalf("%q stays", a)
			case ma != m.Mask(kind, a):
				t.Fatalf("%q becomes two things", a)
			case a != b && ma == mb:
				t.Fatalf("%q and %q become %q", a, b, ma)
			case privacy.Looks(kind, a) && !privacy.Looks(kind, ma):
				t.Fatalf("%q becomes %q, which has not the form", a, ma)
			}
		}))
	}
}

// Numbers of few digits are a permutation: all of them come, each once, and none stays.
func TestPermutation(t *testing.T) {
	m := masker("phone")
	seen := map[string]bool{}
	for i := range 20_000 {
		value := fmt.Sprintf("X%05d", i)
		masked := m.Mask("id", value)
		if seen[masked] || masked[1:] == value[1:] || len(masked) != 6 {
			t.Fatalf("%s becomes %s", value, masked)
		}
		seen[masked] = true
	}
}

func TestIBAN(t *testing.T) {
	m := masker()
	seen := map[string]bool{}
	for _, iban := range []string{"DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "FR1420041010050500013M02606", "PL61109010140000071219812874", "NO9386011117947", "AT611904300234573201", "CH9300762011623852957", "MT84MALT011000012345MTLCAST001S"} {
		masked := m.Mask("iban", iban)
		if !privacy.Looks("iban", masked) || masked[:2] != iban[:2] || len(masked) != len(iban) || masked == iban || seen[masked] || iban[:2] == "DE" && strings.ReplaceAll(masked, " ", "")[4] != '9' {
			t.Errorf("%s becomes %s", iban, masked)
		}
		seen[masked] = true
	}
	if masked := m.Mask("iban", "DE00370400440532013000"); privacy.Looks("iban", masked) || masked == "DE00370400440532013000" { // what was wrong may stay wrong
		t.Errorf("a wrong one becomes %s", masked)
	}
}

// Cards and German tax numbers keep valid check digits.
func TestCheckDigits(t *testing.T) {
	m := masker()
	for _, card := range []string{"4111111111111111", "5500 0000 0000 0004", "378282246310005"} {
		if masked := m.Mask("card", card); !privacy.Looks("card", masked) || masked == card || len(masked) != len(card) || masked[0] != card[0] {
			t.Errorf("%s becomes %s", card, masked)
		}
	}
	tax := m.Mask("id", "86095742719") // the example of the Bundeszentralamt für Steuern
	if again := m.Mask("id", tax); tax == "86095742719" || len(tax) != 11 || tax[0] != '8' || len(again) != 11 || again[0] != '8' {
		t.Error(tax)
	}
}

func TestCoarse(t *testing.T) {
	m := masker()
	rapid.Check(t, func(t *rapid.T) {
		lat := rapid.Float64Range(-89, 89).Draw(t, "degrees")
		value := fmt.Sprintf("%.6f", lat)
		masked := m.Mask("coordinates", value)
		var moved float64
		if _, err := fmt.Sscan(masked, &moved); err != nil || moved-lat > 0.05 || lat-moved > 0.05 || !privacy.Coarsened("coordinates", masked) {
			t.Fatalf("%s becomes %s", value, masked)
		}
	})
	point := "0101000020E61000000000000000002A400000000000404A40" // 13 52.5
	if masked := m.Mask("coordinates", point); masked == point || len(masked) != len(point) || masked[:18] != point[:18] || !privacy.Coarsened("coordinates", masked) {
		t.Errorf("EWKB: %s", masked)
	}
	for kind, value := range map[privacy.Kind]string{"postcode": "10115", "birthday": "1984-05-23", "coordinates": "50.93753"} {
		if privacy.Coarsened(kind, value) || !privacy.Coarsened(kind, m.Mask(kind, value)) {
			t.Errorf("%s: the form is not told", kind)
		}
	}
}

func TestLimits(t *testing.T) {
	m := privacy.NewMasker([]byte("k"), privacy.Rules{Limit: map[privacy.Kind]int{"mail": 24, "name": 10, "phone": 12, "username": 8, "text": 5}, Unique: map[privacy.Kind]bool{"phone": true, "name": true}})
	seen := map[string]bool{}
	for i := range 500 {
		for kind, value := range map[privacy.Kind]string{"mail": fmt.Sprintf("a%d@example.org", i), "name": fmt.Sprintf("Ada X%d", i), "phone": fmt.Sprintf("+48 60%07d", i), "username": fmt.Sprintf("ada%d", i)} {
			masked := m.Mask(kind, value)
			if seen[masked] || len(masked) > map[privacy.Kind]int{"mail": 24, "name": 10, "phone": 12, "username": 8}[kind] {
				t.Fatalf("%s becomes %s", value, masked)
			}
			seen[masked] = true
		}
	}
}

func TestWalk(t *testing.T) {
	got, err := privacy.Walk(`{"a":{"b":["x",1.50,null,true]},"ada@example.org":{"n":"<y>"},"e":{},"f":[]}`, func(l privacy.Leaf) string {
		if l.Text {
			return l.Path + "=" + l.Value
		}
		return l.Value
	})
	if want := `{"a":{"b":["/a/b=x",1.50,null,true]},"/*=ada@example.org":{"n":"/*/n=<y>"},"e":{},"f":[]}`; err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{`{`, `{"a":}`, `[1] 2`, ``, `{"secretly": ada}`} {
		if _, err := privacy.Walk(bad, func(l privacy.Leaf) string { return l.Value }); err == nil || strings.Contains(err.Error(), "ada") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestNear(t *testing.T) {
	for name, want := range map[string]privacy.Kind{"email": "mail", "telephone": "phone", "plz": "postcode", "ibn": "iban", "adress": "address", "tokn": "token", "xyzzy": ""} {
		if got := privacy.Near(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestMaskedAddressesAreNobodys(t *testing.T) {
	m := masker()
	for i := range 200 {
		ip := netip.MustParseAddr(m.Mask("ip", fmt.Sprintf("192.0.2.%d", i)))
		if !netip.MustParsePrefix("240.0.0.0/4").Contains(ip) {
			t.Fatal(ip)
		}
	}
}

func hasForm(form, text string) bool {
	return regexp.MustCompile(`^(?s:` + form + `)$`).MatchString(text)
}
