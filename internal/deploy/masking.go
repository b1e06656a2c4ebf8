package deploy

import (
	"context"
	"fmt"
	"slices"

	"github.com/lotse-eu/lotse/internal/secret"
)

// masking is what a copy knows beyond a restore.
type masking struct {
	from   string // the stage whose data it is
	url    secret.Text
	named  []PersonalColumn
	report MaskReport
}

// CopyData begins to give a stage the database of another one with people masked, and returns the id of its job. The stage's volumes stay. ErrRefused
// where the data would go from an earlier stage to a later one; the rest as Restore.
func (c *Controller) CopyData(ctx context.Context, q DataRequest) (string, error) {
	reason, err := reasonOf(q.Reason, "")
	if err != nil {
		return "", err
	}
	if c.Masks == nil {
		return "", fmt.Errorf("%w: this controller copies no databases", ErrUnsupported)
	}
	serves, err := c.served(ctx, q.App, q.Stage)
	if err != nil {
		return "", err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return "", err
	}
	r, err := c.restoring(ctx, h, Copying, Snapshot{}, rolloutID(), q.By)
	if err != nil {
		return "", err
	}
	if err := r.copying(ctx, q.From); err != nil {
		r.abandon(ctx)
		return "", err
	}
	return r.id, r.begin(ctx, dataEvent{From: q.From, Reason: reason}, r.run)
}

// abandon gives both leases back.
func (r *restoration) abandon(ctx context.Context) {
	_ = r.c.Ledger.Release(context.WithoutCancel(ctx), r.holds) // it ends by itself
	r.c.unshut(r.Stage)
	r.giveBack()
}

// copying makes a copy of a restore: it is filled from the database of another stage, and volumes stay where they are.
func (r *restoration) copying(ctx context.Context, from string) error {
	at := func(name string) int {
		return slices.IndexFunc(r.app.Stages, func(s Stage) bool { return s.Name == name })
	}
	switch {
	case at(from) < 0:
		return Hint(fmt.Errorf("%w: %s has no stage %q", ErrNotFound, r.app.Name, from), suggestion(from, namesOfStages(r.app), ""))
	case at(from) <= at(r.stage.Name):
		return Hint(fmt.Errorf("%w: %s comes before %s: data goes from a later stage to an earlier one alone", ErrRefused, from, r.stage.Name),
			"`lotse db copy "+r.stage.Name+" "+from+"` is the other way round")
	}
	url, err := r.c.databaseOf(ctx, r.app.Name, from)
	if err != nil {
		return err
	}
	if url.Empty() || r.set.URL.Empty() {
		return Hint(fmt.Errorf("%w: one of %s and %s has no database that Lotse knows of", ErrRefused, from, r.stage.Name), "database: in lotse.yaml names it")
	}
	r.copies, r.set.Volumes = &masking{from: from, url: url, named: r.app.People}, nil
	return nil
}

func namesOfStages(a App) (names []string) {
	for _, s := range a.Stages {
		names = append(names, s.Name)
	}
	return names
}

// databaseOf is the address of the database of what a stage serves.
func (c *Controller) databaseOf(ctx context.Context, app, stage string) (secret.Text, error) {
	serves, err := c.served(ctx, app, stage)
	if err != nil {
		return secret.Text{}, err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return secret.Text{}, err
	}
	of, err := h.data(ctx)
	return of.URL, err
}

// maskedFill copies, and brings the copy's tables to where the release that the stage serves wants them: it may be newer than the source's.
func (r *restoration) maskedFill(ctx context.Context) (err error) {
	if r.copies.report, err = r.c.Masks.Copy(ctx, MaskOrder{From: r.copies.url, To: r.to.URL, Named: r.copies.named}); err != nil {
		return err
	}
	if !r.stage.Database.Migrates() || r.c.Migrate == nil {
		return nil
	}
	if r.release, err = r.c.Builder.Release(ctx, r.Release); err != nil {
		return err
	}
	_, err = r.migrateAt(ctx, r.to.URL)
	return err
}

// done is the event of a copy that the stage has now.
func (m *masking) done(r *restoration) dataEvent {
	return dataEvent{Kept: r.id, From: m.from, Masked: &m.report, Says: fmt.Sprintf("%s has the %d rows of %s with people masked, %.0f a second, none of %d original values left; what it had until now is kept as %s",
		r.Stage, m.report.Rows, m.from, m.report.Rate(), m.report.Checked, r.id)}
}

// FindPeople says what the columns of a stage's database hold, with what lotse.yaml of the release that it serves says of them.
func (c *Controller) FindPeople(ctx context.Context, app, stage string) (People, error) {
	if c.Masks == nil {
		return People{}, fmt.Errorf("%w: this controller looks for no people", ErrUnsupported)
	}
	serves, err := c.served(ctx, app, stage)
	if err != nil {
		return People{}, err
	}
	h, err := c.holdingsOf(ctx, serves)
	if err != nil {
		return People{}, err
	}
	of, err := h.data(ctx)
	if err != nil {
		return People{}, err
	}
	if of.URL.Empty() {
		return People{}, Hint(fmt.Errorf("%w: %s has no database that Lotse knows of", ErrRefused, h.Stage), "database: in lotse.yaml names it")
	}
	return c.Masks.Find(ctx, of.URL, h.app.People)
}
