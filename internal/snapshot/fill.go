package snapshot

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// filling brings a dump back in three parts: pg_restore makes the tables; we fill them, and read each back as soon as it is full; pg_restore
// builds indexes and does the rest. That takes less time than pg_restore alone: a table that is made and filled in one transaction is written
// with its rows frozen (COPY's FREEZE), so that neither who builds an index nor who reads back writes each page a second time.
type filling struct {
	*thawing
	dump   *dumped
	tables []entry // that we fill; what else has data is pg_restore's

	mu     sync.Mutex
	filled map[int]filledTable // by id of the entry
}

// filledTable is what was read back of a table, and the transaction that wrote it: as long as there are as many rows, all of that
// transaction, they are the ones that were read.
type filledTable struct {
	sum sum
	xid string
}

// jobs is how many connections fill tables and build indexes: as many as the smallest machines have cores.
const jobs = 2

func (f *filling) run(ctx context.Context, chosen choice) error {
	if err := f.at("restore"); err != nil {
		return err
	}
	var tables, rest []entry
	for _, e := range chosen.kept {
		switch {
		case e.section == sectionTables:
			tables = append(tables, e)
		case !slices.ContainsFunc(f.tables, func(ours entry) bool { return ours.id == e.id }):
			rest = append(rest, e)
		}
	}
	began := time.Now()
	if err := f.pour(ctx, tables); err != nil {
		return err
	}
	if err := f.at("rows"); err != nil {
		return err
	}
	made := time.Now()
	if err := f.rows(ctx); err != nil {
		return err
	}
	full := time.Now()
	err := f.pour(ctx, rest)
	f.c.Log.Info("filled the database", "snapshot", f.l.manifest.ID, "tables", made.Sub(began), "rows", full.Sub(made), "indexes", time.Since(full))
	return err
}

// plainTables are the entries with rows of tables that the archive makes, the largest first. Others (those of an extension, which puts rows of
// its own into them; large objects) are left to pg_restore.
func (c *contents) plainTables() (all []entry) {
	made := map[string]bool{}
	for _, e := range c.entries {
		if e.kind == "TABLE" && (e.access == "" || e.access == "heap") {
			made[e.table()] = true
		}
	}
	for _, e := range c.entries {
		if e.kind == kindRows && made[e.table()] && e.copies() != "" {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(c.blocks[b.id].size(), c.blocks[a.id].size()) })
	return all
}

func (b block) size() int64 { return b.end - b.begin }

// copies is COPY up to its direction: "COPY public.people (id, email) ".
func (e entry) copies() string {
	text, is := strings.CutSuffix(strings.TrimSpace(e.fill), "FROM stdin;")
	if !is {
		return ""
	}
	return text
}

// quoted is the name of the table of an entry, as statements have it.
func (e entry) quoted() string { return pgx.Identifier{e.schema, e.name}.Sanitize() }

// pour runs pg_restore. It reads the file by its descriptor, and each of its workers from its own place in it.
func (f *filling) pour(ctx context.Context, entries []entry) error {
	list := filepath.Join(f.work.dir, "list")
	var text strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&text, "%d;\n", e.id)
	}
	if err := os.WriteFile(list, []byte(text.String()), 0o600); err != nil {
		return spaced(err, f.work.dir)
	}
	argv := []string{filepath.Join(f.tools.Dir, "pg_restore"), postgres.ServiceArgument, "--no-password", "--exit-on-error", "--no-tablespaces",
		"--jobs=" + strconv.Itoa(jobs), "--use-list=" + list}
	if !f.to.superuser {
		argv = append(argv, "--no-owner")
	}
	p, err := start(ctx, f.where, f.work.dir, nil, []*os.File{f.dump.file}, append(argv, "/dev/fd/3")...)
	if err != nil {
		return err
	}
	if err := p.wait(); err != nil {
		return p.failed(ctx, "pg_restore", err)
	}
	return nil
}

