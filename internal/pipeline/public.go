package pipeline

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Public values are variables that a step bakes into what it makes. A step with some is run with placeholders in their place, and
// again with others, which are chosen to be unlike in everything that a program may ask: length, letters, case, first and last
// letter, whether it is a number, an address, or nothing. Where all outputs are the same but for the placeholders, the values of
// a stage may be put in their place.
type guise int

const (
	asAddress guise = iota // what is released: most programs that look at a value while they build take an address
	asNumber
	asNothing
)

// placeholder is the same for a name always, so that a step that did not change is not run again.
func placeholder(name string, as guise) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	sum := sha256.Sum256([]byte("lotse public value\x00" + name))
	switch as {
	case asAddress:
		word := make([]byte, 20)
		for i := range word {
			word[i] = letters[int(sum[i])%len(letters)]
		}
		return "https://public.invalid/Lotse" + string(word) + "/" // RFC 6761 §6.4: nobody answers there
	case asNumber:
		word := make([]byte, 26)
		for i := range word {
			word[i] = '0' + sum[i]%10
		}
		return "7" + string(word)
	case asNothing:
	}
	return ""
}

// values says what a step gets for a variable.
type values func(s *step, name string) string

func placeholders(_ *step, name string) string { return placeholder(name, asAddress) }

// bake gives the steps their public variables.
func bake(steps []*step, v values) {
	for _, s := range steps {
		s.baked = nil
		names := slices.Clone(s.Public)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			s.baked = append(s.baked, name+"="+v(s, name))
		}
	}
}

// publicNames are the names of all public variables, sorted.
func publicNames(steps []*step) []string {
	var all []string
	for _, s := range steps {
		all = append(all, s.Public...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// touched reports whether what the step makes may depend on a public value.
func (s *step) touched() bool {
	return len(s.Public) > 0 || slices.ContainsFunc(s.all, func(n *step) bool { return len(n.Public) > 0 })
}

// listed is "a", "a and b", "a, b and c".
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
