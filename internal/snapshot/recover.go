package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Recovery is what comes back when nothing is left but a place with snapshots, and a key.
type Recovery struct {
	Stage deploy.StageRef // its zero value: the one that has snapshots, where there is only one
	ID    string          // empty: the newest that is not damaged

	// Data is where it comes back to: an empty database and empty folders. Where URL is empty and Cluster is not, a cluster is made there.
	Data    deploy.Data
	Cluster postgres.Cluster // with an absolute Dir that does not exist yet; Port 0 is reached over its socket alone
	Name    string           // of the database in a new cluster, and of its role
}

// Recovered is what came back.
type Recovered struct {
	Snapshot deploy.Snapshot
	URL      secret.Text // of the database

	// Server is the new cluster, which runs as a child of this process: Stop it, or it ends when this process does. Nil where none was made.
	Server *postgres.Server
}

// KeyFile reads an age identity file each time it is asked. What it says of a file that cannot be read has no part of its content.
func KeyFile(file string) func() (secret.Text, error) {
	return func() (secret.Text, error) {
		text, err := os.ReadFile(file)
		return secret.New(string(text)), err
	}
}

// Recover restores from the snapshots alone; nothing else of Lotse needs to be there. After an error nothing is left of a cluster that it
// made; what was given to be filled is not to be used.
func (s *Store) Recover(ctx context.Context, r Recovery) (back Recovered, err error) {
	if r.Stage, err = s.only(ctx, r.Stage); err != nil {
		return back, err
	}
	if back.Snapshot, err = s.pick(ctx, r.Stage, r.ID); err != nil {
		return back, err
	}
	back.URL = r.Data.URL
	if back.URL.Empty() && r.Cluster.Dir != "" && back.Snapshot.Server != "" {
		if back.Server, back.URL, err = s.newCluster(ctx, r, back.Snapshot); err != nil {
			return Recovered{}, err
		}
	}
	r.Data.URL = back.URL
	err = s.Restore(ctx, r.Stage, back.Snapshot.ID, r.Data)
	if err != nil && back.Server != nil {
		err = errors.Join(err, r.Cluster.Remove(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return Recovered{}, err
	}
	return back, nil
}

// only finds the stage where there is but one.
func (s *Store) only(ctx context.Context, asked deploy.StageRef) (deploy.StageRef, error) {
	if asked != (deploy.StageRef{}) {
		return asked, nil
	}
	stages, err := s.Stages(ctx)
	if err != nil {
		return asked, err
	}
	switch len(stages) {
	case 0:
		return asked, fmt.Errorf("%w: there are no snapshots in %s", deploy.ErrNotFound, s.place.where(""))
	case 1:
		return stages[0], nil
	}
	var names []string
	for _, one := range stages {
		names = append(names, one.String())
	}
	return asked, deploy.Hint(fmt.Errorf("%w: there are snapshots of %s", deploy.ErrBadInput, strings.Join(names, ", ")), "say which stage is wanted")
}

// Stages are those that there are snapshots of, in the order of their names.
func (s *Store) Stages(ctx context.Context) ([]deploy.StageRef, error) {
	files, err := s.place.list(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []deploy.StageRef
	for _, app := range foldersIn(files, "") {
		for _, name := range foldersIn(files, app) {
			ids := foldersIn(files, path.Join(app, name))
			for _, id := range ids {
				if _, whole := files[path.Join(app, name, id, manifestName)]; whole {
					all = append(all, deploy.StageRef{App: app, Stage: name})
					break
				}
			}
		}
	}
	return all, nil
}

func (s *Store) pick(ctx context.Context, stage deploy.StageRef, id string) (newest deploy.Snapshot, err error) {
	all, err := s.List(ctx, stage)
	if err != nil {
		return newest, err
	}
	for _, one := range all {
		if one.ID == id || id == "" && one.Damaged == "" {
			newest = one
		}
	}
	if newest.ID == "" {
		return newest, fmt.Errorf("%w: there is no whole snapshot of %s", deploy.ErrNotFound, stage)
	}
	return newest, nil
}

// newCluster makes one of the snapshot's version where this machine has it, with an empty database.
func (s *Store) newCluster(ctx context.Context, r Recovery, one deploy.Snapshot) (*postgres.Server, secret.Text, error) {
	if entries, err := os.ReadDir(r.Cluster.Dir); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, secret.Text{}, deploy.Hint(fmt.Errorf("%w: the folder %s is not empty", deploy.ErrRefused, filepath.Clean(r.Cluster.Dir)), "name a folder that does not exist yet")
	}
	if r.Cluster.Major == 0 {
		found, err := toolsFor(major(one.Server))
		if err != nil {
			return nil, secret.Text{}, err
		}
		r.Cluster.Major = found.Major
	}
	server, err := r.Cluster.Start(ctx, io.Discard)
	if err != nil {
		return nil, secret.Text{}, scratched(ctx, err)
	}
	url, err := r.Cluster.CreateDatabase(ctx, r.Name)
	if err == nil {
		err = s.newRoles(ctx, r, one.ID)
	}
	if err != nil {
		return nil, secret.Text{}, errors.Join(err, r.Cluster.Remove(context.WithoutCancel(ctx)))
	}
	return server, url, nil
}

// newRoles makes those that the snapshot names and nobody has made yet: policies and rights speak of them.
func (s *Store) newRoles(ctx context.Context, r Recovery, id string) error {
	l, done, err := s.load(ctx, r.Stage, id)
	if err != nil {
		return err
	}
	defer done()
	conn, err := pgx.Connect(ctx, r.Cluster.Admin(postgres.Superuser))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is open on it
	return makeRoles(ctx, conn, l.details.Roles)
}
