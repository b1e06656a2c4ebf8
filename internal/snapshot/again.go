package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// compare holds what came back against the manifest, when all is built.
func (f *filling) compare(ctx context.Context, chosen choice) error {
	how := comparison{sameMajor: f.to.major == f.l.manifest.Major && f.tools.Major == major(f.l.manifest.Tool), left: chosen.isLeft}
	var now found
	group, within := errgroup.WithContext(ctx)
	group.Go(func() error { // meanwhile: without it the app's first questions would take long
		_, err := f.conn.Exec(within, "analyze")
		return broken(within, "analyze the restored database", err)
	})
	group.Go(func() (err error) { now, err = f.found(within); return err })
	if err := group.Wait(); err != nil {
		return err
	}
	if wrong := f.l.details.differences(now, how); len(wrong) > 0 {
		return fmt.Errorf("%w: what came back is not what was taken: %s", deploy.ErrDamaged, sentence(wrong))
	}
	return nil
}

// found is what the database holds. Where we have filled every table, none is read a second time: that its rows are still those that were
// read back is seen by who wrote them.
func (f *filling) found(ctx context.Context) (now found, err error) {
	if len(f.tables) < len(f.dump.contents.sums) {
		return f.reread(ctx)
	}
	var tables []tableDetails
	var sequences map[string]string
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { now, err = f.reread(ctx, "--schema-only"); return err })
	group.Go(func() (err error) { tables, err = f.still(ctx); return err })
	group.Go(func() (err error) { sequences, err = f.stand(ctx); return err })
	err = group.Wait()
	now.tables, now.sequences = tables, sequences
	return now, err
}

// reread dumps what came back, in the way in which it was taken.
func (f *filling) reread(ctx context.Context, options ...string) (found, error) {
	c, err := dump(ctx, f.tools, f.where, f.work.dir, nil, options...)
	if refused, is := errors.AsType[*refusal](err); is {
		return found{}, fmt.Errorf("%w: what came back cannot be read: %s", deploy.ErrDamaged, refused.text)
	}
	if err != nil {
		return found{}, fmt.Errorf("compare what came back: %w", err)
	}
	return c.found(), nil
}

const noSuchTable = "42P01" // of PostgreSQL's table of error codes

// still returns what was read back of each table, where all its rows are of the transaction that wrote those, and none of them is gone.
func (f *filling) still(ctx context.Context) ([]tableDetails, error) {
	var mu sync.Mutex
	now := &contents{entries: f.tables, sums: map[int]sum{}}
	err := f.each(ctx, func(ctx context.Context, conn *pgx.Conn, e entry) error {
		was := f.filled[e.id]
		var all, same int64
		err := conn.QueryRow(ctx, "select count(*), count(*) filter (where xmin = '"+was.xid+"'::xid) from only "+e.quoted()).Scan(&all, &same)
		if told, is := errors.AsType[*pgconn.PgError](err); is && told.Code == noSuchTable {
			return nil // it is not found, then
		}
		if err != nil {
			return broken(ctx, "look at "+e.table()+" again", err)
		}
		if all != was.sum.rows || same != all {
			was.sum = sum{rows: all} // which adds up to nothing that was taken
		}
		mu.Lock()
		defer mu.Unlock()
		now.sums[e.id] = was.sum
		return nil
	}, func(context.Context, *pgx.Conn) error { return nil })
	return now.tables(), err
}

// stand says where the sequences of the dump stand now.
func (f *filling) stand(ctx context.Context) (map[string]string, error) {
	conn, err := connect(ctx, f.where)
	if err != nil {
		return nil, err
	}
	defer closeSoon(conn)
	now := map[string]string{}
	for _, e := range f.dump.contents.entries {
		if e.kind != "SEQUENCE SET" {
			continue
		}
		var at string
		err := conn.QueryRow(ctx, "select last_value::text || ',' || is_called from "+e.quoted()).Scan(&at)
		if told, is := errors.AsType[*pgconn.PgError](err); is && told.Code == noSuchTable {
			continue
		}
		if err != nil {
			return nil, broken(ctx, "look at the sequence "+e.schema+"."+e.name, err)
		}
		now[e.schema+"."+e.name] = at
	}
	return now, nil
}
