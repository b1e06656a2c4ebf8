package deploy

import (
	"strings"
	"time"
)

// Digest names bytes: "sha256:" and 64 hexadecimal digits.
type Digest string

// Short is enough of the digest for a person: its first 12 digits.
func (d Digest) Short() string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex[:min(12, len(hex))]
}

// Release is what a pipeline made of one commit. Two builds of the same bytes from the same commit are the same release;
// what differs from run to run (times, log files, who) is the Record beside it.
type Release struct {
	ID       Digest   `json:"id"` // of the manifest's bytes, in which every file's digest stands
	Manifest Manifest `json:"manifest"`
	Record   Record   `json:"record"`
}

// Source names the release as it goes from stage to stage: what people know it by, on every stage. A release that was fitted to a stage
// has a digest of its own beside.
func (r Release) Source() Digest {
	if r.Manifest.Fits != nil {
		return r.Manifest.Fits.Of
	}
	return r.ID
}

// Manifest is the part of a release that its digest covers. encoding/json of it is canonical: fields in this order, slices
// sorted by name or path, no maps.
type Manifest struct {
	Format   int       `json:"format"` // 1
	App      string    `json:"app"`
	Commit   string    `json:"commit"` // full object name
	Steps    []StepKey `json:"steps"`
	Services []Service `json:"services"`
	Jobs     []Job     `json:"jobs,omitempty"`
	Public   []Public  `json:"public,omitempty"`
	Fits     *Fit      `json:"fits,omitempty"` // set in a release that Fit made of another
	Files    []File    `json:"files"`
	SBOM     Digest    `json:"sbom"` // CycloneDX, in the depot
}

// StepKey says which step, under which cache key (command, inputs, toolchain), made a part of the release.
type StepKey struct {
	Name string `json:"name"`
	Key  Digest `json:"key"`
}

// Public is one variable that a step has baked in as a placeholder.
type Public struct {
	Name string `json:"name"`
	Step string `json:"step"`
	Why  string `json:"why,omitempty"` // it cannot be filled in, so that the step is run again for every stage; empty: it can
}

// Fit says which release was fitted to which values.
type Fit struct {
	Of     Digest `json:"of"`
	Values Digest `json:"values"` // of names and values, which are public
}

// LotseFile is where the file lotse.yaml of the commit lies in every release.
const LotseFile = ".lotse/lotse.yaml"

// File is one regular file or symbolic link of a release. Links point to a path inside the release.
type File struct {
	Path       string `json:"path"`
	Digest     Digest `json:"digest,omitempty"`
	Size       int64  `json:"size,omitempty"`
	Executable bool   `json:"executable,omitempty"`
	Link       string `json:"link,omitempty"`
}

// Record is what is known about the making of a release and is not part of its bytes.
type Record struct {
	Author  string         `json:"author"` // opaque id
	Subject string         `json:"-"`      // first line of the commit's message: shown, never kept
	Made    time.Time      `json:"made"`
	Steps   []StepEvidence `json:"steps"`
}

// StepEvidence is how one step of the pipeline went.
type StepEvidence struct {
	Name     string        `json:"name"`
	State    StepState     `json:"state"`
	Duration time.Duration `json:"duration"`
	Log      string        `json:"log,omitempty"`   // where the kept log lies
	Tail     []string      `json:"tail,omitempty"`  // of a failed step, masked
	Cause    string        `json:"cause,omitempty"` // likely cause of a failure, in a sentence
	Exit     int           `json:"exit,omitempty"`
}

// StepState is where a step of a pipeline stands.
type StepState string

// A step is waiting, then running, then one of the others.
const (
	StepWaiting StepState = "waiting"
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepCached  StepState = "cached"  // not run: its outputs came from the depot
	StepFailed  StepState = "failed"  // it ended with an error, or was ended by its time limit
	StepSkipped StepState = "skipped" // something that it needs failed, or the run was cancelled
)
