package process

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func linesOf(m *Mask, pieces ...string) []string {
	var got []string
	o := newOutput(m, false, func(l string) { got = append(got, l) })
	for _, p := range pieces {
		_, _ = o.Write([]byte(p))
	}
	_ = o.Close()
	return got
}

func TestOutputBecomesCleanLines(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":                  {"a\nb\n", "a|b"},
		"no line end at the end": {"a\nb", "a|b"},
		"empty lines":            {"a\n\nb\n", "a||b"},
		"colours":                {"\x1b[1;31mred\x1b[0m x\n", "red x"},
		"a title":                {"\x1b]0;title\x07text\n\x1b]8;;http://x\x1b\\link\n", "text|link"},
		"a broken sequence":      {"\x1b[31\nnext\n", "|next"},
		"a string without end":   {"\x1b]0;no end\nnext\n", "|next"},
		"a charset":              {"\x1b(Btext\n", "text"},
		"cursor save":            {"\x1b7text\x1b8\n", "text"},
		"carriage returns":       {"10%\r20%\r\n", "10% 20%"},
		"control characters":     {"a\x00b\x08c\td\x7f\n", "abc\td"},
		"invalid UTF-8":          {"a\xff\xfeb\n", "a\uFFFDb"},
		"C1 as UTF-8":            {"a\u009b31mb\n", "a31mb"},
		"umlauts":                {"Grüße\n", "Grüße"},
	} {
		t.Run(name, func(t *testing.T) {
			want := strings.Split(c.want, "|")
			if got := linesOf(nil, c.in); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for cut := range len(c.in) {
				if got := linesOf(nil, c.in[:cut], c.in[cut:]); !slices.Equal(got, want) {
					t.Errorf("cut at %d: %q, want %q", cut, got, want)
				}
			}
		})
	}
}

func TestAColourDoesNotSaveAValueFromTheMask(t *testing.T) {
	got := linesOf(maskOf("hunter2-correct"), "x hunter2\x1b[1m-corr", "ect\x1b[0m y\n")
	if len(got) != 1 || got[0] != "x ••• y" {
		t.Errorf("got %q", got)
	}
}

// What another reader has swallowed of a value leaves its end at the beginning of the stream.
func TestTheRestOfAValueIsHidden(t *testing.T) {
	var got []string
	o := newOutput(maskOf("hunter2-correct"), true, func(l string) { got = append(got, l) })
	_, _ = o.Write([]byte("-correct y\n-correct z\n"))
	if !slices.Equal(got, []string{"••• y", "-correct z"}) {
		t.Errorf("got %q", got)
	}
}

func TestALongLineIsCutAndCostsNoMemory(t *testing.T) {
	const size = 10 << 20
	var total, longest, most int
	var before, now runtime.MemStats
	o := newOutput(maskOf("hunter2-correct"), false, func(l string) {
		total += len(l)
		longest = max(longest, len(l))
		if !utf8.ValidString(l) || strings.Contains(l, "\uFFFD") {
			t.Error("a character was cut")
		}
	})
	piece := []byte("x" + strings.Repeat("ü", 8<<10))[:16<<10]
	runtime.GC()
	runtime.ReadMemStats(&before)
	for written := 0; written < size; written += len(piece) {
		_, _ = o.Write(piece[:len(piece)-1]) // ends in whole characters
		most = max(most, cap(o.lines.part)+cap(o.mask.held)+cap(o.mask.out))
	}
	_ = o.Close()
	runtime.GC()
	runtime.ReadMemStats(&now)
	if want := size / len(piece) * (len(piece) - 1); total != want {
		t.Errorf("%d bytes came out, want %d", total, want)
	}
	if longest > maxLine || most > 512<<10 {
		t.Errorf("the longest line is %d, %d bytes were held", longest, most)
	}
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes are still held", grown)
	}
}
