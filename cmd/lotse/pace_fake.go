//go:build fakepace

package main

import (
	"time"

	"github.com/lotse-eu/lotse/internal/engine/aws"
)

// pace is how long things take on the fake of AWS in the tests. Nobody is given a binary with this tag.
func pace() aws.Timing {
	return aws.Timing{Poll: 300 * time.Millisecond, Launch: time.Minute, Gone: time.Minute, Settle: 30 * time.Second, Switch: 200 * time.Millisecond,
		DNS: 500 * time.Millisecond, Command: 10 * time.Second, Undo: 30 * time.Second, Quiet: 10 * time.Second}
}
