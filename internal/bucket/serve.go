package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Target is what is to be served, by whom.
type Target struct {
	Release string // id of Put; empty: nothing is served any more
	Rollout string
	Fence   int64
}

// Serving is what is served.
type Serving struct {
	Release string // the last that was switched to wholly; empty: none
	Rollout string
	Fence   int64                // of who changed something last
	Since   time.Time            // of the switch
	Next    string               // a switch to this one has begun and not ended; files of both may be served
	Between bool                 // such a switch is open; Next is empty where nothing is to be served
	Last    map[string]time.Time // when releases that are not served now were served last, for as long as Config.Keep
}

// record is serving.json.
type record struct {
	Format  int                  `json:"format"`
	Release string               `json:"release,omitempty"`
	Rollout string               `json:"rollout,omitempty"`
	Fence   int64                `json:"fence"`
	Since   time.Time            `json:"since,omitzero"`
	Next    *next                `json:"next,omitempty"`  // a switch that has begun
	Stale   []string             `json:"stale,omitempty"` // served paths that changed and that CloudFront was not told of yet, for certain
	Last    map[string]time.Time `json:"last,omitempty"`  // when releases were served last that are not served now
}

type next struct {
	Release string `json:"release,omitempty"`
	Rollout string `json:"rollout,omitempty"`
}

func (r record) allows(fence int64) error {
	if fence < r.Fence {
		return fmt.Errorf("%w: it has the number %d, and this is %d", ErrFenced, r.Fence, fence)
	}
	return nil
}

// record reads serving.json; the zero record and no ETag where there is none.
func (b *Bucket) record(ctx context.Context) (record, condition, error) {
	data, etag, err := b.get(ctx, servingKey)
	if errors.Is(err, errAbsent) {
		return record{}, condition{absent: true}, nil
	}
	if err != nil {
		return record{}, condition{}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil || r.Format > format {
		return record{}, condition{}, &hinted{fmt.Errorf("%w: %s", ErrDamaged, servingKey), "it was written by a newer version of Lotse, or by hand; put an older version of it back"}
	}
	return r, condition{etag: etag}, nil
}

func (b *Bucket) putRecord(ctx context.Context, r record, when condition) (condition, error) {
	r.Format = format
	data, err := json.Marshal(r)
	if err != nil {
		return condition{}, err
	}
	etag, err := b.put(ctx, servingKey, data, when)
	return condition{etag: etag}, err
}

// Serving says what is served.
func (b *Bucket) Serving(ctx context.Context) (Serving, error) {
	r, _, err := b.record(ctx)
	s := Serving{Release: r.Release, Rollout: r.Rollout, Fence: r.Fence, Since: r.Since, Between: r.Next != nil, Last: r.Last}
	if r.Next != nil {
		s.Next = r.Next.Release
	}
	return s, err
}

// Drift returns the entry files that are not as the release has them that is served: somebody has changed them by hand, or an older
// controller that was held up within a copy. Serve of the same release mends them.
func (b *Bucket) Drift(ctx context.Context) ([]string, error) {
	r, _, err := b.record(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.plan(ctx, r.Release)
	return slices.Sorted(slices.Values(p.changed())), err
}

// rounds is how often a switch looks again when somebody else has changed something meanwhile.
const rounds = 8

// Serve switches what is served to a release that Put has put, forward or back, tells CloudFront exactly what has changed, waits until
// it has taken that in, and looks at the result. Idempotent; a call after one that was interrupted goes on. ErrFenced for an old
// fence; ErrUnknown and ErrIncomplete for a release that is not (wholly) there: what is served is then as it was.
func (b *Bucket) Serve(ctx context.Context, to Target) error {
	var err error
	for range rounds {
		if err = b.serve(ctx, to); !errors.Is(err, errLost) {
			return err
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrBusy, b.c.Bucket, err)
}

func (b *Bucket) serve(ctx context.Context, to Target) error {
	r, at, err := b.record(ctx)
	if err != nil {
		return err
	}
	if err := r.allows(to.Fence); err != nil {
		return err
	}
	p, err := b.plan(ctx, to.Release)
	if err != nil {
		return err
	}
	claimed, at, err := b.claim(ctx, r, at, to, p.changed())
	if err != nil {
		return err
	}
	if err := b.carryOut(ctx, p, at); err != nil {
		return err
	}
	if len(p.changed()) > 0 {
		left, err := b.plan(ctx, to.Release)
		if err != nil {
			return err
		}
		if len(left.changed()) > 0 {
			return fmt.Errorf("%w: %d files are not as they were left", errLost, len(left.changed()))
		}
	}
	if err := b.invalidate(ctx, at.etag, claimed.Stale); err != nil {
		return err
	}
	return b.conclude(ctx, claimed, at, to)
}

// claim says in serving.json that a switch begins, and what CloudFront is to be told, before anything is changed.
func (b *Bucket) claim(ctx context.Context, r record, at condition, to Target, changed []string) (record, condition, error) {
	n := next{to.Release, to.Rollout}
	stale := slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Stale, changed))))
	if r.Fence == to.Fence && r.Next == nil && r.Release == to.Release && r.Rollout == to.Rollout && len(stale) == 0 && !at.absent {
		return r, at, nil // all of it is so
	}
	if r.Fence == to.Fence && r.Next != nil && *r.Next == n && slices.Equal(stale, r.Stale) {
		return r, at, nil // begun before
	}
	if r.Next != nil && r.Next.Release != to.Release {
		r.served(r.Next.Release, b.c.Now()) // pages of it may have been seen
	}
	r.Fence, r.Next, r.Stale = to.Fence, &n, stale
	at, err := b.putRecord(ctx, r, at)
	return r, at, err
}

