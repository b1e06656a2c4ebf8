package depot

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// A pack is: the bytes of its blobs, one behind the other; its index, one record for each blob; a footer. It never changes.
// Prune writes a new one when more than half of the old one is dead.
const (
	packMagic  = "lotse pack 1\n"
	recordSize = sha256.Size + 8 + 4
	footerSize = sha256.Size + 8 + len(packMagic) // of the index: digest and count
	packFull   = 64 << 20                         // bytes after which a new pack is begun, so that rewriting one is cheap
)

type pack struct {
	name   string
	file   *os.File
	size   int64
	places map[sum]place
}

// place is where a blob lies in a pack.
type place struct {
	pack   *pack
	offset int64
	size   int
}

// packer writes packs. It is used by one goroutine.
type packer struct {
	d       *Depot
	file    *os.File
	w       *bufio.Writer
	offset  int64
	index   bytes.Buffer
	started []string // names aside, whole and synced
}

func (p *packer) add(s sum, data []byte) error {
	if p.file == nil {
		f, err := os.CreateTemp(p.d.aside.Name(), "pack")
		if err != nil {
			return err
		}
		p.file, p.w, p.offset = f, bufio.NewWriterSize(f, 256<<10), 0
		p.index.Reset()
	}
	p.index.Write(s[:])
	p.index.Write(binary.BigEndian.AppendUint64(nil, uint64(p.offset)))
	p.index.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data))))
	p.offset += int64(len(data))
	if _, err := p.w.Write(data); err != nil {
		return err
	}
	if p.offset < packFull {
		return nil
	}
	return p.finish()
}

// finish ends the pack that is being written and syncs it.
func (p *packer) finish() error {
	if p.file == nil {
		return nil
	}
	digest := sha256.Sum256(p.index.Bytes())
	footer := binary.BigEndian.AppendUint64(digest[:], uint64(p.index.Len()/recordSize))
	for _, part := range [][]byte{p.index.Bytes(), footer, []byte(packMagic)} {
		if _, err := p.w.Write(part); err != nil {
			return err
		}
	}
	if err := p.w.Flush(); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	p.started = append(p.started, p.file.Name())
	err := p.file.Close()
	p.file = nil
	return err
}

// drop removes what was written aside.
func (p *packer) drop() {
	if p.file != nil {
		p.file.Close()
		os.Remove(p.file.Name())
		p.file = nil
	}
	for _, name := range p.started {
		os.Remove(name)
	}
	p.started = nil
}

// publish makes packs that are whole and synced part of the depot.
func (d *Depot) publish(aside []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.publishLocked(aside)
}

func (d *Depot) publishLocked(aside []string) error {
	if len(aside) == 0 {
		return nil
	}
	dir := filepath.Join(d.dir, "packs")
	for _, name := range aside {
		if err := os.Rename(name, filepath.Join(dir, rand.Text()+".pack")); err != nil {
			return err
		}
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	return d.refreshLocked()
}

// refresh takes up packs that it does not know and lets go of those that are gone.
func (d *Depot) refresh() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refreshLocked()
}

func (d *Depot) refreshLocked() error {
	found, err := os.ReadDir(filepath.Join(d.dir, "packs"))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	d.broken = 0
	for _, e := range found {
		name := e.Name()
		if !strings.HasSuffix(name, ".pack") {
			continue
		}
		there[name] = true
		if d.packs[name] != nil {
			continue
		}
		p, err := loadPack(filepath.Join(d.dir, "packs", name))
		if err != nil {
			d.broken++
			continue
		}
		d.packs[name] = p
		maps.Copy(d.packed, p.places)
	}
	for name, p := range d.packs {
		if !there[name] {
			d.forget(p)
		}
	}
	return nil
}

// forget takes a pack out of the index. Another pack may hold some of its blobs as well.
func (d *Depot) forget(p *pack) {
	delete(d.packs, p.name)
	for s := range p.places {
		if d.packed[s].pack == p {
			delete(d.packed, s)
		}
	}
	for _, other := range d.packs {
		for s := range p.places {
			if at, ok := other.places[s]; ok {
				d.packed[s] = at
			}
		}
	}
	p.file.Close()
}

func loadPack(name string) (*pack, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	p, err := readIndex(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	p.name = filepath.Base(name)
	return p, nil
}

func readIndex(f *os.File) (*pack, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	footer := make([]byte, footerSize)
	if _, err := f.ReadAt(footer, info.Size()-int64(footerSize)); err != nil {
		return nil, err
	}
	count := int64(binary.BigEndian.Uint64(footer[sha256.Size:]))
	start := info.Size() - int64(footerSize) - count*recordSize
	if string(footer[sha256.Size+8:]) != packMagic || count < 0 || count > info.Size() || start < 0 {
		return nil, fs.ErrInvalid
	}
	index := make([]byte, count*recordSize)
	if _, err := f.ReadAt(index, start); err != nil {
		return nil, err
	}
	if sha256.Sum256(index) != sum(footer[:sha256.Size]) {
		return nil, fs.ErrInvalid
	}
	p := &pack{file: f, size: info.Size(), places: make(map[sum]place, count)}
	for ; len(index) > 0; index = index[recordSize:] {
		rest := index[sha256.Size:]
		p.places[sum(index[:sha256.Size])] = place{p, int64(binary.BigEndian.Uint64(rest)), int(binary.BigEndian.Uint32(rest[8:]))}
	}
	return p, nil
}

// unpack reads a blob from its pack into buf where that is large enough, verified.
func (d *Depot) unpack(s sum, buf []byte) ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	at, ok := d.packed[s]
	if !ok && d.broken > 0 {
		return nil, fmt.Errorf("%v may have been in a pack that cannot be read: %w", s, ErrDamaged)
	}
	if !ok {
		return nil, fmt.Errorf("%v: %w", s, ErrNotFound)
	}
	if cap(buf) < at.size {
		buf = make([]byte, at.size)
	}
	buf = buf[:at.size]
	if _, err := at.pack.file.ReadAt(buf, at.offset); err != nil {
		return nil, fmt.Errorf("%v: %w: %w", s, ErrDamaged, err)
	}
	if sha256.Sum256(buf) != s {
		return nil, fmt.Errorf("%v: %w", s, ErrDamaged)
	}
	return buf, nil
}
