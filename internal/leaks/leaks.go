// Package leaks knows what a key looks like in a file.
//
// The rules are those of gitleaks 8.30.1 (gitleaks.toml, unchanged; Copyright (c) 2019 Zachary Rice, MIT License, LICENSE.gitleaks):
// 222 patterns of Go's regexp, each with words of which one must be there, a least entropy, and what it allows. gitleaks itself as a
// library brings 62 modules and 7 MB with it, among them readers of fifteen kinds of archives; what reads files here is the engine below.
//
// It differs from gitleaks in three things. A pattern is tried around the words of its rule alone, as far as a match can reach, and not
// on the whole file. A comment in a file allows nothing: lotse.yaml does, by rule, file and reason. And nothing is decoded first.
package leaks

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

//go:embed gitleaks.toml
var gitleaks []byte

// Finding is a key in a file. It holds nothing of the key.
type Finding struct {
	Rule   string
	Offset int // in bytes, of what the rule takes for the key
	Line   int // from 1
	Column int // from 1, in bytes
}

// Scanner looks for keys. It is immutable and safe for concurrent use.
type Scanner struct {
	rules   []*rule
	allowed []*allowlist // whatever the rule
	words   *index
	version string
}

// New reads the rules.
func New() (*Scanner, error) {
	var file rulesFile
	if err := toml.Unmarshal(gitleaks, &file); err != nil {
		return nil, fmt.Errorf("the rules for keys cannot be read: %w", err)
	}
	s := &Scanner{words: newIndex()}
	global, err := newAllowlist(file.Allowlist)
	if err != nil {
		return nil, err
	}
	s.allowed = []*allowlist{global}
	for _, r := range file.Rules {
		one, err := newRule(r)
		if err != nil {
			return nil, fmt.Errorf("the rule %s: %w", r.ID, err)
		}
		for _, word := range r.Keywords {
			s.words.add(strings.ToLower(word), len(s.rules))
		}
		s.rules = append(s.rules, one)
	}
	sum := sha256.Sum256(gitleaks)
	s.version = hex.EncodeToString(sum[:8])
	return s, nil
}

// Rules are the names of all rules, sorted.
func (s *Scanner) Rules() (names []string) {
	for _, r := range s.rules {
		names = append(names, r.id)
	}
	slices.Sort(names)
	return names
}

// Binary reports whether data is no text, as git decides it: a NUL in the first 8,000 bytes.
func Binary(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0 }

// Scan looks for keys in a file, and returns them in the order of the file. path is relative and slash-separated; some rules are for
// some files alone, and some files, such as lock files and pictures, are left out.
func (s *Scanner) Scan(path string, data []byte) []Finding {
	if s.allowed[0].path(path) {
		return nil
	}
	var found []match
	for i, r := range s.rules {
		if r.pattern == nil && r.path.MatchString(path) {
			found = append(found, match{rule: i})
		}
	}
	if !Binary(data) {
		for i, spots := range s.words.find(data) {
			found = append(found, s.try(i, path, data, spots)...)
		}
	}
	return s.findings(found, data)
}

// try tries one rule around the spots where its words are.
func (s *Scanner) try(i int, path string, data []byte, spots []int) (found []match) {
	r := s.rules[i]
	if r.path != nil && !r.path.MatchString(path) || slices.ContainsFunc(r.allowed, func(a *allowlist) bool { return !a.all && a.path(path) }) {
		return nil
	}
	for _, w := range windows(r.likely(data, spots), r.reach, len(data)) {
		for _, m := range r.matches(data, w) {
			m.rule = i
			if m.entropy() <= r.entropy && r.entropy > 0 {
				continue
			}
			allows := func(a *allowlist) bool { return a.allows(path, m) }
			if !slices.ContainsFunc(s.allowed, allows) && !slices.ContainsFunc(r.allowed, allows) {
				found = append(found, m)
			}
		}
	}
	return found
}

// findings leaves out what a generic rule says of a key that another one knows by name.
func (s *Scanner) findings(found []match, data []byte) (all []Finding) {
	slices.SortStableFunc(found, func(a, b match) int { return a.from - b.from })
	for _, m := range found {
		known := func(o match) bool {
			return o.rule != m.rule && !s.rules[o.rule].generic() && o.from < m.to && m.from < o.to
		}
		if s.rules[m.rule].generic() && slices.ContainsFunc(found, known) {
			continue
		}
		all = append(all, at(s.rules[m.rule].id, data, m.from))
	}
	return slices.Compact(all)
}

// At is where offset is in data.
func At(data []byte, offset int) (line, column int) {
	before := data[:offset]
	return bytes.Count(before, []byte("\n")) + 1, offset - bytes.LastIndexByte(before, '\n')
}

func at(rule string, data []byte, offset int) Finding {
	line, column := At(data, offset)
	return Finding{rule, offset, line, column}
}
