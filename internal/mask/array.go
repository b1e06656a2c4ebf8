package mask

import (
	"errors"
	"strings"
)

var errArray = errors.New("the value is no array or range")

// elements writes an array (in PostgreSQL's text) with what do returns in place of each element that is not null.
func elements(array string, do func(string) (string, error)) (string, error) {
	return pieces(array, "{},", do)
}

// bounds writes a range or a multirange with what do returns in place of each bound that there is.
func bounds(span string, do func(string) (string, error)) (string, error) {
	if span == "empty" {
		return span, nil
	}
	return pieces(span, "[](){},", do)
}

func pieces(array, separators string, do func(string) (string, error)) (string, error) {
	var out strings.Builder
	if at := strings.Index(array, "={"); at > 0 && array[0] == '[' { // bounds
		out.WriteString(array[:at+1])
		array = array[at+1:]
	}
	for i := 0; i < len(array); {
		if strings.IndexByte(separators, array[i]) >= 0 {
			out.WriteByte(array[i])
			i++
			continue
		}
		value, size, quoted, ok := element(array[i:], separators)
		if !ok {
			return "", errArray
		}
		i += size
		if !quoted && strings.EqualFold(value, "null") {
			out.WriteString("NULL")
			continue
		}
		changed, err := do(value)
		if err != nil {
			return "", err
		}
		out.WriteByte('"')
		for _, b := range []byte(changed) {
			if b == '"' || b == '\\' {
				out.WriteByte('\\')
			}
			out.WriteByte(b)
		}
		out.WriteByte('"')
	}
	return out.String(), nil
}

// element reads one, in quotes or up to what ends it.
func element(text, separators string) (value string, size int, quoted, ok bool) {
	var out []byte
	quoted = text[0] == '"'
	i := 0
	if quoted {
		i = 1
	}
	for i < len(text) {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			out = append(out, text[i+1])
			i += 2
			continue
		case quoted && c == '"':
			return string(out), i + 1, true, true
		case !quoted && strings.IndexByte(separators, c) >= 0:
			return string(out), i, false, true
		}
		out = append(out, c)
		i++
	}
	return "", 0, false, false
}
