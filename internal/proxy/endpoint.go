package proxy

import "strings"

const (
	placeholder = "{id}"
	maxSegments = 8
	maxWord     = 32 // letters of a segment that is still a word
	maxDigits   = 2  // "v2", "oauth2", "404" is an id
	maxChanges  = 3  // "getUserById"
)

// endpoint turns a path into the pattern that the access log shows. A segment stays only when it looks like a word that
// a programmer wrote: letters, marks, few digits. Numbers, uuids, hashes, mail addresses, anything escaped become {id}.
func endpoint(path string) string { return string(appendEndpoint(nil, path)) }

func appendEndpoint(b []byte, path string) []byte {
	segments := 0
	for rest := strings.TrimPrefix(path, "/"); ; segments++ {
		segment, tail, more := strings.Cut(rest, "/")
		if segments == maxSegments {
			return append(b, "/…"...)
		}
		b = appendPattern(append(b, '/'), segment)
		if !more {
			return b
		}
		rest = tail
	}
}

func appendPattern(b []byte, segment string) []byte {
	if isWord(segment) || segment == ours {
		return append(b, segment...)
	}
	dot := strings.LastIndexByte(segment, '.')
	if dot < 0 || !isExtension(segment[dot+1:]) || strings.ContainsFunc(segment, strange) {
		return append(b, placeholder...)
	}
	if name := segment[:dot]; isWord(name) && name != "" {
		return append(b, segment...)
	}
	return append(append(b, placeholder...), segment[dot:]...)
}

// strange marks a segment of which not even the end is shown: it can be a mail address.
func strange(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

// isWord counts digits, and changes of kind (small to capital, letter to digit), of which random tokens are full.
func isWord(s string) bool {
	digits, changes := 0, 0
	kind := byte(0)
	for i := range len(s) {
		was := kind
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			kind = 'a'
		case c >= 'A' && c <= 'Z':
			kind = 'A'
		case c >= '0' && c <= '9':
			kind = '0'
			digits++
		case c == '-' || c == '_':
			kind = 0
		default:
			return false
		}
		if was != 0 && kind != 0 && was != kind && !(was == 'A' && kind == 'a') {
			changes++
		}
	}
	return len(s) <= maxWord && digits <= maxDigits && (digits < len(s) || digits == 0) && changes <= maxChanges
}

// isExtension knows extensions by their shape: short, lower case, with a letter.
func isExtension(s string) bool {
	letters := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			letters++
		case c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return letters > 0 && len(s) <= 5
}
