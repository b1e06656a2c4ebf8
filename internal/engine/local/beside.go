package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Where a second set of a stage's data is: databases in the same cluster, and folders below volumes/. No volume begins with a dot.
const (
	besideName, keptName     = "beside", "before"
	besideFolder, keptFolder = ".beside-", ".before-"
)

// twins are the databases of a set: what the stage works with, what stands beside it, what is kept.
type twins struct {
	postgres.Twins
	live, next, kept string
	address          secret.Text // of live
}

// twinsOf finds them; nil where the stage has no database.
func (e *Engine) twinsOf(ctx context.Context, set deploy.DataSet) (*twins, error) {
	if set.URL.Empty() {
		return nil, nil
	}
	t := &twins{address: set.URL}
	if set.Database.Own() {
		c, err := e.cluster(ctx, set.Database)
		if err != nil {
			return nil, err
		}
		t.live = DatabaseName(e.App)
		t.Twins = c.Twins(t.live)
	} else {
		var err error
		if t.Twins, t.live, err = postgres.TwinsAt(set.URL); err != nil {
			return nil, err
		}
	}
	t.next, t.kept = postgres.TwinName(t.live, besideName, set.ID), postgres.TwinName(t.live, keptName, set.ID)
	return t, nil
}

// Volumes implements deploy.Beside.
func (e *Engine) Volumes(_ context.Context, names []string) (map[string]string, error) {
	there := map[string]string{}
	for _, name := range names {
		_, err := os.Stat(e.at("volumes", name))
		if err == nil {
			there[name] = e.at("volumes", name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, e.failed("volumes", err)
		}
	}
	return there, nil
}

// Prepare implements deploy.Beside.
func (e *Engine) Prepare(ctx context.Context, fence deploy.Fence, set deploy.DataSet) (deploy.Data, error) {
	to, err := e.prepare(ctx, fence, set)
	return to, e.failed("prepare a restore", err)
}

func (e *Engine) prepare(ctx context.Context, fence deploy.Fence, set deploy.DataSet) (to deploy.Data, err error) {
	if err := e.discard(ctx, fence, set); err != nil {
		return to, err
	}
	t, err := e.twinsOf(ctx, set)
	if err != nil {
		return to, err
	}
	if t != nil {
		to.Database = t.next
		if to.URL, err = postgres.AddressOf(t.address, t.next); err != nil {
			return to, err
		}
		if err := t.Make(ctx, t.next); err != nil {
			return to, err
		}
	}
	to.Volumes = map[string]string{}
	for _, name := range set.Volumes {
		to.Volumes[name] = e.at("volumes", besideFolder+set.ID, name)
		if err := os.MkdirAll(filepath.Dir(to.Volumes[name]), 0o711); err != nil {
			return to, err
		}
		if err := e.private(to.Volumes[name]); err != nil {
			return to, err
		}
	}
	return to, nil
}

// Swap implements deploy.Beside: the database at one instant, then one volume after the other.
func (e *Engine) Swap(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.failed("switch to what was restored", e.swap(ctx, fence, set))
}

func (e *Engine) swap(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	t, err := e.twinsOf(ctx, set)
	if err == nil && t != nil {
		err = t.Swap(ctx, t.live, t.next, t.kept)
	}
	for i := 0; err == nil && i < len(set.Volumes); i++ {
		err = e.swapVolume(set.Volumes[i], besideFolder+set.ID, keptFolder+set.ID)
	}
	return err
}

// swapVolume has what lies in one folder take the place of a volume, which goes to another. Where nothing lies there, that was done before.
func (e *Engine) swapVolume(name, from, to string) error {
	live, next, kept := e.at("volumes", name), e.at("volumes", from, name), e.at("volumes", to, name)
	if _, err := os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := e.own(next); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o711); err != nil {
		return err
	}
	if err := os.Rename(live, kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(next, live)
}

// own gives everything in a folder to the stage's user.
func (e *Engine) own(dir string) error {
	if e.user == nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(name, int(e.user.UID), int(e.user.GID))
	})
}

// NewVolumes makes empty folders for volumes, and says where they are. ErrRefused where one of them has something.
func (e *Engine) NewVolumes(names []string) (map[string]string, error) {
	made := map[string]string{}
	for _, name := range names {
		made[name] = e.at("volumes", name)
		if err := e.private(made[name]); err != nil {
			return nil, e.failed("make volumes", err)
		}
		if there, err := os.ReadDir(made[name]); err != nil || len(there) > 0 {
			return nil, e.failed("make volumes", errors.Join(err, fmt.Errorf("%w: the volume %s is not empty", deploy.ErrRefused, name)))
		}
	}
	return made, nil
}

