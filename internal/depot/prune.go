package depot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Prune removes what no note names, then the notes that keep does not keep, the one whose last use is longest ago first, until
// the depot takes at most budget bytes of the disk. What a kept note names, and what a Hold covers, stays, even above the
// budget. It returns the bytes that it freed. Killed in between, it has removed whole notes and goes on the next time.
func (d *Depot) Prune(ctx context.Context, keep func(kind, key string) bool, budget int64) (freed int64, err error) {
	p := &pruning{d: d, refs: map[sum]int{}, sizes: map[sum]int64{}}
	if err := p.list(ctx, keep); err != nil {
		return 0, fmt.Errorf("prune the depot: %w", err)
	}
	for _, n := range p.candidates {
		if p.live <= budget || ctx.Err() != nil {
			break
		}
		p.drop(n)
	}
	err = p.sweep(ctx)
	if err != nil {
		err = fmt.Errorf("prune the depot: %w", spaced(err))
	}
	return p.freed, err
}

// pruning is one Prune: first it counts who names what, then it removes notes, then what nobody names any more.
type pruning struct {
	d          *Depot
	candidates []*named // oldest use first
	refs       map[sum]int
	sizes      map[sum]int64
	live       int64 // bytes that some note names
	freed      int64
}

type named struct {
	file  string
	used  time.Time
	size  int64
	blobs []sum
}

func (p *pruning) list(ctx context.Context, keep func(kind, key string) bool) error {
	files, err := filepath.Glob(filepath.Join(p.d.dir, "notes", "*", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		content, err := readNote(file)
		n := &named{file: file, used: info.ModTime(), size: info.Size()}
		kept := err == nil && keep(content.Kind, content.Key)
		if err == nil {
			if n.blobs, err = p.names(ctx, content.Keeps); err != nil && kept {
				// What a kept tree lists is not known: nothing may be removed.
				return fmt.Errorf("the note %s %s: %w", content.Kind, content.Key, err)
			}
		}
		p.count(n)
		if !kept {
			p.candidates = append(p.candidates, n)
		}
		if err != nil { // a note that cannot be used is the first to go
			p.drop(n)
			p.candidates = p.candidates[:len(p.candidates)-1]
		}
	}
	slices.SortFunc(p.candidates, func(a, b *named) int { return a.used.Compare(b.used) })
	return nil
}

// names lists every blob that a note keeps, each once.
func (p *pruning) names(ctx context.Context, k Keeps) ([]sum, error) {
	seen := map[sum]bool{}
	add := func(digest string) {
		if s, err := parse(digest); err == nil {
			seen[s] = true
		}
	}
	for _, digest := range k.Blobs {
		add(digest)
	}
	for _, digest := range k.Trees {
		add(digest)
		t, err := p.d.Tree(ctx, digest)
		if err != nil {
			return nil, err
		}
		for _, e := range t {
			add(e.Digest)
		}
	}
	var all []sum
	for s := range seen {
		all = append(all, s)
	}
	return all, nil
}

func (p *pruning) count(n *named) {
	p.live += n.size
	for _, s := range n.blobs {
		if p.refs[s]++; p.refs[s] == 1 {
			p.sizes[s] = p.d.size(s)
			p.live += p.sizes[s]
		}
	}
}

// size returns what the blob takes on the disk.
func (d *Depot) size(s sum) int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var size int64
	if info, err := os.Stat(d.loose(s)); err == nil {
		size = info.Size()
	}
	return size + int64(d.packed[s].size)
}

// drop removes a note, unless it was used since a hold began.
func (p *pruning) drop(n *named) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.recentMu.Lock()
	_, recent := p.d.notes[n.file]
	p.d.recentMu.Unlock()
	if recent || os.Remove(n.file) != nil {
		return
	}
	p.freed += n.size
	p.live -= n.size
	for _, s := range n.blobs {
		if p.refs[s]--; p.refs[s] == 0 {
			delete(p.refs, s)
			p.live -= p.sizes[s]
		}
	}
}