// served notes until when a release was served.
func (r *record) served(release string, until time.Time) {
	if release == "" {
		return
	}
	r.Last = maps.Clone(r.Last)
	if r.Last == nil {
		r.Last = map[string]time.Time{}
	}
	r.Last[release] = until.UTC()
}

func (b *Bucket) conclude(ctx context.Context, r record, at condition, to Target) error {
	if r.Next == nil {
		return nil
	}
	if r.Release != to.Release {
		now := b.c.Now()
		r.served(r.Release, now)
		r.Since = now.UTC()
		delete(r.Last, to.Release)
		maps.DeleteFunc(r.Last, func(_ string, last time.Time) bool { return now.Sub(last) > b.c.Keep })
	}
	r.Release, r.Rollout, r.Next, r.Stale = to.Release, to.Rollout, nil, nil
	_, err := b.putRecord(ctx, r, at)
	if err == nil {
		b.c.Log.Info("a release is served", "release", to.Release, "rollout", to.Rollout)
	}
	return err
}

// plan is what a switch has to do.
type plan struct {
	copies  []copying
	deletes []string
}

type copying struct {
	File
	when condition // the file that is served is as it was seen
}

func (p plan) changed() []string {
	paths := slices.Clone(p.deletes)
	for _, c := range p.copies {
		paths = append(paths, c.Path)
	}
	return paths
}

// plan compares what is served with a release. It changes nothing.
func (b *Bucket) plan(ctx context.Context, id string) (plan, error) {
	v, err := b.look(ctx)
	if err != nil {
		return plan{}, err
	}
	m := &manifest{}
	if id != "" {
		if m, err = v.whole(id); err != nil {
			return plan{}, err
		}
	}
	var p plan
	if p.copies, err = b.differing(ctx, v, m); err != nil {
		return plan{}, err
	}
	p.deletes = v.surplus(m)
	return p, nil
}

// whole finds a release and looks whether every file of it is there.
func (v view) whole(id string) (*manifest, error) {
	m := v.releases[id]
	if m == nil || m.Removed != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	missing := v.missing(m)
	if len(missing) > 0 || !m.Whole {
		return nil, fmt.Errorf("%w: %s misses %d of %d files %s", ErrIncomplete, id, len(missing), len(m.Files), strings.Join(missing[:min(3, len(missing))], ", "))
	}
	return m, nil
}

