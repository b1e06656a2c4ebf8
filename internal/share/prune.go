package share

import (
	"context"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	// fresh is how long nothing is pruned after it was written: a release of which the ledger does not know yet may be among it.
	fresh = 24 * time.Hour

	// lastMoment is what a controller that ends has left to finish a Prune.
	lastMoment = 20 * time.Second
)

// Prune implements deploy.Builder. The bucket keeps what keep names, what was made of it for stages, and what is less than a day old. What
// cannot be done before ctx ends is finished by Share.Close.
func (b *Builder) Prune(ctx context.Context, keep []deploy.Digest) error {
	b.mu.Lock()
	b.keep, b.open = slices.Clone(keep), true
	b.mu.Unlock()
	if err := b.Works.Prune(ctx, keep); err != nil {
		return err
	}
	return b.pruneBucket(ctx)
}

// finish does what a Prune has left, for some seconds.
func (b *Builder) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastMoment)
	defer cancel()
	if err := b.pruneBucket(ctx); err != nil {
		b.share.Log.Warn("old releases in the bucket were not pruned; the next controller does it", "error", err)
	}
}

func (b *Builder) pruneBucket(ctx context.Context) error {
	return b.share.within(ctx, func(ctx context.Context) error {
		b.bucket.Lock()
		defer b.bucket.Unlock()
		b.mu.Lock()
		keep, open := b.keep, b.open
		b.mu.Unlock()
		if !open {
			return nil
		}
		if err := b.sweep(ctx, keep); err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open = !slices.Equal(keep, b.keep) // another may have come meanwhile
		return nil
	})
}

// sweep removes releases that nobody keeps, then blobs that no release needs. Killed in between, it has removed whole releases, and the
// next one goes on.
func (b *Builder) sweep(ctx context.Context, keep []deploy.Digest) error {
	all, err := b.share.list(ctx, releasesDir, "")
	if err != nil {
		return err
	}
	kept := map[deploy.Digest]bool{}
	for _, id := range keep {
		kept[id] = true
	}
	for _, o := range all { // what was fitted keeps its source, and that all that was fitted
		if source, id := ids(o.key); kept[id] {
			kept[source] = true
		}
	}
	now := b.share.Now()
	var gone []string
	needed := map[string]bool{}
	for _, o := range all {
		source, id := ids(o.key)
		if !kept[source] && now.Sub(o.written) > fresh {
			gone = append(gone, o.key)
			continue
		}
		p, err := b.parcel(ctx, source, id)
		if err != nil {
			return err // what it needs is not known: nothing may be removed
		}
		for _, n := range p.needs() {
			needed[n.key()] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := b.discard(ctx, gone); err != nil {
		return err
	}
	return b.sweepBlobs(ctx, needed, len(gone))
}

func (b *Builder) sweepBlobs(ctx context.Context, needed map[string]bool, releases int) error {
	all, err := b.share.list(ctx, blobsDir, "")
	if err != nil {
		return err
	}
	now := b.share.Now()
	var gone []string
	for _, o := range all {
		if !needed[o.key] && now.Sub(o.written) > fresh {
			gone = append(gone, o.key)
		}
	}
	b.blobs = nil
	b.share.Log.Info("pruned the shared releases", "releases", releases, "blobs", len(gone))
	return b.discard(ctx, gone)
}

// discard removes objects while the lock can be relied on.
func (b *Builder) discard(ctx context.Context, keys []string) error {
	for some := range slices.Chunk(keys, 1000) {
		if err := b.share.relied(); err != nil {
			return err
		}
		if err := b.share.remove(ctx, some); err != nil {
			return err
		}
	}
	return nil
}
