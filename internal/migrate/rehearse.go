package migrate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// A command is judged in two turns. It runs against a clone of the schema, with the rows of the table in which its tool notes what has
// run; a tap keeps the statements. Then these run in another clone as files do, one at a time, and are judged by what is seen of them.

// rehearsed is the database that a command runs in.
const rehearsed = "rehearsed"

// rehearseMost is how long a command may take where there are no rows to work on.
const rehearseMost = 10 * time.Minute

// rehearse judges a command.
func (m *Migrator) rehearse(ctx context.Context, q deploy.MigrationQuestion) (deploy.Judgement, error) {
	begun := time.Now()
	c := &clone{question: q}
	if q.URL.Empty() {
		return deploy.Judgement{}, uncloned("the database is not reached from here")
	}
	var err error
	if c.real, err = peek(ctx, q.URL, nil, q.Command.History); err != nil {
		if ctx.Err() == nil && errors.Is(err, deploy.ErrUnavailable) {
			return deploy.Judgement{}, uncloned(err.Error())
		}
		return deploy.Judgement{}, err
	}
	if err := m.open(ctx, c); err != nil {
		return deploy.Judgement{}, inScratch(ctx, err)
	}
	j, err := c.rehearse(ctx)
	if closed := c.scratch.close(); closed != nil && err == nil {
		m.Log.Warn("a scratch cluster could not be removed; the next one tries again", "error", closed)
	}
	j.Took = time.Since(begun)
	return j, inScratch(ctx, err)
}

func uncloned(why string) error {
	return deploy.Hint(fmt.Errorf("%w: a command is judged on a clone of the database's schema: %s", deploy.ErrUnsupported, why),
		"the controller's machine needs a way to the database, and PostgreSQL in its version or a newer one")
}

// rehearse runs the command in one clone, and what it did in another.
func (c *clone) rehearse(ctx context.Context) (j deploy.Judgement, err error) {
	if !strings.HasPrefix(c.schema, "a dump") {
		return j, uncloned(strings.TrimPrefix(c.schema, "the files that ran before, since "))
	}
	j = deploy.Judgement{Schema: c.schema, Server: c.installed.Version, Lacks: c.lacks}
	if err := c.scratch.copyOf(ctx, rehearsed); err != nil {
		return j, err
	}
	t, err := listen(filepath.Join(c.scratch.cluster.Dir, "run", ".s.PGSQL.5432"))
	if err != nil {
		return j, err
	}
	running, cancel := context.WithTimeoutCause(ctx, rehearseMost, fmt.Errorf("%w: on a clone without rows it has not ended within %s", deploy.ErrMigration, rehearseMost))
	failed := c.question.Command.Run(running, c.instead(t.port()))
	cancel()
	deeds := t.end()
	if failed != nil {
		return c.fails(ctx, j, failed, deeds)
	}
	if err := t.whole(); err != nil {
		return c.unknown(j, err.Error(), deeds), nil
	}
	j.Files, err = c.again(ctx, deeds)
	return j, err
}

// fails is a command that did not come through. Where the clone has all that the database has, the same is to be expected there.
func (c *clone) fails(ctx context.Context, j deploy.Judgement, failed error, deeds []deed) (deploy.Judgement, error) {
	exit, ok := errors.AsType[*deploy.ExitError](failed)
	if ctx.Err() != nil || !ok && !errors.Is(failed, deploy.ErrMigration) {
		return j, failed
	}
	if len(c.lacks) > 0 && ok {
		return c.unknown(j, fmt.Sprintf("it ended with exit code %d", exit.Code), deeds), nil
	}
	return j, deploy.Hint(fmt.Errorf("%w on a clone of the database, before anything ran: %w", deploy.ErrMigration, failed),
		"it finds its database by "+deploy.DatabaseURL+"; for the time of the trial that is another, without TLS")
}

