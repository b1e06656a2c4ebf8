package bucket

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Remove takes a release away, and deletes what no other one needs. Files that never change stay for as long as Config.Keep says after
// their release was served last: a tab that was opened then still asks for them; a later Remove, of any release, deletes them.
// Idempotent; an unknown release is fine. ErrServing for the one that is served or switched to; ErrFenced for an old fence.
func (b *Bucket) Remove(ctx context.Context, fence int64, id string) error {
	r, err := b.fence(ctx, fence)
	if err == nil && r.serves(id) {
		err = fmt.Errorf("%w: %s", ErrServing, id)
	}
	if err != nil {
		return err
	}
	v, err := b.look(ctx)
	if err != nil {
		return err
	}
	now := b.c.Now().UTC()
	if m := v.releases[id]; m != nil && m.Removed == nil {
		removed := *m
		removed.Removed = &now
		if err := b.write(ctx, removed, condition{}); err != nil {
			return err
		}
		v.releases[id] = &removed
	}
	return b.sweep(ctx, v, r, now)
}

// Admit keeps a fence: whoever comes with a smaller one after this is refused. ErrFenced for a smaller one than was kept before.
func (b *Bucket) Admit(ctx context.Context, fence int64) error {
	_, err := b.fence(ctx, fence)
	return err
}

// fence puts a greater number into serving.json, so that nobody older changes anything after this.
func (b *Bucket) fence(ctx context.Context, fence int64) (record, error) {
	for range rounds {
		r, at, err := b.record(ctx)
		if err == nil {
			err = r.allows(fence)
		}
		if err != nil {
			return record{}, err
		}
		if r.Fence == fence {
			return r, nil
		}
		r.Fence = fence
		if _, err = b.putRecord(ctx, r, at); !errors.Is(err, errLost) {
			return r, err
		}
	}
	return record{}, fmt.Errorf("%w: %s", ErrBusy, b.c.Bucket)
}

func (r record) serves(id string) bool {
	return id != "" && (r.Release == id || r.Next != nil && r.Next.Release == id)
}

// sweep deletes the files of releases that were removed and are not looked at any more, their manifests last.
func (b *Bucket) sweep(ctx context.Context, v view, r record, now time.Time) error {
	dead, needed := map[string]*manifest{}, map[string]bool{}
	for id, m := range v.releases {
		if m.Removed != nil && !r.serves(id) && now.Sub(r.Last[id]) >= b.c.Keep {
			dead[id] = m
			continue
		}
		for _, f := range m.Files {
			needed[f.key()], needed[f.Path] = true, true
		}
	}
	gone, manifests := map[string]bool{}, []string{}
	for _, m := range dead {
		manifests = append(manifests, m.key())
		for _, f := range m.Files {
			if _, there := v.objects[f.key()]; there && !needed[f.key()] {
				gone[f.key()] = true
			}
		}
	}
	if len(manifests) == 0 {
		return nil
	}
	if err := b.remove(ctx, slices.Sorted(maps.Keys(gone))); err != nil {
		return err
	}
	b.c.Log.Info("releases were removed", "releases", len(manifests), "files", len(gone))
	return b.remove(ctx, slices.Sorted(slices.Values(manifests)))
}
