package leaks

// index finds many words in one pass.
type index struct {
	first [1 << 16][]word // by the first two bytes, small
}

type word struct {
	text string // small letters, at least two bytes
	rule int
}

func newIndex() *index { return &index{} }

func (x *index) add(text string, rule int) {
	pair := int(text[0])<<8 | int(text[1])
	x.first[pair] = append(x.first[pair], word{text, rule})
}

// find returns where words are, whatever the case of their letters, by rule.
func (x *index) find(data []byte) map[int][]int {
	found := map[int][]int{}
	small := make([]byte, len(data))
	for i, c := range data {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		small[i] = c
	}
	for i := 0; i+1 < len(small); i++ {
		for _, w := range x.first[int(small[i])<<8|int(small[i+1])] {
			if len(small)-i >= len(w.text) && string(small[i:i+len(w.text)]) == w.text {
				found[w.rule] = append(found[w.rule], i)
			}
		}
	}
	return found
}

// window is a part of a file.
type window struct{ from, to int }

// margin is more than any word and what a pattern looks at beyond a match, so that nothing ends at the border of a window by chance.
const margin = 64

// windows are the parts of a file of this size that a match with a word at one of the spots can reach. Spots grow.
func windows(spots []int, reach, size int) (all []window) {
	for _, at := range spots {
		w := window{max(0, at-reach-margin), min(size, at+reach+margin)}
		if last := len(all) - 1; last >= 0 && all[last].to >= w.from {
			all[last].to = w.to
			continue
		}
		all = append(all, w)
	}
	return all
}