// unknown is a command of which nothing more can be said than why.
func (c *clone) unknown(j deploy.Judgement, why string, deeds []deed) deploy.Judgement {
	v := notJudged(why)
	about := []string{v.Rule, c.question.Command.Line, why}
	for _, d := range deeds {
		for _, a := range d.acts {
			about = append(about, a.sql)
		}
	}
	v.Key = deploy.AllowanceKey(about...)
	j.Files = []deploy.JudgedFile{{Name: c.question.Command.Line, Verdicts: []deploy.Verdict{v}}}
	return j
}

func notJudged(why string) deploy.Verdict {
	r := ruleOf("not-judged")
	return deploy.Verdict{Class: r.class, Rule: r.name, Reason: r.reason + " on a clone of the schema: " + why, Safer: r.safer}
}

// again runs what a command did in another clone, and judges it. What leaves no trace but the tool's own notes is left out.
func (c *clone) again(ctx context.Context, deeds []deed) ([]deploy.JudgedFile, error) {
	t, err := c.begin(ctx, judged)
	if err != nil {
		return nil, err
	}
	defer t.end()
	if err := t.settle(ctx); err != nil {
		return nil, err
	}
	t.session = true // what a statement sets, holds for those after it
	var all []deploy.JudgedFile
	before := t.first
	for i, f := range filesOf(c.question.Command.Line, deeds) {
		of, err := t.judge(ctx, f)
		if err != nil {
			return nil, err
		}
		after, err := lookAt(ctx, t.watcher)
		if err != nil {
			return nil, err
		}
		of.Locks = slices.DeleteFunc(of.Locks, func(l string) bool {
			_, on, _ := strings.Cut(l, " on ")
			return strings.HasPrefix(l, "ROW EXCLUSIVE on ") && slices.Contains(c.real.history, on)
		})
		of.Verdicts = slices.DeleteFunc(of.Verdicts, func(v deploy.Verdict) bool { return slices.Contains(c.real.history, v.On) })
		if len(of.Verdicts) > 0 || len(of.Locks) > 0 || !after.same(before) {
			of.Name = fmt.Sprintf("%s, transaction %d", c.question.Command.Line, i+1)
			all = append(all, of)
		}
		before = after
	}
	return all, nil
}

// filesOf makes of what was committed what can be judged. Statements that each were a transaction are taken together.
func filesOf(command string, deeds []deed) (all []file) {
	for i := 0; i < len(deeds); i++ {
		acts := deeds[i].acts
		alone := !deeds[i].together
		for alone && i+1 < len(deeds) && !deeds[i+1].together {
			i++
			acts = slices.Concat(acts, deeds[i].acts)
		}
		all = append(all, fileOf(command, acts, alone))
	}
	return all
}

func fileOf(command string, acts []act, alone bool) file {
	f := file{name: command, script: script{path: command, alone: alone, acts: acts}}
	for _, a := range acts {
		from := len(f.text)
		f.text = append(f.text, []rune(a.sql)...)
		f.statements = append(f.statements, span{from, len(f.text)})
		f.text = append(f.text, '\n')
	}
	return f
}

// instead are the settings by which the command finds the clone: each that names a PostgreSQL names this one. One that holds a part of
// the real address alone is empty, so that nothing is put together from it.
func (c *clone) instead(port int) []deploy.Setting {
	address := (&url.URL{Scheme: "postgres", User: url.UserPassword(c.scratch.role, c.scratch.key), Host: "127.0.0.1:" + strconv.Itoa(port), Path: "/" + rehearsed,
		RawQuery: "sslmode=disable"}).String()
	set := []deploy.Setting{{Name: deploy.DatabaseURL, Value: secret.New(address)}}
	for name, value := range map[string]string{"PGHOST": "127.0.0.1", "PGPORT": strconv.Itoa(port), "PGUSER": c.scratch.role, "PGPASSWORD": c.scratch.key, "PGDATABASE": rehearsed, "PGSSLMODE": "disable"} {
		set = append(set, deploy.Setting{Name: name, Value: secret.New(value)})
	}
	config, err := pgx.ParseConfig(c.question.URL.Reveal())
	for _, s := range c.question.Command.Settings {
		if slices.ContainsFunc(set, func(o deploy.Setting) bool { return o.Name == s.Name }) {
			continue
		}
		value := s.Value.Reveal()
		switch {
		case strings.HasPrefix(value, "postgres://"), strings.HasPrefix(value, "postgresql://"):
			set = append(set, deploy.Setting{Name: s.Name, Value: secret.New(address)})
		case err != nil, partOf(value, config):
			set = append(set, deploy.Setting{Name: s.Name})
		}
	}
	return set
}

