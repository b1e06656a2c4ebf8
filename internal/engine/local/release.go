package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

func (e *Engine) releaseDir(d deploy.Digest) string { return e.at("releases", hexOf(d)) }

// fill makes the release's folder where it is not there, and the links to volumes in it. The depot compares every byte
// with its digest on the way and renames the whole, so a folder that is there is whole.
func (e *Engine) fill(ctx context.Context, r deploy.Release) error {
	unlock, err := e.lock(ctx, lockOfRelease(r.ID))
	if err != nil {
		return err
	}
	defer unlock()
	return e.fillHeld(ctx, r)
}

func lockOfRelease(d deploy.Digest) string { return ".release-" + hexOf(d) }

// fillHeld is fill under its lock.
func (e *Engine) fillHeld(ctx context.Context, r deploy.Release) error {
	dir := e.releaseDir(r.ID)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		tree := make(depot.Tree, 0, len(r.Manifest.Files))
		for _, f := range r.Manifest.Files {
			tree = append(tree, depot.Entry{Path: f.Path, Digest: string(f.Digest), Size: f.Size, Executable: f.Executable, Link: f.Link})
		}
		if err := e.Depot.Fill(ctx, tree, dir, -1, -1); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	var mounts []deploy.VolumeMount
	for _, s := range r.Manifest.Services {
		mounts = append(mounts, s.Volumes...)
	}
	for _, j := range r.Manifest.Jobs {
		mounts = append(mounts, j.Volumes...)
	}
	return e.mount(dir, mounts)
}

// mount puts links to the stage's volumes into a release's folder.
func (e *Engine) mount(dir string, mounts []deploy.VolumeMount) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range mounts {
		at := path.Clean(m.Path)
		if !filepath.IsLocal(at) || at == "." || m.Volume == "" || m.Volume != filepath.Base(m.Volume) || !filepath.IsLocal(m.Volume) {
			return fmt.Errorf("%w: the volume %q cannot be put at %q", deploy.ErrBadInput, m.Volume, m.Path)
		}
		target := e.at("volumes", m.Volume)
		if err := e.private(target); err != nil {
			return err
		}
		if err := link(root, at, target); err != nil {
			return fmt.Errorf("volume %s: %w", m.Volume, err)
		}
	}
	return nil
}

func link(root *os.Root, at, target string) error {
	if there, err := root.Readlink(at); err == nil && there == target {
		return nil
	}
	if info, err := root.Lstat(at); err == nil && (!info.IsDir() || root.Remove(at) != nil) { // an empty folder makes way
		return deploy.Hint(fmt.Errorf("%w: the release has something at %s already", deploy.ErrBadInput, at), "mount the volume at a path of its own")
	}
	if err := root.MkdirAll(path.Dir(at), 0o755); err != nil {
		return err
	}
	return root.Symlink(target, at)
}

// private makes a folder that belongs to the stage's user alone.
func (e *Engine) private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if e.user == nil {
		return nil
	}
	return os.Lchown(dir, int(e.user.UID), int(e.user.GID))
}

// dropRelease removes the release's folder when no rollout needs it, nor a tab that is still open. A note that names it is written before it is filled.
func (e *Engine) dropRelease(ctx context.Context, d deploy.Digest) error {
	unlock, err := e.lock(ctx, lockOfRelease(d))
	if err != nil {
		return err
	}
	defer unlock()
	return e.dropHeld(d)
}

// dropHeld is dropRelease under its lock.
func (e *Engine) dropHeld(d deploy.Digest) error {
	notes, err := e.notes()
	if err != nil || slices.ContainsFunc(notes, func(n *note) bool { return n.Release == d }) {
		return err
	}
	if kept, err := e.keptFor(d); err != nil || kept {
		return err
	}
	if _, err := os.Lstat(e.releaseDir(d)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// Renamed first: a folder that is half removed must not look like a release.
	aside := e.at("releases", ".gone-"+hexOf(d))
	if err := errors.Join(os.RemoveAll(aside), os.Rename(e.releaseDir(d), aside)); err != nil {
		return err
	}
	return os.RemoveAll(aside)
}
