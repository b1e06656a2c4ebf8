package depot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// PutTree stores what lies at paths (slash-separated, relative to root) and below, and the tree itself. Errors are those of
// Scan and Put.
func (d *Depot) PutTree(ctx context.Context, root string, paths []string) (Tree, string, error) {
	s, err := Scan(root, paths)
	if err != nil {
		return nil, "", fmt.Errorf("put into the depot: %w", err)
	}
	return d.PutScanned(ctx, s)
}

// PutScanned stores the bytes of what was scanned. A file that is not as it was then is ErrChanged, and no tree is stored.
func (d *Depot) PutScanned(ctx context.Context, s *Scanned) (Tree, string, error) {
	t, err := d.putScanned(ctx, s)
	if err != nil {
		return nil, "", fmt.Errorf("put into the depot: %w", spaced(err))
	}
	digest, err := d.SaveTree(ctx, t)
	if err != nil {
		return nil, "", err
	}
	return t, digest, nil
}

func (d *Depot) putScanned(ctx context.Context, s *Scanned) (Tree, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := make(Tree, len(s.found))
	claims := claims{taken: map[sum]bool{}}
	spans := make(chan span, len(s.spans))
	for _, sp := range s.spans {
		spans <- sp
	}
	close(spans)
	group, ctx := errgroup.WithContext(ctx)
	storers := make([]*storer, workers())
	for i := range storers {
		w := &storer{depot: d, claims: &claims, buf: make([]byte, small+1)}
		w.packer.d, storers[i] = d, w
		group.Go(func() error {
			for sp := range spans {
				if err := w.folder(ctx, root, s.found, t, sp); err != nil {
					return err
				}
			}
			return w.packer.finish()
		})
	}
	err = group.Wait()
	var aside []string
	for _, w := range storers {
		aside = append(aside, w.packer.started...)
		defer w.packer.drop()
	}
	if err != nil {
		return nil, err
	}
	for i, f := range s.found { // empty folders lie in no span
		if f.Folder {
			t[i] = f.Entry
		}
	}
	slices.SortFunc(t, byPath)
	return t, d.publish(aside)
}

// workers is how many files are stored or filled at once: a little more than there are cores, as some wait for the disk.
func workers() int { return runtime.GOMAXPROCS(0) + 1 }

// claims sees to it that of equal files only one is stored.
type claims struct {
	mu    sync.Mutex
	taken map[sum]bool
}

func (c *claims) take(s sum) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken[s] {
		return false
	}
	c.taken[s] = true
	return true
}

// storer stores the files of one folder after the other, the small ones into its own pack.
type storer struct {
	depot  *Depot
	claims *claims
	packer packer
	buf    []byte
}

func (w *storer) folder(ctx context.Context, root *os.Root, all []found, t Tree, sp span) error {
	if sp.first == sp.last {
		return nil
	}
	dir, err := root.OpenRoot(sp.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	for i := sp.first; i < sp.last; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		t[i] = all[i].Entry
		if t[i].Link != "" || t[i].Folder {
			continue
		}
		if t[i].Digest, err = w.file(ctx, dir, all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *storer) file(ctx context.Context, dir *os.Root, f found) (digest string, err error) {
	// O_NONBLOCK: somebody may have put a pipe there since the scan.
	file, err := dir.OpenFile(path.Base(f.Path), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", f.Path, ErrChanged)
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	var s sum
	if f.Size > small {
		s, _, err = w.depot.put(ctx, file)
	} else {
		s, err = w.small(ctx, file, f)
	}
	if err != nil {
		return "", err
	}
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || stampOf(info) != f.state {
		return "", fmt.Errorf("%s: %w", f.Path, ErrChanged)
	}
	return s.String(), nil
}

func (w *storer) small(ctx context.Context, file io.Reader, f found) (sum, error) {
	n, err := io.ReadFull(file, w.buf[:f.Size+1])
	if err == nil || int64(n) != f.Size {
		return sum{}, fmt.Errorf("%s: %w", f.Path, ErrChanged)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return sum{}, err
	}
	data := w.buf[:n]
	s := sum(sha256.Sum256(data))
	if !w.claims.take(s) {
		return s, nil
	}
	if !w.depot.has(s) {
		w.depot.used(s)
		return s, w.packer.add(s, data)
	}
	if w.depot.intact(ctx, s) {
		return s, nil
	}
	// A file of its own comes before a pack in every reading, and so heals what is damaged there.
	_, _, err = w.depot.put(ctx, bytes.NewReader(data))
	return s, err
}