// needed reports whether a blob is named by a note or covered by a hold. The depot is locked.
func (p *pruning) needed(s sum) bool {
	if p.refs[s] > 0 {
		return true
	}
	p.d.recentMu.Lock()
	defer p.d.recentMu.Unlock()
	_, ok := p.d.recent[s]
	return ok
}

func (p *pruning) sweep(ctx context.Context) error {
	// The notes are gone from the disk before what they named goes, or a crash would leave notes of nothing.
	folders, _ := filepath.Glob(filepath.Join(p.d.dir, "notes", "*"))
	if err := syncFolder(folders...); err != nil {
		return err
	}
	if err := p.sweepLoose(ctx); err != nil {
		return err
	}
	return p.sweepPacks(ctx)
}

func (p *pruning) sweepLoose(ctx context.Context) error {
	folders, err := os.ReadDir(filepath.Join(p.d.dir, "blobs"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := ctx.Err(); err != nil {
			return err
		}
		prefix := folder.Name()
		list, err := os.ReadDir(filepath.Join(p.d.dir, "blobs", prefix))
		if err != nil {
			return err
		}
		for _, e := range list {
			s, err := parse("sha256:" + prefix + e.Name())
			if err != nil {
				continue // not ours
			}
			if err := p.remove(s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pruning) remove(s sum) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.needed(s) {
		return nil
	}
	name := p.d.loose(s)
	info, err := os.Stat(name)
	if err == nil {
		err = os.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.freed += info.Size()
	return nil
}

func (p *pruning) sweepPacks(ctx context.Context) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if err := p.d.refreshLocked(); err != nil {
		return err
	}
	for _, pk := range p.d.packs {
		if err := ctx.Err(); err != nil {
			return err
		}
		var live []sum
		var size int64
		for s, at := range pk.places {
			if p.needed(s) && p.d.packed[s].pack == pk {
				live = append(live, s)
				size += int64(at.size)
			}
		}
		if size > pk.size/2 && len(live) > 0 {
			continue
		}
		if err := p.repack(pk, live); err != nil {
			return err
		}
	}
	return p.removeBroken()
}

// repack puts what is needed of a pack into a new one and removes the old. A pack of which something needed is damaged stays
// as it is: its rest can still be read.
func (p *pruning) repack(pk *pack, live []sum) error {
	w := packer{d: p.d}
	defer w.drop()
	for _, s := range live {
		at := pk.places[s]
		data := make([]byte, at.size)
		if _, err := pk.file.ReadAt(data, at.offset); err != nil || DigestOf(data) != s.String() {
			return nil
		}
		if err := w.add(s, data); err != nil {
			return err
		}
	}
	if err := w.finish(); err != nil {
		return err
	}
	if err := p.d.publishLocked(w.started); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(p.d.dir, "packs", pk.name)); err != nil {
		return err
	}
	p.freed += pk.size
	for _, s := range live {
		p.freed -= int64(pk.places[s].size)
	}
	p.d.forget(pk)
	return nil
}

// removeBroken removes packs that cannot be read: nothing in them can be used.
func (p *pruning) removeBroken() error {
	list, err := os.ReadDir(filepath.Join(p.d.dir, "packs"))
	if err != nil {
		return err
	}
	for _, e := range list {
		if p.d.packs[e.Name()] != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		if err := os.Remove(filepath.Join(p.d.dir, "packs", e.Name())); err != nil {
			return err
		}
		p.freed += info.Size()
	}
	p.d.broken = 0
	return nil
}

// Used returns the bytes that the depot takes on the disk.
func (d *Depot) Used() (int64, error) {
	var used int64
	err := filepath.WalkDir(d.dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return ignoreGone(err)
		}
		info, err := e.Info()
		if err == nil {
			used += info.Size()
		}
		return ignoreGone(err)
	})
	return used, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
