package process

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/secret"
)

func maskOf(values ...string) *Mask {
	var texts []secret.Text
	for _, v := range values {
		texts = append(texts, secret.New(v))
	}
	return NewMask(texts)
}

// inPieces writes text in pieces that end at the given positions.
func inPieces(t testing.TB, m *Mask, text string, cuts ...int) string {
	t.Helper()
	var out bytes.Buffer
	w := m.Writer(&out)
	from := 0
	for _, to := range append(cuts, len(text)) {
		if n, err := io.WriteString(w, text[from:to]); n != to-from || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, to-from, err)
		}
		from = to
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestMaskHidesEveryForm(t *testing.T) {
	const value = `p@ss/w+rd<&>"\ü?` + "\n" + `second line=~`
	asJSON, _ := json.Marshal(value)
	twice, _ := json.Marshal(string(asJSON))
	forms := map[string]string{
		"as it is":               value,
		"its second line":        "second line=~",
		"with CRLF":              strings.ReplaceAll(value, "\n", "\r\n"),
		"JSON of Go":             string(asJSON),
		"JSON in JSON":           string(twice),
		"JSON, ASCII":            `p@ss/w+rd<&>\"\\\u00fc?\nsecond line=~`,
		"JSON, escaped slash":    `p@ss\/w+rd<&>\"\\ü?\nsecond line=~`,
		"query":                  url.QueryEscape(value),
		"path":                   url.PathEscape(value),
		"userinfo":               url.UserPassword("u", value).String(),
		"encodeURIComponent":     "p%40ss%2Fw%2Brd%3C%26%3E%22%5C%C3%BC%3F%0Asecond%20line%3D~",
		"small escapes":          "p%40ss%2fw%2brd%3c%26%3e%22%5c%c3%bc%3f%0asecond%20line%3d~",
		"hexadecimal":            fmt.Sprintf("%x", value),
		"capital hexadecimal":    fmt.Sprintf("%X", value),
		"base64":                 base64.StdEncoding.EncodeToString([]byte(value)),
		"base64, raw":            base64.RawStdEncoding.EncodeToString([]byte(value)),
		"base64, URL":            base64.URLEncoding.EncodeToString([]byte(value)),
		"base64, URL, raw":       base64.RawURLEncoding.EncodeToString([]byte(value)),
		"base64 with a newline":  base64.StdEncoding.EncodeToString([]byte(value + "\n")),
		"base64, shifted by one": base64.StdEncoding.EncodeToString([]byte("u" + value + "tail")),
		"base64, shifted by two": base64.URLEncoding.EncodeToString([]byte("u:" + value + "tail")),
	}
	m := maskOf(value)
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			got := m.String("before " + form + " after")
			if !strings.Contains(got, secret.Shown) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
				t.Errorf("%s became %s", form, got)
			}
			// Of an encoding in the middle of something, its two edges may stay; nothing else may.
			if left := len(got) - len("before "+secret.Shown+" after"); left > 16 {
				t.Errorf("%s became %s: %d bytes are left", form, got, left)
			}
			for cut := range len(form) {
				if split := inPieces(t, m, "before "+form+" after", 7+cut); split != got {
					t.Fatalf("cut at %d it became %s, want %s", cut, split, got)
				}
			}
		})
	}
}

func TestMaskEdges(t *testing.T) {
	const shown = secret.Shown
	for name, c := range map[string]struct {
		values   []string
		in, want string
	}{
		"nothing to hide":      {nil, "abcdefgh", "abcdefgh"},
		"five bytes":           {[]string{"abcde"}, "abcde abcdef", "abcde abcdef"},
		"six bytes":            {[]string{"abcdef"}, "abcdef abcde", shown + " abcde"},
		"white space around":   {[]string{"  abcdef\n"}, "xabcdefx", "x" + shown + "x"},
		"twice in a row":       {[]string{"abcdef"}, "abcdefabcdef", shown + shown},
		"overlapping values":   {[]string{"abcdef", "defghi"}, "xabcdefghix", "x" + shown + "x"},
		"one inside the other": {[]string{"abcdefghij", "cdefgh"}, "abcdefghij cdefgh", shown + " " + shown},
		"the longest counts":   {[]string{"abcdef", "abcdefgh"}, "abcdefgh", shown},
		"itself overlapping":   {[]string{"aaaaaa"}, "aaaaaaaaa b", shown + " b"},
		"the end is cut":       {[]string{"abcdef"}, "x abcde", "x abcde"},
		"no text at all":       {[]string{"abcdef"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := maskOf(c.values...).String(c.in); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := (*Mask)(nil).String("abc"); got != "abc" {
		t.Errorf("a nil mask made %q", got)
	}
}

// FuzzMask: cut at every position, and at every byte, the result is the same; and no value is in it.
func FuzzMask(f *testing.F) {
	f.Add("hunter2-correct", "abcdef", "say hunter2-correct, abcdef, hunter2-hunter2-correct")
	f.Add("aaaaaaaa", "aaaaaab", "aaaaaaaaaaaaaaaaab")
	f.Add("line one\nline two", "ne\nline", "line one\nline two\nline one\r\nline")
	f.Fuzz(func(t *testing.T, one, two, text string) {
		if len(text) > 300 || len(one) > 100 || len(two) > 100 {
			t.Skip("too long for every cut")
		}
		text += one + two
		m := maskOf(one, two)
		whole := m.String(text)
		all := make([]int, 0, len(text))
		for cut := range len(text) {
			all = append(all, cut)
			if got := inPieces(t, m, text, cut); got != whole {
				t.Fatalf("cut at %d: %q, want %q", cut, got, whole)
			}
		}
		if got := inPieces(t, m, text, all...); got != whole {
			t.Fatalf("byte by byte: %q, want %q", got, whole)
		}
		for _, value := range []string{one, two} {
			value = strings.TrimSpace(value)
			// The dots could spell a value that is made of dots.
			if len(value) >= minMasked && !strings.ContainsAny(value, secret.Shown) && strings.Contains(whole, value) {
				t.Fatalf("%q is still in %q", value, whole)
			}
		}
	})
}

func BenchmarkMask(b *testing.B) {
	var values []string
	for i := range 30 {
		values = append(values, fmt.Sprintf("postgres://user%d:%x@db.internal:5432/app", i, i*7919))
	}
	m := maskOf(values...)
	text := []byte(strings.Repeat("2026-01-02 GET /api/transports 200 12ms user=4711 agent=Mozilla/5.0 postgres pool idle\n", 700))
	w := m.Writer(io.Discard)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := w.Write(text); err != nil {
			b.Fatal(err)
		}
	}
}

// A mutation of a form is found by its test; this one pins that the spec on its way to a keeper keeps its values, and that
// nothing else prints them.
func TestSpecKeepsItsMaskOnTheWire(t *testing.T) {
	spec := Spec{Name: "n", Mask: []secret.Text{secret.New("hunter2-correct")}, Env: []string{"A=b"}}
	raw, err := spec.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeSpec(bytes.NewReader(raw))
	if err != nil || len(back.Mask) != 1 || back.Mask[0].Reveal() != "hunter2-correct" || back.Name != "n" || back.Env[0] != "A=b" {
		t.Errorf("got %+v, %v", back, err)
	}
	if plain, _ := json.Marshal(spec); bytes.Contains(plain, []byte("hunter2")) {
		t.Error("a Spec prints its values")
	}
}