// rows fills the tables; who finds no more to fill reads back what is full.
func (f *filling) rows(ctx context.Context) error {
	full := make(chan entry, len(f.tables))
	var left atomic.Int64
	left.Store(int64(len(f.tables)))
	return f.each(ctx, func(ctx context.Context, conn *pgx.Conn, e entry) error {
		if err := f.fill(ctx, conn, e); err != nil {
			return err
		}
		full <- e
		if left.Add(-1) == 0 {
			close(full)
		}
		return nil
	}, func(ctx context.Context, conn *pgx.Conn) error {
		for {
			select {
			case e, more := <-full:
				if !more {
					return nil
				}
				if err := f.readBack(ctx, conn, e); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// each does something with every table, over connections of our own, and with each connection something at last.
func (f *filling) each(ctx context.Context, do func(context.Context, *pgx.Conn, entry) error, last func(context.Context, *pgx.Conn) error) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(jobs, len(f.tables)) {
		group.Go(func() error {
			conn, err := connect(ctx, f.where)
			if err != nil {
				return err
			}
			defer closeSoon(conn)
			if err := f.asPgDump(ctx, conn); err != nil {
				return broken(ctx, "prepare a connection", err)
			}
			for i := next.Add(1) - 1; i < int64(len(f.tables)); i = next.Add(1) - 1 {
				if err := do(ctx, conn, f.tables[i]); err != nil {
					return err
				}
			}
			return last(ctx, conn)
		})
	}
	return group.Wait()
}

func closeSoon(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = conn.Close(ctx) // what was to be kept is committed
}

// asPgDump makes a connection read and write rows as those of pg_dump do, so that what was read back adds up to the same.
func (f *filling) asPgDump(ctx context.Context, conn *pgx.Conn) error {
	var text strings.Builder
	for _, e := range f.dump.contents.entries {
		if e.kind == "ENCODING" || e.kind == "STDSTRINGS" {
			text.WriteString(e.statement)
		}
	}
	text.WriteString(`set search_path = ''; set datestyle = iso; set intervalstyle = postgres; set extra_float_digits = 3; set timezone = 'UTC'; set xmloption = content;
		set row_security = off; set statement_timeout = 0; set lock_timeout = '60s'; set idle_in_transaction_session_timeout = 0`)
	return conn.PgConn().Exec(ctx, text.String()).Close()
}

// fill writes the rows of a table.
func (f *filling) fill(ctx context.Context, conn *pgx.Conn, e entry) error {
	t, server := filledTable{}, conn.PgConn()
	// Emptied in the same transaction, so that its rows can be written frozen.
	if err := server.Exec(ctx, "begin; truncate only "+e.quoted()).Close(); err != nil {
		return refusedRows(ctx, e, err)
	}
	if err := conn.QueryRow(ctx, "select (txid_current() & 4294967295)::text").Scan(&t.xid); err != nil {
		return broken(ctx, "ask for the transaction", err)
	}
	if _, err := server.CopyFrom(ctx, f.dump.rows(e), e.copies()+"from stdin with (freeze)"); err != nil {
		return refusedRows(ctx, e, err)
	}
	if err := server.Exec(ctx, "commit").Close(); err != nil {
		return refusedRows(ctx, e, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filled[e.id] = t
	return nil
}

// readBack adds up the rows of a table that is full.
func (f *filling) readBack(ctx context.Context, conn *pgx.Conn, e entry) error {
	var back lineSum
	if _, err := conn.PgConn().CopyTo(ctx, &back, e.copies()+"to stdout"); err != nil {
		return broken(ctx, "read "+e.table()+" back", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filled[e.id] = filledTable{back.sum, f.filled[e.id].xid}
	return nil
}

// Write adds what COPY says.
func (l *lineSum) Write(p []byte) (int, error) { l.add(p); return len(p), nil }

// refusedRows says why rows were not taken, without repeating a value of them.
func refusedRows(ctx context.Context, e entry, err error) error {
	told, ok := errors.AsType[*pgconn.PgError](err)
	if err = broken(ctx, "fill "+e.table(), err); !ok || ctx.Err() != nil || deploy.CodeOf(err) != "internal" {
		return err
	}
	return &refusal{"fill " + e.table() + ": " + plain(told.Message)}
}

// rows are those of one entry, as COPY takes them.
func (d *dumped) rows(e entry) io.Reader {
	b := d.contents.blocks[e.id]
	return &pieces{a: archiveReader{r: bufio.NewReaderSize(io.NewSectionReader(d.file, b.begin, b.size()), readBuffer), ints: d.contents.ints}}
}

// pieces is the data of a block, without the lengths between.
type pieces struct {
	a     archiveReader
	left  int // of the piece that is being read
	ended bool
}

// Read fills p: what sends rows on sends each Read by itself, and a piece is one row.
func (p *pieces) Read(to []byte) (n int, err error) {
	for n < len(to) && !p.ended && err == nil {
		if p.left == 0 {
			p.left, err = p.a.int()
			p.ended = p.left == 0
			continue
		}
		var read int
		read, err = p.a.r.Read(to[n:min(len(to), n+p.left)])
		n, p.left = n+read, p.left-read
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
