package deploy

import (
	"fmt"
	"strings"
	"time"
)

// Judge decides whether a release does worse than the one before it in one span of a rollout: a step of a canary, or the watch at its
// end. internal/watch says how. One goroutine uses it at a time.
type Judge interface {
	// Look judges what was counted since the span began, beside what the release before did in the same minutes, or did in its last
	// ones. It may be asked as often as one likes: that an equal release is condemned in a whole rollout, however often it is looked at
	// and however many endpoints it has, stays under 1 in 100. Nothing found means neither that all is well nor that there was enough.
	Look(old, young []Sample) []Worse

	// Last is Look at the end of a span: few requests are enough then, if all they say is no chance.
	Last(old, young []Sample) []Worse

	// Alone judges what Lotse itself asked the release, by the limits as they stand.
	Alone(asked []Sample) []Worse
}

// Limits are what no release of a stage may go beyond, and how many requests the watch wants.
type Limits struct {
	Errors   float64       // percent of a service's answers; 0: no limit
	P95      time.Duration // of a service's latency; 0: no limit
	Requests int           // of clients, for each service and span; below it Lotse makes requests itself
}

// WorseIn is what of a release is worse.
type WorseIn string

// What can be worse.
const (
	WorseErrors  WorseIn = "errors"
	WorseLatency WorseIn = "p95"
)

// Worse is one place where a release does worse, with the figures.
type Worse struct {
	Service  string  `json:"service"`
	Method   string  `json:"method,omitempty"`
	Endpoint string  `json:"endpoint,omitempty"` // empty: rare ones together, or, beyond a limit, all of the service
	In       WorseIn `json:"in"`
	Is       string  `json:"is"`
	Was      string  `json:"was,omitempty"`    // of the release before
	Limit    string  `json:"limit,omitempty"`  // in place of Was
	Requests uint64  `json:"requests"`         // that Is was found by
	Before   uint64  `json:"before,omitempty"` // that Was was found by
}

// String goes on from "the release is worse at".
func (w Worse) String() string {
	at := w.Service
	switch {
	case w.Endpoint != "":
		at += ": " + w.Method + " " + w.Endpoint
	case w.Limit == "":
		at += ": its rare endpoints together"
	}
	if w.Limit != "" {
		return fmt.Sprintf("%s: %s %s in %d requests, over the limit of %s", at, w.In, w.Is, w.Requests, w.Limit)
	}
	return fmt.Sprintf("%s: %s %s in %d requests, %s in %d of the release before", at, w.In, w.Is, w.Requests, w.Was, w.Before)
}

// RegressionError says where a release does worse. It is ErrRegression.
type RegressionError struct {
	Worse []Worse // at least one
	Span  string  // at 5 % of the traffic, after the shift
}

func (e *RegressionError) Error() string {
	var all []string
	for _, w := range e.Worse {
		all = append(all, w.String())
	}
	return fmt.Sprintf("%s %s: %s", ErrRegression, e.Span, strings.Join(all, "; "))
}

// Is makes every RegressionError an ErrRegression.
func (e *RegressionError) Is(target error) bool { return target == ErrRegression }

// Hint says what became of the release.
func (e *RegressionError) Hint() string {
	return "the release is marked as bad, and no stage takes it any more; deploy a commit that puts it right"
}
