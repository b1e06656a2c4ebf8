package deploy

import (
	"context"
	"io/fs"
	"time"
)

// Builder turns commits into releases and keeps them. It is safe for concurrent use.
type Builder interface {
	// Resolve finds the commit that rev names in the repository that holds dir. Uncommitted changes below dir are refused
	// (ErrBadInput) unless rev is given in words, since what is deployed would not be what is seen.
	Resolve(ctx context.Context, dir, rev string) (Commit, error)

	// File reads one file of the commit, beside lotse.yaml. ErrNotFound when the commit does not have it.
	File(ctx context.Context, c Commit, name string) ([]byte, error)

	// Leaks looks for keys in the files of the commit, and for values that are known to be secret; where before is the id of a commit, also in
	// what came and went between the two. It returns them in the order of their files. What does not change is not read again.
	Leaks(ctx context.Context, c Commit, before string, known []Setting) (Leaks, error)

	// Build runs the pipeline of app on the commit and returns the release, which is then in the depot, whole and verified.
	// report hears every change of every step, one call at a time; lines of live output go to output. id names the run
	// and its folder of logs; running again under the same id is fine. A failed step is ErrBuild; nothing is released then.
	Build(ctx context.Context, id string, app App, c Commit, report func(StepEvidence), output func(step, line string)) (Release, error)

	// Fit returns the release as a stage with these public values gets it: with the values filled in where Build has proven
	// that nothing else depends on them, and with the steps run again, from the commit, where it has not. A release without public
	// values is returned as it is. The same release and values give the same result, which stays in the depot as long as the release
	// does. public holds every name in StepSpec.Public of the app, in the order of names. Otherwise as Build.
	Fit(ctx context.Context, id string, app App, c Commit, r Release, public []Setting, report func(StepEvidence), output func(step, line string)) (Release, error)

	// Commits are those between what a stage serves and c, from the history of c's repository. Where before is not in it, or too
	// much lies between, that is said in Span.Unknown, and is no error.
	Commits(ctx context.Context, c Commit, before string) (Span, error)

	// Names are the paths of the files of the commit that lie in a folder, relative to that of lotse.yaml, sorted; none where it is not there.
	Names(ctx context.Context, c Commit, folder string) ([]string, error)

	// Files are the files of a release. What is read is verified.
	Files(ctx context.Context, r Release) (fs.FS, error)

	// Release loads a release. ErrNotFound when it was pruned or never was, ErrDamaged when its bytes are not what its
	// digest says.
	Release(ctx context.Context, id Digest) (Release, error)

	// Verify reads all bytes of a release and compares them with their digests.
	Verify(ctx context.Context, id Digest) error

	// Prune removes releases and cached outputs, oldest first, until the budget is met; never one in keep.
	Prune(ctx context.Context, keep []Digest) error
}

// Commit is one commit of a repository on this machine.
type Commit struct {
	Repo    string // path of the repository's git directory
	Dir     string // folder of lotse.yaml inside the repository, "." at its root
	Tree    string // folder of lotse.yaml in the work tree, where files that are not committed lie (.env)
	ID      string // full object name
	Name    string // author's
	Mail    string // author's
	Subject string // first line of the message
	Message string // whole; of Commits alone
	At      time.Time
}

// Span is what lies between two commits, each list with the newest first.
type Span struct {
	New     []Commit // that the one has and the other has not
	Gone    []Commit // the other way round: it was not made on top of the other
	Unknown bool
	Why     string // it is unknown, in a sentence without paths
}
