package mask

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Config is what a Copier needs.
type Config struct {
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
	Stall time.Duration    // how long a database may say nothing while rows are copied; 0: 2 min
}

// Copier is a deploy.Masks. It is safe for concurrent use.
type Copier struct {
	log   *slog.Logger
	now   func() time.Time
	stall time.Duration

	spare func(*column) bool // of tests: a column whose masking is left out
	reach func(phase string) // of tests: told what begins
}

var _ deploy.Masks = (*Copier)(nil)

// New makes a Copier.
func New(c Config) *Copier {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Copier{log: c.Log, now: c.Now, stall: cmp.Or(c.Stall, stall), spare: func(*column) bool { return false }, reach: func(string) {}}
}

// readers is how many tables are copied at once, each over one connection of the source: masking takes more than one processor, and the
// source has others to serve.
const readers = 2

// Find implements deploy.Masks.
func (c *Copier) Find(ctx context.Context, database secret.Text, named []deploy.PersonalColumn) (deploy.People, error) {
	s, err := openSource(ctx, database)
	if err != nil {
		return deploy.People{}, err
	}
	defer s.close()
	all, err := s.judged(ctx, named)
	if err != nil {
		return deploy.People{}, err
	}
	return all.people(), nil
}

// Copy implements deploy.Masks.
func (c *Copier) Copy(ctx context.Context, order deploy.MaskOrder) (deploy.MaskReport, error) {
	began := c.now()
	from, err := openSource(ctx, order.From)
	if err != nil {
		return deploy.MaskReport{}, err
	}
	defer from.close()
	all, err := from.judged(ctx, order.Named)
	if err != nil {
		return deploy.MaskReport{}, err
	}
	rules, err := all.plan()
	if err != nil {
		return deploy.MaskReport{}, err
	}
	to, err := connect(ctx, order.To)
	if err != nil {
		return deploy.MaskReport{}, err
	}
	defer to.Close(context.WithoutCancel(ctx))
	report := deploy.MaskReport{Tables: len(all.tables), Columns: all.people().Columns, Unique: uniqueKinds(rules)}
	if err := c.fill(ctx, order, from, to, all, rules, &report); err != nil {
		return deploy.MaskReport{}, err
	}
	c.reach("check")
	if err := c.check(ctx, from, order.To, all, &report); err != nil {
		return deploy.MaskReport{}, err
	}
	c.reach("release")
	if err := release(ctx, to); err != nil {
		return deploy.MaskReport{}, err
	}
	report.Took = c.now().Sub(began)
	c.log.Info("a database was copied without people", "tables", report.Tables, "rows", report.Rows, "rows_per_second", int64(report.Rate()), "took", report.Took)
	return report, nil
}

// fill makes the tables, their rows, and their indexes and keys.
func (c *Copier) fill(ctx context.Context, order deploy.MaskOrder, from *source, to *pgx.Conn, all *schema, rules privacy.Rules, report *deploy.MaskReport) error {
	programs, err := findTools(ctx, from.conn)
	if err != nil {
		return err
	}
	dump, err := programs.dump(ctx, order.From, from.snapshot)
	if err != nil {
		return err
	}
	if err := claim(ctx, to); err != nil {
		return err
	}
	c.reach("pre-data")
	if err := programs.restore(ctx, order.To, dump, "pre-data"); err != nil {
		return err
	}
	c.reach("rows")
	began := c.now()
	if report.Rows, err = c.rows(ctx, order, from, all, privacy.NewMasker(keyOf(order.Key), rules)); err != nil {
		return err
	}
	report.Copying = c.now().Sub(began)
	if err := sequences(ctx, from.conn, to, all.sequences); err != nil {
		return err
	}
	c.reach("post-data")
	if err := programs.restore(ctx, order.To, dump, "post-data"); err != nil {
		return err
	}
	return finish(ctx, to)
}

