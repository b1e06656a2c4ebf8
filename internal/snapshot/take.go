package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Take implements deploy.Snapshots.
func (s *Store) Take(ctx context.Context, order deploy.SnapshotOrder) (taken deploy.Snapshot, err error) {
	if err := s.check(order); err != nil {
		return taken, err
	}
	err = s.underLock(ctx, order.Stage, func(ctx context.Context, of string) error {
		taken, err = s.take(ctx, order, of)
		return err
	})
	if err != nil {
		return deploy.Snapshot{}, fmt.Errorf("snapshot of %s: %w", order.Stage, err)
	}
	return taken, nil
}

func (s *Store) check(order deploy.SnapshotOrder) error {
	if len(s.recipients) == 0 {
		return deploy.Hint(fmt.Errorf("%w: there is no public key to encrypt snapshots for", deploy.ErrMissing), "`age-keygen` makes a key; give its public key, and keep the other away from this machine too")
	}
	if order.Data.URL.Empty() && len(order.Data.Volumes) == 0 {
		return fmt.Errorf("%w: %s has neither a database nor volumes to take a snapshot of", deploy.ErrBadInput, order.Stage)
	}
	for name := range order.Data.Volumes {
		if !validName.MatchString(name) {
			return fmt.Errorf("%w: %.40q is not the name of a volume", deploy.ErrBadInput, name)
		}
	}
	return nil
}

// taking is one snapshot that is being taken.
type taking struct {
	*Store
	work    *work
	dir     string
	open    open
	details details
}

func (s *Store) take(ctx context.Context, order deploy.SnapshotOrder, of string) (deploy.Snapshot, error) {
	began := s.c.Clock()
	files, err := s.place.list(ctx, of)
	if err != nil {
		return deploy.Snapshot{}, err
	}
	w, err := s.newWork(ctx)
	if err != nil {
		return deploy.Snapshot{}, err
	}
	k := &taking{Store: s, work: w, open: open{Format: formatVersion, Stage: order.Stage, Why: order.Why, Rollout: order.Rollout, Release: order.Release}}
	k.details = details{Tables: []tableDetails{}, Sequences: map[string]string{}, Objects: []object{}, Extensions: []extension{}, Roles: []string{}, Volumes: []volumeDetails{}}
	err = k.fill(ctx, order.Data, latest(files, of), of)
	if err == nil {
		k.open.Took = s.c.Clock().Sub(began)
		err = k.seal(ctx)
	}
	s.clear(ctx, w)
	if err != nil {
		if k.dir == "" {
			return deploy.Snapshot{}, err
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 6*patience)
		defer cancel()
		return deploy.Snapshot{}, errors.Join(err, s.place.remove(late, k.dir, manifestName))
	}
	s.c.Log.Info("took a snapshot", "stage", of, "id", k.open.ID, "rows", k.open.Rows, "took", k.open.Took)
	return k.open.snapshot(s.place.where(k.dir)), nil
}

// fill takes the moment of the database first, then the volumes, then the rows: what a row of that moment says of a file is read as soon
// after it as can be.
func (k *taking) fill(ctx context.Context, data deploy.Data, last, of string) error {
	var session *session
	if !data.URL.Empty() {
		at, err := addressOf(data.URL)
		if err != nil {
			return err
		}
		if session, err = begin(ctx, at); err != nil {
			return err
		}
		defer session.end()
	}
	k.open.At = k.c.Clock().UTC()
	k.open.ID = newID(k.open.At, last)
	k.dir = path.Join(of, k.open.ID)
	if err := k.at("moment"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(data.Volumes)) {
		if err := k.volume(ctx, name, data.Volumes[name]); err != nil {
			return fmt.Errorf("volume %s: %w", name, err)
		}
	}
	if session == nil {
		return nil
	}
	if err := k.database(ctx, session); err != nil {
		return fmt.Errorf("database %s: %w", session.database.Name, err)
	}
	return nil
}

// newID is the moment, and something that no other machine made in it. It is greater than the last one, whatever the clock says.
func newID(at time.Time, last string) string {
	id := strings.Replace(at.Format("20060102-150405.000"), ".", "-", 1) + "-" + strings.ToLower(rand.Text()[:6])
	if id > last {
		return id
	}
	return newID(at.Add(time.Second), last)
}

func (k *taking) database(ctx context.Context, session *session) error {
	tools, err := toolsFor(session.major)
	if err != nil {
		return err
	}
	options := []string{"--snapshot=" + session.snapshot}
	for _, schema := range session.leave() {
		options = append(options, "--exclude-schema="+schema)
	}
	var c *contents
	err = k.part(ctx, databaseName, func(w io.Writer) error {
		c, err = dump(ctx, tools, session.at, k.work.dir, w, options...)
		return err
	})
	if err != nil {
		return err
	}
	o, d := &k.open, &k.details
	d.Database, d.Extensions, d.Roles = &session.facts.database, session.extensions, withOwners(session.roles, c)
	d.Tables, d.Sequences, d.Objects = c.tables(), c.sequences(), c.objects()
	o.Server, o.Major, o.Tool, o.Schema, o.Tables = session.server, session.major, tools.Version, schemaDigest(d.Objects), len(d.Tables)
	for _, t := range d.Tables {
		o.Rows += t.Rows
	}
	return nil
}

// withOwners adds the owners that an archive names.
func withOwners(roles []string, c *contents) []string {
	for _, e := range c.entries {
		if e.owner != "" && !slices.Contains(roles, e.owner) {
			roles = append(roles, e.owner)
		}
	}
	return slices.Sorted(slices.Values(roles))
}

// part writes one encrypted part.
func (k *taking) part(ctx context.Context, name string, fill func(io.Writer) error) error {
	began := time.Now()
	var p part
	err := k.place.write(ctx, path.Join(k.dir, name), func(w io.Writer) error {
		sealed, err := seal(w, k.recipients)
		if err != nil {
			return err
		}
		err = fill(sealed)
		if err == nil {
			err = k.at("part")
		}
		if err = errors.Join(err, sealed.Close()); err != nil {
			return err
		}
		p = sealed.part(name)
		return nil
	})
	if err != nil {
		return err
	}
	p.Took = int64(time.Since(began))
	k.open.Parts = append(k.open.Parts, p)
	return nil
}

// seal writes the manifest, with which the snapshot is there.
func (k *taking) seal(ctx context.Context) error {
	if err := k.at("manifest"); err != nil {
		return err
	}
	text, err := sealManifest(k.open, k.details, k.recipients)
	if err != nil {
		return err
	}
	if err := k.write(ctx, path.Join(k.dir, manifestName), text); err != nil {
		return err
	}
	return k.at("taken")
}
