package deploy

import (
	"cmp"
	"fmt"
	"slices"
)

// Shares returns what every rollout of a stage gets when rollout is given share percent, as Engine.Shift says it: what
// remains goes to those who have traffic now, in their proportion, or to last, who had it before, when nobody else has any. It
// changes no argument. The result sums to 100, or to 0 where share is 0 and nobody can take the rest. A share that cannot be
// given, because it is no percentage or because nobody can take the rest, is ErrUnsupported.
func Shares(now map[string]int, last, rollout string, share int) (map[string]int, error) {
	if share < 0 || share > 100 {
		return nil, fmt.Errorf("%w: a share of %d %%", ErrUnsupported, share)
	}
	others := map[string]int{}
	sum := 0
	for id, s := range now {
		if id != rollout && s > 0 {
			others[id] = s
			sum += s
		}
	}
	if sum == 0 && last != "" && last != rollout {
		others[last], sum = 1, 1
	}
	next := map[string]int{rollout: share}
	switch {
	case share == 100 || sum == 0 && share == 0:
		return next, nil
	case sum == 0:
		return nil, Hint(fmt.Errorf("%w: a share of %d %%: nothing else runs that could take the rest", ErrUnsupported, share), "give it 100 %")
	}
	divide(next, others, sum, 100-share)
	return next, nil
}

// divide adds to next the shares of others scaled to rest, whole percents by the largest remainder, so that they sum to rest.
func divide(next, others map[string]int, sum, rest int) {
	ids := make([]string, 0, len(others))
	given := 0
	for id, s := range others {
		ids = append(ids, id)
		next[id] = s * rest / sum
		given += next[id]
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(cmp.Compare(others[b]*rest%sum, others[a]*rest%sum), cmp.Compare(a, b))
	})
	for i := range rest - given {
		next[ids[i]]++
	}
}
