package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// carried is the note of a release as it goes to another machine. What says something of this one (logs, people) stays here.
type carried struct {
	Record deploy.Record `json:"record"`
	Proof  *proof        `json:"proof,omitempty"`
}

// Pack returns what another pipeline needs to know a release: a note for its Unpack, and the blobs that the release needs beside the files
// of its manifest. The note holds no name, address or path of this machine. deploy.ErrNotFound where there is no such release.
func (p *Pipeline) Pack(ctx context.Context, id deploy.Digest) (note []byte, blobs []deploy.Digest, err error) {
	rel, err := p.Release(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	c := carried{Record: rel.Record}
	c.Record.Author = ""
	c.Record.Steps = slices.Clone(c.Record.Steps)
	for i := range c.Record.Steps {
		c.Record.Steps[i].Log, c.Record.Steps[i].Tail = "", nil
	}
	blobs = []deploy.Digest{rel.Manifest.SBOM}
	if rel.Manifest.Fits == nil {
		n, err := p.noteOf(string(id))
		if err != nil {
			return nil, nil, fmt.Errorf("release %s: %w", id.Short(), spaced(err))
		}
		if c.Proof = n.Proof; c.Proof != nil && c.Proof.Asks != "" {
			blobs = append(blobs, deploy.Digest(c.Proof.Asks))
		}
	}
	note, err = json.Marshal(c)
	return note, blobs, err
}

// Unpack makes a release known that was packed elsewhere: its manifest, whose digest is id, and its note. The bytes of its files need not be in
// the depot yet; Verify says whether they are. One that was fitted to values comes after the one that it was made of. Twice is fine.
func (p *Pipeline) Unpack(ctx context.Context, id deploy.Digest, manifest, note []byte) error {
	err := p.unpack(ctx, id, manifest, note)
	if err != nil {
		return fmt.Errorf("release %s: %w", id.Short(), spaced(err))
	}
	return nil
}

func (p *Pipeline) unpack(ctx context.Context, id deploy.Digest, manifest, note []byte) error {
	var c carried
	var m deploy.Manifest
	if depot.DigestOf(manifest) != string(id) || json.Unmarshal(manifest, &m) != nil || json.Unmarshal(note, &c) != nil {
		return fmt.Errorf("%w: what came is not what its digest says", deploy.ErrDamaged)
	}
	defer p.depot.Hold()()
	if _, _, err := p.depot.Put(ctx, bytes.NewReader(manifest)); err != nil {
		return err
	}
	var tree depot.Tree
	for _, f := range m.Files {
		tree = append(tree, depot.Entry{Path: f.Path, Digest: string(f.Digest), Size: f.Size, Executable: f.Executable, Link: f.Link})
	}
	files, err := p.depot.SaveTree(ctx, tree)
	if err != nil {
		return errors.Join(deploy.ErrDamaged, err)
	}
	if m.Fits == nil {
		return p.changeNote(string(id), false, func(n *releaseNote) {
			n.Record, n.Files, n.SBOM, n.Proof = c.Record, files, m.SBOM, c.Proof
		})
	}
	return p.changeNote(string(m.Fits.Of), true, func(n *releaseNote) {
		n.Fits = slices.DeleteFunc(n.Fits, func(f fittedNote) bool { return f.Values == m.Fits.Values })
		n.Fits = append(n.Fits, fittedNote{ID: id, Values: m.Fits.Values, Record: c.Record, Files: files, SBOM: m.SBOM})
	})
}