// differing returns the entry files of a release that are not served as they are.
func (b *Bucket) differing(ctx context.Context, v view, m *manifest) ([]copying, error) {
	otherwise := v.otherwise(m)
	var entries []File
	for _, f := range m.Files {
		if !f.Immutable {
			entries = append(entries, f)
		}
	}
	same := make([]bool, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.c.Parallel)
	for i, f := range entries {
		served, there := v.objects[f.Path]
		if !there || served.size != f.Size {
			continue
		}
		if served.etag == v.objects[f.key()].etag && !otherwise[f.Path] {
			same[i] = true // the ETag of what was put at once is of its bytes, unless a KMS key encrypts it
			continue
		}
		group.Go(func() (err error) {
			same[i], err = b.holds(ctx, f.Path, f, true)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []copying
	for i, f := range entries {
		if !same[i] {
			served, there := v.objects[f.Path]
			found = append(found, copying{f, only(served, there)})
		}
	}
	return found, nil
}

// otherwise are the paths that another release serves with other headers: there the same bytes are not enough.
func (v view) otherwise(m *manifest) map[string]bool {
	mine := map[string]File{}
	for _, f := range m.Files {
		mine[f.Path] = f
	}
	found := map[string]bool{}
	for _, other := range v.others(m.ID) {
		for _, f := range other.Files {
			if my := mine[f.Path]; my.Immutable != f.Immutable || my.Type != f.Type {
				found[f.Path] = true
			}
		}
	}
	return found
}

// surplus are the entry files of other releases that are served and that this one does not have. What nobody here has put is left.
func (v view) surplus(m *manifest) []string {
	keep := map[string]bool{}
	for _, f := range m.Files {
		keep[f.Path] = true
	}
	for _, other := range v.releases {
		for _, f := range other.Files {
			keep[f.Path] = keep[f.Path] || f.Immutable
		}
	}
	found := map[string]bool{}
	for _, other := range v.releases {
		for _, f := range other.Files {
			if _, there := v.objects[f.Path]; there && !keep[f.Path] {
				found[f.Path] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b string) int { return -byRank(a, b) })
}

// rank is when a file is switched. A page needs the files beside it, and a service worker fetches pages as soon as it is seen.
func rank(name string) int {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(base, ".js") && (strings.HasPrefix(base, "sw") || strings.Contains(base, "service-worker") || strings.Contains(base, "serviceworker") ||
		strings.Contains(base, "-sw.") || base == "ngsw-worker.js") || base == "ngsw.json":
		return 3
	case name == "index.html":
		return 2
	case strings.HasSuffix(base, ".html") || strings.HasSuffix(base, ".htm"):
		return 1
	}
	return 0
}

func byRank(a, b string) int {
	if c := rank(a) - rank(b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// carryOut copies in the order of ranks, then deletes. Before each rank it looks whether the switch is still this one's.
func (b *Bucket) carryOut(ctx context.Context, p plan, at condition) error {
	slices.SortFunc(p.copies, func(a, b copying) int { return byRank(a.Path, b.Path) })
	for rest := p.copies; len(rest) > 0; {
		n := 1
		for n < len(rest) && rank(rest[n].Path) == rank(rest[0].Path) {
			n++
		}
		if err := b.still(ctx, at); err != nil {
			return err
		}
		if err := b.copyAll(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(p.deletes) == 0 {
		return nil
	}
	if err := b.still(ctx, at); err != nil {
		return err
	}
	return b.remove(ctx, p.deletes)
}

func (b *Bucket) still(ctx context.Context, at condition) error {
	if _, now, err := b.record(ctx); err != nil || now != at {
		return errors.Join(err, errLost)
	}
	return nil
}

func (b *Bucket) copyAll(ctx context.Context, files []copying) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.c.Parallel)
	for _, f := range files {
		group.Go(func() error { return b.copy(ctx, f.File, f.when) })
	}
	return group.Wait()
}
