package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const stateVersion = 1

// state is what is on disk. Fields are only ever added; an older version's file reads as what it meant.
type state struct {
	Version int                   `json:"version"`
	Fences  map[string]int64      `json:"fences"` // by key, also of sites that were removed
	Sites   map[string]storedSite `json:"sites"`

	Closures map[string]Closure `json:"closures,omitempty"` // by key
}

type storedSite struct {
	Fence     int64             `json:"fence"`
	Hosts     []string          `json:"hosts"`
	Redirects map[string]string `json:"redirects,omitempty"`
	Drain     time.Duration     `json:"drain,omitempty"`
	Private   *storedPrivate    `json:"private,omitempty"`
	Releases  []storedRelease   `json:"releases"`
}

type storedPrivate struct {
	Verifier string `json:"verifier"`
	Key      []byte `json:"key"`
}

type storedRelease struct {
	ID     string        `json:"id"`
	Label  string        `json:"label"`
	Share  int           `json:"share"`
	Routes []storedRoute `json:"routes"`
	Until  time.Time     `json:"until,omitzero"`
	Served bool          `json:"served,omitempty"`
}

type storedRoute struct {
	Prefix   string   `json:"prefix"`
	Service  string   `json:"service"`
	Targets  []string `json:"targets,omitempty"`
	Health   string   `json:"health,omitempty"`
	Root     string   `json:"root,omitempty"` // not empty: files
	Index    string   `json:"index,omitempty"`
	Fallback string   `json:"fallback,omitempty"`
}

func (st state) with(site Site) state {
	next := st.clone()
	next.Fences[site.Key] = site.Fence
	next.Sites[site.Key] = toStored(site)
	return next
}

// remembering says of each release whether it had a share once.
func (st state) remembering(site Site) []Release {
	releases := slices.Clone(site.Releases)
	for i, r := range releases {
		releases[i].Served = r.Share > 0 || slices.ContainsFunc(st.Sites[site.Key].Releases, func(b storedRelease) bool { return b.ID == r.ID && b.Served })
	}
	return releases
}

func (st state) without(key string, fence int64) state {
	next := st.clone()
	next.Fences[key] = fence
	delete(next.Sites, key)
	delete(next.Closures, key)
	return next
}

func (st state) closing(key string, fence int64, c Closure) state {
	next := st.clone()
	next.Fences[key], next.Closures[key] = fence, c
	if c.Hold == nil && c.Maintenance == nil {
		delete(next.Closures, key)
	}
	return next
}

func (st state) clone() state {
	next := state{Version: stateVersion, Fences: maps.Clone(st.Fences), Sites: maps.Clone(st.Sites), Closures: maps.Clone(st.Closures)}
	if next.Fences == nil {
		next.Fences = map[string]int64{}
	}
	if next.Sites == nil {
		next.Sites = map[string]storedSite{}
	}
	if next.Closures == nil {
		next.Closures = map[string]Closure{}
	}
	return next
}

// sites are sorted by key.
func (st state) sites() []Site {
	var list []Site
	for _, key := range slices.Sorted(maps.Keys(st.Sites)) {
		list = append(list, fromStored(key, st.Sites[key]))
	}
	return list
}

func toStored(s Site) storedSite {
	stored := storedSite{Fence: s.Fence, Hosts: s.Hosts, Redirects: s.Redirects, Drain: s.Drain}
	if s.Private != nil {
		stored.Private = &storedPrivate{Verifier: s.Private.Verifier, Key: s.Private.Key}
	}
	for _, r := range s.Releases {
		sr := storedRelease{ID: r.ID, Label: r.Label, Share: r.Share, Until: r.Until, Served: r.Served}
		for _, route := range r.Routes {
			st := storedRoute{Prefix: route.Prefix, Service: route.Service, Targets: route.Targets, Health: route.Health}
			if route.Static != nil {
				st.Root, st.Index, st.Fallback = route.Static.Root, route.Static.Index, route.Static.Fallback
			}
			sr.Routes = append(sr.Routes, st)
		}
		stored.Releases = append(stored.Releases, sr)
	}
	return stored
}

