package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// Judge implements deploy.Migrator. It takes a PostgreSQL of this machine for some seconds; deploy.ErrUnsupported where there is none.
func (m *Migrator) Judge(ctx context.Context, q deploy.MigrationQuestion) (deploy.Judgement, error) {
	if q.Command != nil {
		return m.rehearse(ctx, q)
	}
	begun := time.Now()
	folder, err := read(q.Files, q.Dir)
	if err != nil {
		return deploy.Judgement{}, err
	}
	c := &clone{question: q, folder: folder}
	if err := c.ask(ctx); err != nil || len(c.todo) == 0 {
		return deploy.Judgement{Took: time.Since(begun)}, err
	}
	j, err := m.judge(ctx, c)
	if err != nil {
		return deploy.Judgement{}, inScratch(ctx, err)
	}
	if err := c.independent(ctx, &j); err != nil {
		return deploy.Judgement{}, inScratch(ctx, errors.Join(err, c.scratch.close()))
	}
	if err := c.scratch.close(); err != nil {
		m.Log.Warn("a scratch cluster could not be removed; the next one tries again", "error", err)
	}
	j.Took = time.Since(begun)
	return j, nil
}

// JudgeEach judges every file of a folder, each by the schema that those before it make.
func (m *Migrator) JudgeEach(ctx context.Context, files fs.FS, dir string) (deploy.Judgement, error) {
	folder, err := read(files, dir)
	if err != nil {
		return deploy.Judgement{}, err
	}
	begun := time.Now()
	c := &clone{question: deploy.MigrationQuestion{Files: files, Dir: dir}, folder: folder, todo: folder, each: true}
	j, err := m.judge(ctx, c)
	if err != nil {
		return deploy.Judgement{}, inScratch(ctx, err)
	}
	j.Took = time.Since(begun)
	return j, c.scratch.close()
}

// Files are the names of the migrations in a folder, in the order in which they run. Every mistake that can be seen without a database is
// found.
func Files(files fs.FS, dir string) (names []string, err error) {
	folder, err := read(files, dir)
	for _, f := range folder {
		names = append(names, f.name)
	}
	return names, err
}

// inScratch is an error of what Lotse does itself in the scratch cluster.
func inScratch(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, deploy.ErrMigration) || errors.Is(err, deploy.ErrUnsupported) {
		return err
	}
	return deploy.Hint(fmt.Errorf("%w: migrations could not be judged: %w", deploy.ErrUnavailable, err), postgres.HintOf(err))
}

// clone is the schema on which files are tried.
type clone struct {
	question deploy.MigrationQuestion
	folder   []file
	todo     []file
	real     *target // nil: it cannot be asked
	scratch  *scratch
	schema   string

	installed postgres.Binaries
	lacks     []string
	each      bool     // every file is judged by the schema that those before it make
	last      *catalog // after all files
}

// ask finds out which files would run.
func (c *clone) ask(ctx context.Context) error {
	if !c.question.URL.Empty() {
		r, err := peek(ctx, c.question.URL, c.folder, "")
		if err == nil {
			c.real, c.todo = r, r.todo
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, deploy.ErrUnavailable) && !errors.Is(err, fs.ErrNotExist) { // what its address names is made with it
			return err
		}
	}
	for _, f := range c.folder {
		if !slices.Contains(c.question.Ran, f.name) {
			c.todo = append(c.todo, f)
		}
	}
	return nil
}

// open makes the scratch cluster with the schema in it, and leaves it open where it returns no error.
func (m *Migrator) open(ctx context.Context, c *clone) (err error) {
	major, role := 0, nobody
	var roles []string
	if c.real != nil {
		major, role, roles = c.real.major, c.real.user, c.real.roles
	}
	if c.supabase() {
		role = "postgres" // as it is called there
	}
	installed, whole, err := found(major)
	if err != nil {
		return err
	}
	c.installed = installed
	if c.scratch, err = openScratch(ctx, c.installed, role); err != nil {
		return err
	}
	if err = c.scratch.prepare(ctx, base, roles); err == nil {
		err = c.fill(ctx, whole)
	}
	if err != nil {
		err = errors.Join(err, c.scratch.close())
	}
	return err
}

