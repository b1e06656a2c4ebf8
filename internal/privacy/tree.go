package privacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Leaf is one value in a tree of JSON.
type Leaf struct {
	Path  string // keys from the root, with / in front of each; elements of arrays add nothing
	Value string // of a number as it is written
	Text  bool   // a string, not a number, a truth or nothing
}

// Walk calls do with every leaf of a JSON document and writes the document with what do returns in its place, as a string where it was one
// and as a number, a truth or nothing where it was that. Keys that are no names but values, as the mail address of whose entry it is,
// are leaves of the path that ends with /*.
func Walk(document string, do func(Leaf) string) (string, error) {
	w := walker{in: json.NewDecoder(strings.NewReader(document)), do: do}
	w.in.UseNumber()
	if err := w.value(""); err != nil {
		return "", errJSON
	}
	if _, err := w.in.Token(); !errors.Is(err, io.EOF) {
		return "", errJSON
	}
	return w.out.String(), nil
}

var errJSON = errors.New("the value is no JSON") // the decoder's own errors repeat parts of it

type walker struct {
	in  *json.Decoder
	out bytes.Buffer
	do  func(Leaf) string
}

func (w *walker) value(path string) error {
	token, err := w.in.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return w.object(path)
		}
		return w.array(path)
	case string:
		w.string(w.do(Leaf{Path: path, Value: t, Text: true}))
	case json.Number:
		w.out.WriteString(orNull(w.do(Leaf{Path: path, Value: t.String()})))
	case bool:
		w.out.WriteString(map[bool]string{true: "true", false: "false"}[t])
	default:
		w.out.WriteString("null")
	}
	return nil
}

// orNull takes a number for nothing where what it became is none, as where it is dropped.
func orNull(number string) string {
	if json.Valid([]byte(number)) {
		return number
	}
	return "null"
}

func (w *walker) object(path string) error {
	w.out.WriteByte('{')
	for first := true; w.in.More(); first = false {
		token, err := w.in.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return errJSON
		}
		if !first {
			w.out.WriteByte(',')
		}
		below := path + "/" + key
		if !isName(key) {
			below = path + "/*"
			key = w.do(Leaf{Path: below, Value: key, Text: true})
		}
		w.string(key)
		w.out.WriteByte(':')
		if err := w.value(below); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	_, err := w.in.Token()
	return err
}

func (w *walker) array(path string) error {
	w.out.WriteByte('[')
	for first := true; w.in.More(); first = false {
		if !first {
			w.out.WriteByte(',')
		}
		if err := w.value(path); err != nil {
			return err
		}
	}
	w.out.WriteByte(']')
	_, err := w.in.Token()
	return err
}

func (w *walker) string(s string) {
	encoder := json.NewEncoder(&w.out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err == nil { // a string can always be encoded
		w.out.Truncate(w.out.Len() - 1) // the end of the line
	}
}

// isName tells a key that a program wrote from one that is somebody's mail address, number or id.
func isName(key string) bool {
	digits := 0
	for _, r := range key {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r == '_' || r == '-' || r == '$' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
		default:
			return false
		}
	}
	return key != "" && digits <= 2 && len(key) <= 40
}