// partOf reports whether a value leads to the database: its host, with its port where others are on the same machine, or its password.
func partOf(value string, config *pgx.ConnConfig) bool {
	host := config.Host
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		host += ":" + strconv.Itoa(int(config.Port))
	}
	return strings.Contains(value, host) || config.Password != "" && strings.Contains(value, config.Password) || value == strconv.Itoa(int(config.Port)) && value != "5432"
}

// copyHistory gives the clone the rows of the tables in which tools note what has run.
func (c *clone) copyHistory(ctx context.Context) error {
	if c.real == nil || len(c.real.history) == 0 {
		return nil
	}
	dump := filepath.Join(c.scratch.dir, "history")
	address, err := postgres.ParseAddress(c.question.URL, "lotse judge")
	if err != nil {
		return translate(err)
	}
	argv := []string{filepath.Join(c.installed.Dir, "pg_dump"), postgres.ServiceArgument, "--data-only", "--lock-wait-timeout=5000", "--no-password", "-Fc", "-f", dump}
	for _, table := range c.real.history {
		schema, name, ok := strings.Cut(table, ".")
		if !ok {
			schema, name = "public", table
		}
		argv = append(argv, "--table="+pgx.Identifier{schema, name}.Sanitize(), "--table="+pgx.Identifier{schema, name + "_id_seq"}.Sanitize())
	}
	if err := tool(ctx, address, argv...); err != nil {
		return fmt.Errorf("what its tool has noted cannot be read: %w", err)
	}
	clone, err := postgres.ParseAddress(secret.New(c.scratch.cluster.Admin(base)), "lotse judge")
	if err != nil {
		return err
	}
	return tool(ctx, clone, filepath.Join(c.installed.Dir, "pg_restore"), postgres.ServiceArgument, dump)
}

// do runs one statement of a file with the values that it was sent with.
func (t *trial) do(ctx context.Context, f file, statement int) error {
	if f.acts == nil || f.acts[statement].values == nil {
		return t.send(ctx, f.piece(statement))
	}
	a := f.acts[statement]
	_, err := t.runner.PgConn().ExecParams(ctx, a.sql, a.values, a.oids, a.formats, nil).Close()
	return err
}

// histories of tools that Lotse does not read itself; their rows are copied as they are.
var notes = []string{"_prisma_migrations", "__drizzle_migrations", "pgmigrations", "knex_migrations", "knex_migrations_lock", "SequelizeMeta", "schema_migrations", "ar_internal_metadata",
	"alembic_version", "django_migrations", "flyway_schema_history", "databasechangelog", "databasechangeloglock", "goose_db_version", "atlas_schema_revisions", "mikro_orm_migrations",
	"kysely_migration", "kysely_migration_lock", "_sqlx_migrations", "__diesel_schema_migrations", "phinxlog", "doctrine_migration_versions", "migrations", "__EFMigrationsHistory"}

// noted finds the tables in which tools note what they have run.
func (r *target) noted(ctx context.Context, tx pgx.Tx, own string) (err error) {
	r.history, err = names(ctx, tx, `select case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'lotse') and (c.relname::text = any ($1::text[]) or $2::text in (c.relname::text, n.nspname || '.' || c.relname)) order by 1`, notes, own)
	return err
}