// judge runs what would run in a clone, and leaves that open where it returns no error.
func (m *Migrator) judge(ctx context.Context, c *clone) (j deploy.Judgement, err error) {
	if err := m.open(ctx, c); err != nil {
		return j, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.scratch.close())
		}
	}()
	j = deploy.Judgement{Schema: c.schema, Server: c.installed.Version, Lacks: c.lacks}
	t, err := c.begin(ctx, judged)
	if err != nil {
		return j, err
	}
	defer t.end()
	for _, f := range c.todo {
		if c.each {
			if t.first, err = lookAt(ctx, t.watcher); err != nil {
				return j, err
			}
		}
		of, err := t.judge(ctx, f)
		if err != nil {
			return j, err
		}
		j.Files = append(j.Files, of)
	}
	c.last, err = lookAt(ctx, t.watcher)
	return j, err
}

// Databases of a scratch cluster.
const (
	base   = "base"   // the clone, before anything
	judged = "judged" // in which files run in their order
	again  = "again"  // in which those run first that do not wait
)

// nobody is who runs migrations where nobody knows.
const nobody = "lotse_app"

// fill makes the schema as it is now: from the database, else from what has run there.
func (c *clone) fill(ctx context.Context, whole bool) error {
	why := "the database cannot be reached from here"
	if c.real == nil && c.question.URL.Empty() {
		why = "no database was asked"
	}
	if c.real != nil && whole {
		lacks, err := c.scratch.dump(ctx, c.real, c.question.URL, c.installed, base)
		if err == nil {
			c.schema, c.lacks = "a dump of the database's schema", lacks
			if c.question.Command != nil {
				return c.copyHistory(ctx)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		why = "pg_dump could not read the database"
	} else if c.real != nil {
		why = fmt.Sprintf("the database is of version %s, and this machine has PostgreSQL %s", c.real.server, c.installed.Version)
	}
	c.schema = "the files that ran before, since " + why
	t := &trial{scratch: c.scratch, folder: true}
	defer t.end()
	if err := t.connect(ctx, base); err != nil {
		return err
	}
	if c.supabase() {
		if err := c.scratch.supabase(ctx, base); err != nil {
			return err
		}
	}
	for _, f := range c.folder {
		if slices.ContainsFunc(c.todo, func(o file) bool { return o.name == f.name }) {
			continue
		}
		if err := t.replay(ctx, f); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if len(c.lacks) < mostLacks {
				c.lacks = append(c.lacks, "what "+f.name+" makes")
			}
		}
	}
	return nil
}

// supabase reports whether the files are meant for a project of Supabase.
func (c *clone) supabase() bool {
	return strings.HasSuffix(path.Clean(c.question.Dir), "supabase/migrations") || c.real != nil && slices.Contains(c.real.roles, "supabase_admin")
}

// independent finds out which files behind one that may have to wait can go before it: they run without it, and when it comes later the
// schema is the same. One that writes rows of a table that was there is taken to need it, since nobody can tell what it writes.
func (c *clone) independent(ctx context.Context, j *deploy.Judgement) error {
	var first, wait []int
	for i, f := range j.Files {
		if f.Class() == deploy.Contract {
			wait = append(wait, i)
		} else {
			first = append(first, i)
		}
	}
	if len(wait) == 0 || len(first) == 0 || first[len(first)-1] < wait[0] {
		return nil
	}
	if err := c.scratch.copyOf(ctx, again); err != nil {
		return err
	}
	t := &trial{scratch: c.scratch}
	defer t.end()
	if err := t.connect(ctx, again); err != nil {
		return err
	}
	needs := map[int]bool{}
	for _, i := range first {
		if err := t.replay(ctx, c.todo[i]); err != nil || writes(j.Files[i]) {
			needs[i] = true
		}
	}
	same := true
	for _, i := range wait {
		same = t.replay(ctx, c.todo[i]) == nil && same
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	last, err := lookAt(ctx, t.watcher)
	if err != nil {
		return err
	}
	if len(needs) == 0 && !last.same(c.last) {
		same = false
	}
	for _, i := range first {
		if !needs[i] && same {
			continue
		}
		for _, w := range wait {
			if w < i {
				j.Files[i].Needs = append(j.Files[i].Needs, j.Files[w].Name)
			}
		}
	}
	return nil
}

func writes(f deploy.JudgedFile) bool {
	return slices.ContainsFunc(f.Locks, func(l string) bool { return strings.HasPrefix(l, "ROW EXCLUSIVE on ") })
}
