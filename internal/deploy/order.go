package deploy

import (
	"fmt"
	"regexp"
)

var rolloutName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// Validate returns ErrBadInput for an order that no engine can carry out. Engines call it first.
func (o Order) Validate() error {
	if !rolloutName.MatchString(o.Rollout) {
		return fmt.Errorf("%w: the rollout id %q is not of [a-z0-9-], at most 40 bytes", ErrBadInput, o.Rollout)
	}
	if len(o.Release.Manifest.Services) == 0 {
		return fmt.Errorf("%w: the release has no service", ErrBadInput)
	}
	if o.Stage.Private && o.Password.Empty() {
		return Hint(fmt.Errorf("%w: the stage %s is private and has no password", ErrBadInput, o.Stage.Name), "`lotse password` makes one; access: open in lotse.yaml makes the stage open")
	}
	return nil
}