// OwnVolumes gives what lies in volumes to the stage's user.
func (e *Engine) OwnVolumes(names []string) error {
	for _, name := range names {
		if err := e.own(e.at("volumes", name)); err != nil {
			return e.failed("volume "+name, err)
		}
	}
	return nil
}

// SwapBack implements deploy.Beside.
func (e *Engine) SwapBack(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.failed("switch back from what was restored", e.swapBack(ctx, fence, set))
}

func (e *Engine) swapBack(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	t, err := e.twinsOf(ctx, set)
	if err != nil {
		return err
	}
	for _, name := range set.Volumes {
		if _, half := os.Lstat(e.at("volumes", name)); errors.Is(half, fs.ErrNotExist) { // killed between the two renames
			err = os.Rename(e.at("volumes", keptFolder+set.ID, name), e.at("volumes", name))
		} else {
			err = e.swapVolume(name, keptFolder+set.ID, besideFolder+set.ID)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if t == nil {
		return nil
	}
	kept, err := t.Named(ctx, t.kept)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(kept, func(k postgres.Twin) bool { return k.Name == t.kept }) {
		return t.Mend(ctx, t.live)
	}
	return t.Twins.Swap(ctx, t.live, t.kept, t.next)
}

// Discard implements deploy.Beside.
func (e *Engine) Discard(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.failed("throw a restore away", e.discard(ctx, fence, set))
}

func (e *Engine) discard(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	return e.removeSet(ctx, fence, set, besideFolder, func(t *twins) string { return t.next })
}

// Forget implements deploy.Beside.
func (e *Engine) Forget(ctx context.Context, fence deploy.Fence, set deploy.DataSet) error {
	err := e.removeSet(ctx, fence, set, keptFolder, func(t *twins) string { return t.kept })
	return e.failed("delete what a restore has kept", err)
}

func (e *Engine) removeSet(ctx context.Context, fence deploy.Fence, set deploy.DataSet, folder string, which func(*twins) string) error {
	if err := e.admit(ctx, fence); err != nil {
		return err
	}
	t, err := e.twinsOf(ctx, set)
	if errors.Is(err, postgres.ErrNoTwin) { // so there is none
		t, err = nil, nil
	}
	if err == nil && t != nil {
		err = t.Drop(ctx, which(t))
	}
	return errors.Join(err, os.RemoveAll(e.at("volumes", folder+set.ID)))
}

// Kept implements deploy.Beside.
func (e *Engine) Kept(ctx context.Context, set deploy.DataSet) (kept []deploy.KeptData, err error) {
	t, err := e.twinsOf(ctx, set)
	if errors.Is(err, postgres.ErrNoTwin) {
		return nil, nil
	}
	if err != nil {
		return nil, e.failed("look for what restores have kept", err)
	}
	if t != nil {
		prefix := strings.TrimSuffix(postgres.TwinName(t.live, keptName, strings.Repeat("x", idLength)), strings.Repeat("x", idLength))
		found, err := t.Named(ctx, prefix)
		if err != nil {
			return nil, e.failed("look for what restores have kept", err)
		}
		for _, d := range found {
			kept = append(kept, deploy.KeptData{ID: strings.TrimPrefix(d.Name, prefix), Database: d.Name, Bytes: d.Bytes})
		}
	}
	folders, err := os.ReadDir(e.at("volumes"))
	for _, f := range folders {
		id, ours := strings.CutPrefix(f.Name(), keptFolder)
		if ours && !slices.ContainsFunc(kept, func(k deploy.KeptData) bool { return k.ID == id }) {
			kept = append(kept, deploy.KeptData{ID: id})
		}
	}
	return kept, e.failed("look for what restores have kept", err)
}

// idLength is how long the ids of restores are; see deploy.
const idLength = 8

// TaskInstead implements deploy.Instead.
func (e *Engine) TaskInstead(ctx context.Context, rollout, name, command string, mounts []deploy.VolumeMount, settings []deploy.Setting) error {
	return e.failed("task "+name, e.task(ctx, rollout, name, command, mounts, settings...))
}

// replaced are settings with others in place of those of the same names.
func replaced(settings, others []deploy.Setting) []deploy.Setting {
	settings = slices.DeleteFunc(slices.Clone(settings), func(s deploy.Setting) bool {
		return slices.ContainsFunc(others, func(o deploy.Setting) bool { return o.Name == s.Name })
	})
	return append(settings, others...)
}
