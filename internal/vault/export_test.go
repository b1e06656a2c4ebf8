package vault

import "errors"

// ErrKilled is what a vault says from the moment at which a test has ended it.
var ErrKilled = errors.New("killed")

// Killed is the vault as a process that ends at the nth moment before or after it changes a file, and changes nothing from then on. It
// returns how many there were.
func (v *Vault) Killed(at int) (*Vault, *int) {
	with, passed := *v, new(int)
	with.moment = func() error {
		if *passed++; at > 0 && *passed >= at {
			return ErrKilled
		}
		return nil
	}
	return &with, passed
}
