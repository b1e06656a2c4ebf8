package process

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf16"
)

// partsOf are the value, and the password where it is an address: drivers tell it apart, and print it alone.
func partsOf(value string) []string {
	parts := []string{value}
	if u, err := url.Parse(strings.TrimSpace(value)); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			parts = append(parts, password)
		}
	}
	return parts
}

// formsOf lists what a value looks like in output: itself, its lines, and what encoders make of it, each at least minMasked
// bytes long. White space around it is cut off first: a value read from a file has a newline that nobody prints.
func formsOf(value string) []string {
	value = strings.TrimSpace(value)
	if len(value) < minMasked {
		return nil
	}
	forms := []string{stripAll(value)}
	for line := range strings.Lines(value) {
		forms = append(forms, strings.TrimSpace(line))
	}
	return long(append(forms, wholeForms(value)...))
}

// wholeForms are those of formsOf that are the value from its beginning to its end.
func wholeForms(value string) []string {
	forms := []string{value, strings.ReplaceAll(value, "\n", "\r\n")}
	forms = append(forms, base64Forms(value)...)
	forms = append(forms, hex.EncodeToString([]byte(value)), strings.ToUpper(hex.EncodeToString([]byte(value))))
	forms = append(forms, urlForms(value)...)
	forms = append(forms, jsonForms(value)...)
	return forms
}

func long(forms []string) (all []string) {
	for _, f := range forms {
		if len(f) >= minMasked {
			all = append(all, f)
		}
	}
	return all
}

// base64Forms lists what of the encoded value does not depend on what stands before and after it: for each of the three
// alignments, the characters whose 6 bits all belong to the value. For the first alignment the whole encoding at the end
// of a text is there as well, with and without padding.
func base64Forms(value string) []string {
	var forms []string
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		forms = append(forms, encoding.EncodeToString([]byte(value)), encoding.WithPadding(base64.NoPadding).EncodeToString([]byte(value)))
		for before := range 3 {
			// What follows is filled up to a whole group, so that no padding appears.
			after := (3 - (before+len(value))%3) % 3
			padded := make([]byte, before, before+len(value)+after)
			padded = append(append(padded, value...), make([]byte, after)...)
			encoded := encoding.EncodeToString(padded)
			first := (before*8 + 5) / 6          // the first character with bits of the value only
			end := (before*8 + len(value)*8) / 6 // one past the last such character
			forms = append(forms, encoded[first:end])
		}
	}
	return forms
}

// urlForms lists the percent-encodings of Go (query, path), of JavaScript's encodeURIComponent and of encoders that escape
// everything but letters, digits and "-_.", each with capital and small hexadecimal digits.
func urlForms(value string) []string {
	forms := []string{
		url.QueryEscape(value), url.PathEscape(value), url.UserPassword("", value).String()[1:],
		percent(value, "-_.!~*'()"), percent(value, "-_."), percent(value, "-_.~"), percent(value, "-_.~/"),
		percent(value, "-_.!~*'();/?:@&=+$,#"),
	}
	for _, f := range forms {
		forms = append(forms, lowerEscapes(f))
	}
	return forms
}

// percent escapes every byte but letters, digits and those in plain.
func percent(value, plain string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func lowerEscapes(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], strings.ToLower(string(b[i+1:i+3])))
			i += 2
		}
	}
	return string(b)
}

// jsonForms lists the value inside a JSON string as written by Go (with and without HTML escapes), by encoders that escape
// the slash, and by those that write ASCII only; and that once more inside a string, as in a JSON log of a JSON text.
func jsonForms(value string) []string {
	inner := func(s string) string {
		quoted, err := json.Marshal(s)
		if err != nil {
			return ""
		}
		return string(quoted[1 : len(quoted)-1])
	}
	html := inner(value)
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(html)
	forms := []string{html, plain, strings.ReplaceAll(plain, "/", `\/`), ascii(plain), strings.ReplaceAll(ascii(plain), "/", `\/`)}
	again := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return append(forms, again.Replace(plain), again.Replace(html))
}

// ascii writes what is not ASCII as \uXXXX.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
