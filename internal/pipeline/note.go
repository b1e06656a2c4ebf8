package pipeline

import (
	"encoding/json"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// releaseNote is the data of a release's note. Releases that were fitted to values stand in the note of the one that they were made
// of, so that they are kept exactly as long.
type releaseNote struct {
	Run    string        `json:"run"` // whose logs the record names
	Record deploy.Record `json:"record"`
	Files  string        `json:"files,omitempty"` // digest of the tree
	SBOM   deploy.Digest `json:"sbom,omitempty"`
	Proof  *proof        `json:"proof,omitempty"`
	Fits   []fittedNote  `json:"fits,omitempty"`
}

type fittedNote struct {
	ID     deploy.Digest `json:"id"`
	Values deploy.Digest `json:"values"`
	Run    string        `json:"run"`
	Record deploy.Record `json:"record"`
	Files  string        `json:"files"`
	SBOM   deploy.Digest `json:"sbom"`
}

// keeps is all that a release needs, and those that were made of it.
func (n releaseNote) keeps(id string) depot.Keeps {
	k := depot.Keeps{Blobs: []string{id, string(n.SBOM)}, Trees: []string{n.Files}}
	if n.Proof != nil && n.Proof.Asks != "" {
		k.Blobs = append(k.Blobs, n.Proof.Asks)
	}
	for _, f := range n.Fits {
		k.Blobs = append(k.Blobs, string(f.ID), string(f.SBOM))
		k.Trees = append(k.Trees, f.Files)
	}
	return k
}

// noteOf loads the note of a release that was fitted to nothing, and counts as a use of it.
func (p *Pipeline) noteOf(id string) (releaseNote, error) {
	var n releaseNote
	data, err := p.depot.Note(noteRelease, id)
	if err == nil && json.Unmarshal(data, &n) != nil {
		err = depot.ErrDamaged
	}
	return n, err
}

// changeNote changes the note of a release, one at a time: stages are fitted beside each other.
func (p *Pipeline) changeNote(id string, must bool, change func(*releaseNote)) error {
	p.noting.Lock()
	defer p.noting.Unlock()
	n, err := p.noteOf(id)
	if err != nil && must {
		return err
	}
	change(&n)
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return p.depot.SetNote(noteRelease, id, data, n.keeps(id))
}

// writeDown notes a new release.
func (r *run) writeDown(rel deploy.Release, files string) error {
	if r.fits == nil {
		return r.p.changeNote(string(rel.ID), false, func(n *releaseNote) {
			n.Run, n.Record, n.Files, n.SBOM, n.Proof = r.id, rel.Record, files, rel.Manifest.SBOM, r.proof
		})
	}
	return r.p.changeNote(string(r.fits.Of), true, func(n *releaseNote) {
		n.Fits = slices.DeleteFunc(n.Fits, func(f fittedNote) bool { return f.Values == r.fits.Values })
		n.Fits = append(n.Fits, fittedNote{rel.ID, r.fits.Values, r.id, rel.Record, files, rel.Manifest.SBOM})
	})
}

// homes says for every release in whose note it stands: its own, or that of the one it was made of.
func (p *Pipeline) homes() (map[string]string, error) {
	ids, err := p.depot.Keys(noteRelease)
	home := map[string]string{}
	for _, id := range ids {
		home[id] = id
		data, err := p.depot.Peek(noteRelease, id)
		var n releaseNote
		if err != nil || json.Unmarshal(data, &n) != nil {
			continue
		}
		for _, f := range n.Fits {
			home[string(f.ID)] = id
		}
	}
	return home, err
}

// recordOf finds the record of a release. ErrNotFound of the depot where there is none.
func (p *Pipeline) recordOf(id string) (deploy.Record, error) {
	n, err := p.noteOf(id)
	if err == nil {
		return n.Record, nil
	}
	home, homeErr := p.homes()
	if homeErr != nil || home[id] == "" || home[id] == id {
		return deploy.Record{}, err
	}
	if n, err = p.noteOf(home[id]); err != nil {
		return deploy.Record{}, err
	}
	for _, f := range n.Fits {
		if string(f.ID) == id {
			return f.Record, nil
		}
	}
	return deploy.Record{}, depot.ErrNotFound
}
