package front

import (
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// mount puts links to the volumes into the release's folder. A volume whose folder is not there is refused: what a service writes into
// an empty folder on the instance would be lost with it.
func mount(dir string, s Spec, env environment) error {
	mounts := s.mounts()
	if len(mounts) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range mounts {
		target := s.Volumes[m.Volume]
		if below := env.get("LOTSE_VOLUMES"); below != "" {
			target = filepath.Join(below, m.Volume)
		}
		if info, err := os.Stat(target); err != nil || !info.IsDir() {
			return deploy.Hint(fmt.Errorf("%w: the volume %s has no folder %s", deploy.ErrUnavailable, m.Volume, target), "it is mounted before the front starts; look at what the mount said")
		}
		if err := link(root, path.Clean(m.Path), target); err != nil {
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
