package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// Restore implements deploy.Snapshots. An empty URL, or no Volumes, says that those are not asked for; of the volumes that a snapshot
// holds each must have a folder where any has. What the role of the URL may not do (owners, rights of other roles, comments on
// extensions) is left out and logged, unless it is a superuser.
func (s *Store) Restore(ctx context.Context, stage deploy.StageRef, id string, to deploy.Data) error {
	if err := s.tidyUnlessBusy(ctx, stage); err != nil {
		return err
	}
	l, done, err := s.load(ctx, stage, id)
	if err != nil {
		return fmt.Errorf("restore the snapshot %s of %s: %w", id, stage, err)
	}
	defer done()
	if err := s.restore(ctx, l, to); err != nil {
		return fmt.Errorf("restore the snapshot %s of %s: %w", id, stage, err)
	}
	return nil
}

func (s *Store) restore(ctx context.Context, l loaded, to deploy.Data) error {
	if err := l.asked(to); err != nil {
		return err
	}
	for _, v := range l.details.Volumes {
		if folder, asked := to.Volumes[v.Name]; asked {
			if err := emptyFolder(v.Name, folder); err != nil {
				return err
			}
		}
	}
	if !to.URL.Empty() {
		at, err := addressOf(to.URL)
		if err != nil {
			return err
		}
		w, err := s.newWork(ctx)
		if err != nil {
			return err
		}
		defer s.clear(ctx, w)
		if err := s.into(ctx, l, at, w); err != nil {
			return err
		}
	}
	for _, v := range l.details.Volumes {
		if folder, asked := to.Volumes[v.Name]; asked {
			if err := s.bring(ctx, l, v, folder); err != nil {
				return fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
	}
	return nil
}

// into brings the database back: what refuses it is asked before anything is decrypted.
func (s *Store) into(ctx context.Context, l loaded, at *postgres.Address, w *work) error {
	h, err := s.ready(ctx, l, at, w)
	if err != nil {
		return err
	}
	defer h.close()
	d, err := s.decrypt(ctx, l, w)
	if err != nil {
		return err
	}
	defer d.file.Close()
	return h.thaw(ctx, d)
}

// asked refuses what does not go together before anything is filled.
func (l loaded) asked(to deploy.Data) error {
	if to.URL.Empty() && len(to.Volumes) == 0 {
		return fmt.Errorf("%w: nothing was given to restore into", deploy.ErrBadInput)
	}
	if !to.URL.Empty() && l.details.Database == nil {
		return fmt.Errorf("%w: the snapshot holds no database", deploy.ErrBadInput)
	}
	for _, v := range l.details.Volumes {
		if _, there := to.Volumes[v.Name]; !there && len(to.Volumes) > 0 {
			return fmt.Errorf("%w: the snapshot holds the volume %s, and no folder for it was given", deploy.ErrBadInput, v.Name)
		}
	}
	return nil
}

// thawing is an empty database that a snapshot is about to come back into.
type thawing struct {
	*Store
	l     loaded
	work  *work
	where *postgres.Address
	conn  *pgx.Conn
	to    facts
	tools postgres.Binaries
}

// ready refuses a database into which the snapshot cannot come back. close ends the connection.
func (s *Store) ready(ctx context.Context, l loaded, at *postgres.Address, w *work) (*thawing, error) {
	conn, err := connect(ctx, at)
	if err != nil {
		return nil, err
	}
	h := &thawing{Store: s, l: l, work: w, where: at, conn: conn}
	if err := h.refuse(ctx); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *thawing) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = h.conn.Close(ctx) // nothing is open on it
}

func (h *thawing) refuse(ctx context.Context) (err error) {
	if h.to, err = look(ctx, h.conn); err != nil {
		return broken(ctx, "look at the database", err)
	}
	if was := h.l.manifest.Major; h.to.major < was {
		return deploy.Hint(fmt.Errorf("%w: the snapshot is of PostgreSQL %d, and the database is %d", deploy.ErrUnsupported, was, h.to.major), "restore into PostgreSQL "+strconv.Itoa(was)+" or newer")
	}
	if h.tools, err = toolsFor(max(h.to.major, major(h.l.manifest.Tool))); err != nil {
		return err
	}
	if err := empty(ctx, h.conn); err != nil {
		return err
	}
	return available(ctx, h.conn, h.l.details)
}

// thaw fills the database with a dump, and compares it.
func (h *thawing) thaw(ctx context.Context, d *dumped) error {
	chosen, err := choose(ctx, h.conn, d.contents, h.to)
	if err != nil {
		return err
	}
	if len(chosen.left) > 0 {
		h.c.Log.Warn("some things of a snapshot are not restored: this role may not do so, or roles that they name are not there", "things", slices.Sorted(maps.Keys(chosen.left)))
	}
	f := &filling{thawing: h, dump: d, tables: d.contents.plainTables(), filled: map[int]filledTable{}}
	if err := f.run(ctx, chosen); err != nil {
		return err
	}
	if err := h.at("restored"); err != nil {
		return err
	}
	began := time.Now()
	if err := f.compare(ctx, chosen); err != nil {
		return err
	}
	h.c.Log.Info("what came back is what was taken", "snapshot", h.l.manifest.ID, "compared", time.Since(began))
	return nil
}

func major(version string) int {
	text, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(text) // 0: any will do
	return n
}

// available says which extensions the server lacks: that is no fault of the snapshot.
func available(ctx context.Context, conn *pgx.Conn, d details) error {
	rows, err := conn.Query(ctx, "select name::text from pg_available_extensions")
	if err != nil {
		return broken(ctx, "ask for extensions", err)
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return broken(ctx, "ask for extensions", err)
	}
	for _, e := range d.Extensions {
		if !slices.Contains(there, e.Name) && !slices.Contains(platformExtensions, e.Name) {
			return deploy.Hint(fmt.Errorf("%w: the snapshot needs the extension %s, which the server does not have", deploy.ErrUnsupported, e.Name), "install the package of the extension "+e.Name)
		}
	}
	return nil
}

// openPart opens a part of a snapshot to read.
func (s *Store) openPart(ctx context.Context, l loaded, name string) (*opened, func(), error) {
	for _, p := range l.manifest.Parts {
		if p.Name != name {
			continue
		}
		from, err := s.place.open(ctx, path.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%w: %s is missing", deploy.ErrDamaged, name)
		}
		if err != nil {
			return nil, nil, err
		}
		o, err := unseal(&aliveReader{ctx, from}, p, l.keys)
		if err != nil {
			return nil, nil, errors.Join(err, from.Close())
		}
		return o, func() { o.Close(); _ = from.Close() }, nil // it was read
	}
	return nil, nil, fmt.Errorf("%w: the manifest names no %s", deploy.ErrDamaged, name)
}

// dumped is a dump in a file without a name, and what is in it.
type dumped struct {
	file     *os.File
	contents *contents
}

// decrypt puts the dump into a file without a name, and compares it with the manifest while it goes by, so that nothing is filled with
// what is not right. pg_restore needs a file, to fill tables and build indexes two at a time.
func (s *Store) decrypt(ctx context.Context, l loaded, w *work) (*dumped, error) {
	r, done, err := s.openPart(ctx, l, databaseName)
	if err != nil {
		return nil, err
	}
	defer done()
	file, err := w.hidden()
	if err != nil {
		return nil, spaced(err, w.dir)
	}
	c, err := readArchive(io.TeeReader(r, &firstError{to: file}))
	if errors.Is(err, errCut) || errors.Is(err, errFormat) {
		err = fmt.Errorf("%w: %s: %w", deploy.ErrDamaged, databaseName, err)
	}
	if err == nil {
		if wrong := l.details.differences(c.found(), comparison{sameMajor: true}); len(wrong) > 0 {
			err = fmt.Errorf("%w: %s is not what the manifest says: %s", deploy.ErrDamaged, databaseName, sentence(wrong))
		}
	}
	if err == nil {
		err = s.at("decrypted")
	}
	if err != nil {
		return nil, errors.Join(spaced(err, "the dump, to be restored,"), file.Close())
	}
	return &dumped{file, c}, nil
}

// choice is what of an archive is restored.
type choice struct {
	kept []entry
	left map[string]bool // by what they are
}

func (c choice) isLeft(o object) bool {
	return c.left[o.What] || strings.HasPrefix(o.What, "acl ") || strings.HasPrefix(o.What, "default acl ")
}

// choose leaves out what the role that restores may not do. A role that a policy names must be there: a policy that is left out would
// show people what they must not see.
func choose(ctx context.Context, conn *pgx.Conn, c *contents, f facts) (choice, error) {
	rows, err := conn.Query(ctx, "select rolname::text from pg_roles")
	if err != nil {
		return choice{}, broken(ctx, "ask for roles", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return choice{}, broken(ctx, "ask for roles", err)
	}
	chosen := choice{left: map[string]bool{}}
	for _, e := range c.entries {
		if e.kind == "POLICY" {
			for _, role := range policyRoles(e.statement) {
				if !slices.Contains(roles, role) {
					return choice{}, deploy.Hint(fmt.Errorf("%w: there is no role %s, which %s is for", deploy.ErrMissing, role, e.what()), "create role "+pgx.Identifier{role}.Sanitize()+" nologin;")
				}
			}
		}
		if ofPlatform(e) || !f.superuser && forSuperusers(e, roles) {
			chosen.left[e.what()] = true
			continue
		}
		chosen.kept = append(chosen.kept, e)
	}
	return chosen, nil
}

// forSuperusers are entries that an owner of a database is refused, without which an app works as before.
func forSuperusers(e entry, roles []string) bool {
	switch e.kind {
	case "COMMENT":
		return strings.HasPrefix(e.name, "EXTENSION ") || e.name == "SCHEMA public"
	case "EVENT TRIGGER", "DEFAULT ACL":
		return true
	case "SCHEMA":
		return e.name == "public"
	case "ACL":
		return e.name == "SCHEMA public" || slices.ContainsFunc(grantees(e.statement), func(role string) bool { return !slices.Contains(roles, role) })
	}
	return false
}

const identifier = `("(?:[^"]|"")+"|[\w$]+)`

var (
	grantee  = regexp.MustCompile(`(?m)(?:\bTO|\bFROM|SESSION AUTHORIZATION) ` + identifier + `(?: WITH GRANT OPTION)?;$`)
	policyTo = regexp.MustCompile(`^CREATE POLICY ` + identifier + ` ON (?:ONLY )?` + identifier + `(?:\.` + identifier + `)?(?: AS RESTRICTIVE)?(?: FOR [A-Z]+)? TO (` + identifier + `(?:, ` + identifier + `)*)`)
	oneName  = regexp.MustCompile(identifier)
)

// grantees are the roles that a statement of rights names.
func grantees(statement string) (roles []string) {
	for _, found := range grantee.FindAllStringSubmatch(statement, -1) {
		if role := unquoted(found[1]); role != "PUBLIC" && role != "DEFAULT" {
			roles = append(roles, role)
		}
	}
	return roles
}

// policyRoles are the roles that a policy is for; none for everybody.
func policyRoles(statement string) (roles []string) {
	found := policyTo.FindStringSubmatch(statement)
	if found == nil {
		return nil
	}
	for _, role := range oneName.FindAllString(found[4], -1) {
		roles = append(roles, unquoted(role))
	}
	return roles
}

func unquoted(name string) string {
	if strings.HasPrefix(name, `"`) {
		return strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
	}
	return name
}
