package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// shiftMap moves the columns of a script's or style's source map behind the places that have another length now.
func (f *filling) shiftMap(ctx context.Context, file *filled, edits []edit) error {
	m := f.files[file.Path+".map"]
	if m == nil {
		if _, ok := f.base[file.Path+".map"]; !ok {
			return nil
		}
		old, err := f.read(ctx, file.Path+".map")
		if err != nil {
			return err
		}
		m = &filled{baked: baked{Path: file.Path + ".map"}, old: old}
		f.files[m.Path] = m
	}
	if !isMap(m.Path, m.old) {
		return nil
	}
	if m.new == nil {
		if err := f.write(ctx, m); err != nil {
			return err
		}
	}
	shifted, err := shifted(m.new, shifts(file.old, edits))
	if err != nil {
		return &unfit{"the source map " + starred(m.Path, "") + " cannot be read"}
	}
	m.new = shifted
	return nil
}

// shift says that what stands at or behind a column of a line moves.
type shift struct {
	column int // in UTF-16 units, as ECMA-426 counts, of the text before
	by     int
}

// shifts returns the moves in each line.
func shifts(old []byte, edits []edit) map[int][]shift {
	all := map[int][]shift{}
	line, start, at := 0, 0, 0
	for _, e := range edits {
		for ; at < e.at; at++ {
			if old[at] == '\n' {
				line, start = line+1, at+1
			}
		}
		if by := units(e.new) - units(e.old); by != 0 {
			all[line] = append(all[line], shift{units(string(old[start:e.at])) + units(e.old), by})
		}
	}
	return all
}

func units(text string) (n int) {
	for _, r := range text {
		n++
		if r >= 0x10000 && r != utf8.RuneError {
			n++
		}
	}
	return n
}

var errMap = errors.New("not a source map")

// shifted is a source map with other columns. All else stays as it was written.
func shifted(data []byte, by map[int][]shift) ([]byte, error) {
	if len(by) == 0 {
		return data, nil
	}
	var m struct {
		Mappings string `json:"mappings"`
	}
	if err := json.Unmarshal(data, &m); err != nil || m.Mappings == "" {
		return data, err
	}
	quoted, _ := json.Marshal(m.Mappings) // a string always marshals
	if bytes.Count(data, quoted) != 1 {
		return nil, errMap
	}
	lines := strings.Split(m.Mappings, ";")
	for i, moves := range by {
		if i >= len(lines) || lines[i] == "" {
			continue
		}
		line, err := shiftedLine(lines[i], moves)
		if err != nil {
			return nil, err
		}
		lines[i] = line
	}
	quotedNew, _ := json.Marshal(strings.Join(lines, ";"))
	return bytes.Replace(data, quoted, quotedNew, 1), nil
}

// shiftedLine moves the segments of one line. The first figure of each is the distance to the column of the one before.
func shiftedLine(line string, moves []shift) (string, error) {
	segments := strings.Split(line, ",")
	was, is := 0, 0
	for i, s := range segments {
		delta, n := fromVLQ(s)
		if n == 0 {
			return "", errMap
		}
		was += delta
		now := was
		for _, m := range moves {
			if was >= m.column {
				now += m.by
			}
		}
		segments[i] = toVLQ(now-is) + s[n:]
		is = now
	}
	return strings.Join(segments, ","), nil
}

const base64Letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// fromVLQ reads one figure (ECMA-426 §6.2) and returns how many letters it takes, 0 for none.
func fromVLQ(s string) (value, n int) {
	for shift := 0; n < len(s) && shift < 32; shift += 5 {
		d := strings.IndexByte(base64Letters, s[n])
		if d < 0 {
			return 0, 0
		}
		n++
		value |= (d & 31) << shift
		if d&32 == 0 {
			if value&1 == 1 {
				return -(value >> 1), n
			}
			return value >> 1, n
		}
	}
	return 0, 0
}

func toVLQ(value int) string {
	v := value << 1
	if value < 0 {
		v = -value<<1 | 1
	}
	var out []byte
	for {
		d := v & 31
		if v >>= 5; v > 0 {
			d |= 32
		}
		out = append(out, base64Letters[d])
		if v == 0 {
			return string(out)
		}
	}
}
