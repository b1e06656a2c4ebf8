package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Prove implements deploy.Snapshots. The database comes back in a cluster of its own, whose writes are not forced to the disk; of volumes
// every byte is read and compared, and nothing is written. check gets the address of a role that may do what the owners of the tables may: over
// TLS on 127.0.0.1 and with a password, as a stage's app gets that of its own database, so that it may run as any user.
func (s *Store) Prove(ctx context.Context, stage deploy.StageRef, id string, check func(ctx context.Context, url secret.Text) error) (deploy.Proof, error) {
	proof := deploy.Proof{At: s.c.Clock().UTC()}
	if err := s.tidyUnlessBusy(ctx, stage); err != nil {
		return proof, err
	}
	err := s.prove(ctx, stage, id, &proof, check)
	damaged := errors.Is(err, deploy.ErrDamaged)
	if damaged {
		proof.Wrong = oneLine(strings.TrimPrefix(err.Error(), deploy.ErrDamaged.Error()+": "))
	}
	if err == nil || damaged {
		err = errors.Join(err, s.keepProof(ctx, stage, id, proof))
	}
	if err != nil {
		return proof, fmt.Errorf("prove the snapshot %s of %s: %w", id, stage, err)
	}
	return proof, nil
}

func (s *Store) prove(ctx context.Context, stage deploy.StageRef, id string, proof *deploy.Proof, check func(context.Context, secret.Text) error) error {
	l, done, err := s.load(ctx, stage, id)
	if err != nil {
		return err
	}
	defer done()
	for _, v := range l.details.Volumes {
		if err := s.unpack(ctx, l, v, nil); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	if l.details.Database == nil {
		proof.Took = s.c.Clock().Sub(proof.At)
		return nil
	}
	w, err := s.newWork(ctx)
	if err != nil {
		return err
	}
	defer s.clear(ctx, w)
	url, err := s.scratch(ctx, l, w)
	if refused, is := errors.AsType[*refusal](err); is {
		err = fmt.Errorf("%w: it does not come back: %s", deploy.ErrDamaged, refused.text)
	}
	if err != nil {
		return err
	}
	proof.Took = s.c.Clock().Sub(proof.At)
	if check == nil {
		return nil
	}
	if err := s.at("check"); err != nil {
		return err
	}
	if err := check(ctx, url); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		proof.Check = oneLine(err.Error())
		return fmt.Errorf("%w: the app's own check says: %s", deploy.ErrDamaged, proof.Check)
	}
	proof.Check = "passed"
	return nil
}

func oneLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// keepProof writes the outcome beside the snapshot, if that is still there.
func (s *Store) keepProof(ctx context.Context, stage deploy.StageRef, id string, proof deploy.Proof) error {
	text, err := json.Marshal(proof)
	if err != nil {
		return err
	}
	return s.underLock(ctx, stage, func(ctx context.Context, of string) error {
		r, err := s.place.open(ctx, path.Join(of, id, manifestName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = r.Close() // nothing was read
		return s.write(ctx, path.Join(of, id, proofName), text)
	})
}

// drillName is the database, and the role, of a scratch cluster.
const drillName = "lotse_drill"

// scratch brings the database back in a cluster of its own, and compares it.
func (s *Store) scratch(ctx context.Context, l loaded, w *work) (secret.Text, error) {
	none := secret.Text{}
	found, err := toolsFor(max(l.manifest.Major, major(l.manifest.Tool)))
	if err != nil {
		return none, err
	}
	d, err := s.decrypt(ctx, l, w)
	if err != nil {
		return none, err
	}
	defer d.file.Close()
	cluster, server, err := w.start(ctx, found.Major)
	if err != nil {
		return none, scratched(ctx, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // whatever waits for a server that has ended is told
		select {
		case <-server.Ended():
			cancel(fmt.Errorf("%w: the scratch cluster ended while the snapshot was restored into it", deploy.ErrUnavailable))
		case <-ctx.Done():
		}
	}()
	if err := s.at("scratch"); err != nil {
		return none, err
	}
	url, err := prepare(ctx, cluster, l.details)
	if err != nil {
		return none, scratched(ctx, err)
	}
	at, err := addressOf(secret.New(cluster.Admin(drillName)))
	if err != nil {
		return none, err
	}
	h, err := s.ready(ctx, l, at, w)
	if err == nil {
		defer h.close()
		err = h.thaw(ctx, d)
	}
	if errors.Is(err, deploy.ErrUnavailable) { // who lost the server may know before we do
		_ = pause(ctx, patience/5)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return url, err
}

// scratched says in deploy's words what a scratch cluster lacks.
func scratched(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, postgres.ErrNotInstalled), errors.Is(err, postgres.ErrNoUser), errors.Is(err, postgres.ErrFolder):
		return fmt.Errorf("%w: the scratch cluster: %w", deploy.ErrUnsupported, err)
	case postgres.DiskFull(err.Error()):
		return fmt.Errorf("%w: the disk is full where the scratch cluster is made", deploy.ErrNoSpace)
	}
	return spaced(fmt.Errorf("%w: the scratch cluster: %w", deploy.ErrUnavailable, err), "the scratch cluster")
}

// prepare makes the roles that the snapshot names, none of which can log in, and an empty database like the one that was taken.
func prepare(ctx context.Context, cluster postgres.Cluster, d details) (secret.Text, error) {
	url, err := cluster.CreateDatabase(ctx, drillName)
	if err != nil {
		return url, err
	}
	conn, err := pgx.Connect(ctx, cluster.Admin("postgres"))
	if err != nil {
		return url, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// It is thrown away: what a crash of the machine would lose is not missed.
	statements := []string{"alter system set fsync = off", "alter system set full_page_writes = off", "alter system set synchronous_commit = off", "alter system set max_wal_size = '4GB'", "select pg_reload_conf()"}
	if err := makeRoles(ctx, conn, d.Roles); err != nil {
		return url, err
	}
	for _, role := range d.Roles {
		if role != "pg_database_owner" { // which has one member, the owner, and takes no other
			statements = append(statements, "grant "+quoted(role)+" to "+drillName)
		}
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return url, err
		}
	}
	return url, remake(ctx, conn, *d.Database)
}

// makeRoles makes those that are not there; nobody can log in as one of them.
func makeRoles(ctx context.Context, conn *pgx.Conn, roles []string) error {
	for _, role := range roles {
		var there bool
		err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", role).Scan(&there)
		if err == nil && !there && !strings.HasPrefix(role, "pg_") {
			_, err = conn.Exec(ctx, "create role "+quoted(role)+" nologin")
		}
		if err != nil {
			return broken(ctx, "make the role "+role, err)
		}
	}
	return nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// remake gives the database the encoding and the collation that it had, where this machine has that.
func remake(ctx context.Context, conn *pgx.Conn, d databaseDetails) error {
	if d.Encoding == "UTF8" && d.Collate == "C" && d.CType == "C" {
		return nil
	}
	if !slices.ContainsFunc([]string{d.Encoding, d.Collate, d.CType}, func(s string) bool { return strings.ContainsAny(s, `'\`) }) {
		if _, err := conn.Exec(ctx, "drop database "+drillName); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, fmt.Sprintf("create database %s owner %s template template0 encoding '%s' lc_collate '%s' lc_ctype '%s'", drillName, drillName, d.Encoding, d.Collate, d.CType))
		if err == nil {
			return nil
		}
	}
	encoding := d.Encoding
	_, err := conn.Exec(ctx, fmt.Sprintf("create database %s owner %s template template0 encoding '%s' lc_collate 'C' lc_ctype 'C'", drillName, drillName, strings.ReplaceAll(encoding, "'", "")))
	return err
}
