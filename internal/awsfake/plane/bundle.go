package plane

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

const mostBundle = 500 << 20 // bytes of a source bundle, a limit of Elastic Beanstalk

// unpack writes the files of a bundle below dir, which exists. Names that leave it, links that leave it and anything that is
// neither file, folder nor link are ErrBundle.
func unpack(bundle io.ReaderAt, size int64, dir string) error {
	if size > mostBundle {
		return fmt.Errorf("%w: it has more than %d MB", ErrBundle, mostBundle>>20)
	}
	archive, err := zip.NewReader(bundle, size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBundle, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range archive.File {
		if err := unpackOne(root, f); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrBundle, f.Name, err)
		}
	}
	return nil
}

// unpackBundle unpacks what the options name into staging.
func (i *Instance) unpackBundle() error {
	if i.o.Bundle == "" {
		return unpack(bytes.NewReader(i.o.Archive), int64(len(i.o.Archive)), i.staging())
	}
	f, err := os.Open(i.o.Bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return unpack(f, info.Size(), i.staging())
}

func unpackOne(root *os.Root, f *zip.File) error {
	name := strings.TrimSuffix(f.Name, "/")
	if !filepath.IsLocal(name) {
		return errors.New("the name leads out of the bundle")
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	switch mode := f.Mode(); {
	case mode.IsDir():
		return root.MkdirAll(name, 0o755)
	case mode&fs.ModeSymlink != 0:
		to, err := io.ReadAll(io.LimitReader(from, 4096))
		if err != nil {
			return err
		}
		if !filepath.IsLocal(path.Join(path.Dir(name), string(to))) || path.IsAbs(string(to)) {
			return errors.New("the link leads out of the bundle")
		}
		return root.Symlink(string(to), name)
	case mode.IsRegular():
		return unpackFile(root, name, mode.Perm()|0o600, from)
	}
	return errors.New("neither file, folder nor link")
}

// unpackFile forks nothing while it writes: a child of another test that has inherited the open file would keep it from being run ("text
// file busy").
func unpackFile(root *os.Root, name string, mode fs.FileMode, from io.Reader) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	to, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close(), root.Chmod(name, mode))
}

// places are the paths of the platform that lie below an instance's folder, so that nothing is written on this machine.
const places = `/var/app|/var/log|/var/lib/lotse|/opt/elasticbeanstalk|/etc/pki`

// place rewrites the platform's paths in a text: in commands, hooks and small files of the bundle.
func (i *Instance) place(text string) string {
	return i.paths.ReplaceAllString(text, "${1}"+strings.ReplaceAll(i.folder, "$", "$$")+"${2}${3}")
}

// pathsOf matches the platform's paths where they begin a word and end as one part of a path.
func pathsOf() *regexp.Regexp {
	return regexp.MustCompile(`(^|[^A-Za-z0-9_./}-])(` + places + `)(/|$|[^A-Za-z0-9_.-])`)
}

// placeFiles rewrites the paths in the Procfile, in hooks that are scripts, and in what Lotse puts beside the app.
func (i *Instance) placeFiles(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		hook := strings.HasPrefix(name, ".platform/hooks/")
		named := name == "Procfile" || hook || strings.HasPrefix(name, ".lotse/") && path.Ext(name) == ".json"
		if err != nil || !d.Type().IsRegular() || !named {
			return err
		}
		raw, err := root.ReadFile(name)
		if err != nil || hook && !strings.HasPrefix(string(raw), "#!") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return unpackFile(root, name, info.Mode().Perm(), strings.NewReader(i.place(string(raw))))
	})
}