// keyOf is a new key that nobody keeps where none is given.
func keyOf(given secret.Text) []byte {
	if !given.Empty() {
		return []byte(given.Reveal())
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return key
}

// rows copies all tables, the largest first.
func (c *Copier) rows(ctx context.Context, order deploy.MaskOrder, from *source, all *schema, m *privacy.Masker) (int64, error) {
	tables := slices.Clone(all.tables)
	slices.SortStableFunc(tables, func(a, b *table) int { return cmp.Compare(b.rows, a.rows) })
	tables = slices.DeleteFunc(tables, func(t *table) bool { return len(t.columns) == 0 })
	var next, rows atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(readers, len(tables)) {
		group.Go(func() error {
			beside, err := from.beside(ctx)
			if err != nil {
				return err
			}
			defer beside.close()
			to, err := connect(ctx, order.To)
			if err != nil {
				return err
			}
			defer to.Close(context.WithoutCancel(ctx))
			for i := next.Add(1) - 1; i < int64(len(tables)); i = next.Add(1) - 1 {
				n, err := c.copyTable(ctx, beside.conn, to, tables[i], c.rower(tables[i], m))
				if err != nil {
					return err
				}
				rows.Add(n)
			}
			return nil
		})
	}
	err := group.Wait()
	return rows.Load(), cause(ctx, err)
}

// sequences go on where the source's are. They are no part of its snapshot, and never behind it.
func sequences(ctx context.Context, from, to *pgx.Conn, names []string) error {
	for _, name := range names {
		var last int64
		var called bool
		if err := from.QueryRow(ctx, "select last_value, is_called from "+name).Scan(&last, &called); err != nil {
			return told(ctx, "read the sequence "+name, err)
		}
		if _, err := to.Exec(ctx, "select setval($1::text::regclass, $2, $3)", name, last, called); err != nil {
			return told(ctx, "set the sequence "+name, err)
		}
	}
	return nil
}

// finish fills what the server computes from rows.
func finish(ctx context.Context, to *pgx.Conn) error {
	rows, err := to.Query(ctx, "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'm' and "+ours+" order by c.oid")
	if err != nil {
		return told(ctx, "look for materialized views", err)
	}
	views, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return told(ctx, "look for materialized views", err)
	}
	for _, view := range views { // one that reads another was made after it
		if _, err := to.Exec(ctx, "refresh materialized view "+view); err != nil {
			return told(ctx, "refresh "+view, err)
		}
	}
	_, err = to.Exec(ctx, "analyze")
	return told(ctx, "analyze the copy", err)
}

// source is a transaction that sees one moment and changes nothing.
type source struct {
	url      secret.Text
	conn     *pgx.Conn
	snapshot string
	once     sync.Once
}

func openSource(ctx context.Context, url secret.Text) (*source, error) {
	s := &source{url: url}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	if err := s.conn.QueryRow(ctx, "select pg_export_snapshot()").Scan(&s.snapshot); err != nil {
		s.close()
		return nil, told(ctx, "export the snapshot", err)
	}
	return s, nil
}

// beside is another connection that sees the same moment.
func (s *source) beside(ctx context.Context) (*source, error) {
	b := &source{url: s.url}
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	if _, err := b.conn.Exec(ctx, "set transaction snapshot '"+s.snapshot+"'"); err != nil {
		b.close()
		if ctx.Err() == nil { // who exported it is gone, and the snapshot with it
			err = fmt.Errorf("%w: the connection to the source broke", deploy.ErrUnavailable)
		}
		return nil, told(ctx, "take over the snapshot", err)
	}
	return b, nil
}

func (s *source) begin(ctx context.Context) (err error) {
	if s.conn, err = connect(ctx, s.url); err != nil {
		return err
	}
	if _, err = s.conn.Exec(ctx, "begin transaction isolation level repeatable read, read only"); err != nil {
		s.close()
	}
	return told(ctx, "begin to read", err)
}

// judged reads the catalog and judges every column.
func (s *source) judged(ctx context.Context, named []deploy.PersonalColumn) (*schema, error) {
	all, err := readSchema(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	if err := all.judge(ctx, s.conn, named); err != nil {
		return nil, err
	}
	return all, nil
}

const goodbye = 5 * time.Second

func (s *source) close() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbye)
		defer cancel()
		_ = s.conn.Close(ctx) // the server ends the transaction with the connection, however that ends
	})
}

func (c *Copier) damaged(format string, args ...any) error {
	return deploy.Hint(fmt.Errorf("%w: the check of the copy: %s", deploy.ErrDamaged, fmt.Sprintf(format, args...)), "the copy is not used; try again, and tell us where it stays so")
}