func fromStored(key string, stored storedSite) Site {
	s := Site{Key: key, Fence: stored.Fence, Hosts: stored.Hosts, Redirects: stored.Redirects, Drain: stored.Drain}
	if stored.Private != nil {
		s.Private = &Private{Verifier: stored.Private.Verifier, Key: stored.Private.Key}
	}
	for _, sr := range stored.Releases {
		r := Release{ID: sr.ID, Label: sr.Label, Share: sr.Share, Until: sr.Until, Served: sr.Served}
		for _, st := range sr.Routes {
			route := Route{Prefix: st.Prefix, Service: st.Service, Targets: st.Targets, Health: st.Health}
			if st.Root != "" {
				route.Static = &Static{Root: st.Root, Index: st.Index, Fallback: st.Fallback}
			}
			r.Routes = append(r.Routes, route)
		}
		s.Releases = append(s.Releases, r)
	}
	return s
}

// store keeps the state in two files of the same content, each with its digest in the first line. One of them is whole
// at every instant; a power cut between the two leaves a first file that is one change newer, and that one is read.
type store struct{ dir string }

const (
	stateFile = "state.json"
	stateCopy = "state.copy.json"
)

// save returns when both are on the disk.
func (s *store) save(st state) error {
	body, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("the proxy's state: %w", err)
	}
	sum := sha256.Sum256(body)
	data := slices.Concat([]byte("sha256:"+hex.EncodeToString(sum[:])+"\n"), body, []byte("\n"))
	for _, name := range []string{stateFile, stateCopy} {
		if err := writeSynced(filepath.Join(s.dir, name), data); err != nil {
			return fmt.Errorf("the proxy's state cannot be kept: %w", err)
		}
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Readable returns nil when a Server of this version can begin with what is in a state directory: ErrNewer, ErrDamaged. It changes nothing.
func Readable(dir string) error {
	var damaged []error
	for _, name := range []string{stateFile, stateCopy} {
		_, err := read(filepath.Join(dir, name))
		if !errors.Is(err, ErrDamaged) {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		}
		damaged = append(damaged, err)
	}
	return errors.Join(damaged...)
}

// load returns the state of the first whole file. Nothing on disk at all is a new proxy.
func (s *store) load(note func(string, ...any)) (state, error) {
	missing := 0
	var damaged []error
	for _, name := range []string{stateFile, stateCopy} {
		st, err := read(filepath.Join(s.dir, name))
		switch {
		case err == nil:
			if len(damaged) > 0 {
				note("%s was damaged and put aside; the table was restored from %s", stateFile, stateCopy)
			}
			return st, nil
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case errors.Is(err, ErrDamaged):
			damaged = append(damaged, fmt.Errorf("%s: %w", name, err))
			if err := s.putAside(name); err != nil {
				return state{}, err
			}
		default:
			return state{}, fmt.Errorf("the proxy's state: %w", err)
		}
	}
	if missing == 2 {
		return state{}.clone(), nil
	}
	return state{}, errors.Join(append(damaged, fmt.Errorf("remove both files to begin with an empty table: %w", ErrDamaged))...)
}

// putAside keeps a copy of a damaged file for whoever wants to know why. The file stays where it is until the next save,
// so that a second start sees the same.
func (s *store) putAside(name string) error {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	return writeSynced(filepath.Join(s.dir, name+".damaged"), data)
}

func read(path string) (state, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return state{}, err
	}
	digest, body, ok := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(bytes.TrimSuffix(body, []byte("\n")))
	if !ok || string(digest) != "sha256:"+hex.EncodeToString(sum[:]) {
		return state{}, fmt.Errorf("the digest does not match: %w", ErrDamaged)
	}
	var st state
	if err := json.Unmarshal(body, &st); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if st.Version > stateVersion {
		return state{}, fmt.Errorf("%w: %d, this one knows %d", ErrNewer, st.Version, stateVersion)
	}
	return st.clone(), nil
}
