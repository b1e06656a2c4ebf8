package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// What a release needs from a stage before it can start there: its public values, its database.

// forInstances leaves out what is for Lotse alone: the token of the source, the addresses of those who are told. What the app names under
// secrets, it gets.
func (a App) forInstances(all []Setting) []Setting {
	own := []string{a.Source.Token, SupabaseToken}
	for _, n := range a.Notify {
		own = append(own, n.URL)
	}
	return slices.DeleteFunc(slices.Clone(all), func(s Setting) bool {
		return slices.Contains(own, s.Name) && !slices.Contains(a.Secrets, s.Name)
	})
}

// SupabaseToken is the setting with which Supabase is asked where a project stands. Lotse alone uses it.
const SupabaseToken = "SUPABASE_ACCESS_TOKEN"

func (w *walk) askWhereabouts(ctx context.Context) error {
	if w.c.Whereabouts == nil {
		return nil
	}
	found, err := w.c.Whereabouts(ctx, w.stage, w.settings.Values)
	for _, e := range found {
		w.prove(e)
	}
	return err
}

// public are the names that the pipeline bakes into what it makes, each once.
func (a App) public() (names []string) {
	for _, s := range a.Pipeline {
		names = append(names, s.Public...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func nothingPublic(_ context.Context, w *walk) (bool, error) {
	w.release = w.source
	return len(w.app.public()) == 0, nil
}

func fill(ctx context.Context, w *walk) error {
	begun := time.Now()
	if err := w.fit(ctx, w.reportStep); err != nil {
		return err
	}
	how := "filled in"
	for _, p := range w.release.Manifest.Public {
		if p.Why != "" {
			how = "built for this stage: " + p.Why
		}
	}
	w.prove(Evidence{Probe: "public values", Figure: fmt.Sprintf("%s %s, in %s", strings.Join(w.app.public(), ", "), how, since(begun))})
	return nil
}

// fit makes of the release that goes from stage to stage the one that this stage gets.
func (w *walk) fit(ctx context.Context, report func(StepEvidence)) (err error) {
	var public []Setting
	for _, name := range w.app.public() {
		if i := slices.IndexFunc(w.settings.Values, func(s Setting) bool { return s.Name == name }); i >= 0 {
			public = append(public, w.settings.Values[i])
		}
	}
	w.release, err = w.c.Builder.Fit(ctx, w.ID, w.app, w.commit, w.source, public, report, w.output)
	return err
}

// addDatabase adds the address of the database that the engine runs for the stage to what its services are given.
func (w *walk) addDatabase(ctx context.Context, engine Engine) error {
	if !w.stage.Database.Own() {
		return nil
	}
	if slices.ContainsFunc(w.settings.Values, func(s Setting) bool { return s.Name == DatabaseURL }) {
		return Hint(fmt.Errorf("%w: %s is set for %s, whose database Lotse runs", ErrBadInput, DatabaseURL, w.Stage),
			"take it out of the env_file or `lotse env rm` it, or take database out of lotse.yaml")
	}
	databases, ok := engine.(Databases)
	if !ok {
		return Hint(fmt.Errorf("%w: it runs no database for %s", ErrUnsupported, w.Stage), "name the secret with the address of one: database: { url: "+DatabaseURL+" }")
	}
	address, err := databases.DatabaseURL(ctx, w.stage.Database)
	if err != nil {
		return err
	}
	w.settings.Values = append(slices.Clone(w.settings.Values), address)
	slices.SortFunc(w.settings.Values, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func noDatabase(_ context.Context, w *walk) (bool, error) { return !w.stage.Database.Own(), nil }

func openDatabase(ctx context.Context, w *walk) error {
	begun := time.Now()
	databases, ok := w.c.opened(w.Stage).(Databases)
	if !ok {
		return fmt.Errorf("%w: it runs no database", ErrUnsupported)
	}
	err := within(ctx, slowVerb, "opening the database", func(ctx context.Context) error {
		return databases.OpenDatabase(ctx, w.lease.Fence, w.stage.Database)
	})
	if err != nil {
		return err
	}
	w.prove(Evidence{Probe: "database", Figure: fmt.Sprintf("PostgreSQL %d takes connections, after %s", w.stage.Database.Postgres, since(begun))})
	return nil
}

// noMigrations is also true where the engine runs them in Start.
func noMigrations(_ context.Context, w *walk) (bool, error) {
	return !w.stage.Database.Migrates() || w.migratesInStart(), nil
}

func (w *walk) migratesInStart() bool {
	inside, ok := w.c.opened(w.Stage).(Migrates)
	return ok && w.stage.Database.Migrations != "" && inside.MigratesInStart(w.stage.Database)
}

// migrate brings the schema to where the release wants it. The old release goes on meanwhile, so a migration must leave it what it uses.
func migrate(ctx context.Context, w *walk) error {
	begun := time.Now()
	done, err := w.runMigrations(ctx, w.Waiting...)
	if err != nil {
		return err
	}
	if command := w.stage.Database.Migrate; command != "" {
		w.prove(Evidence{Probe: "migrations", Figure: done.byCommand(command, since(begun))})
		return nil
	}
	figure := fmt.Sprintf("%d new, %d before, in %s", len(done.Applied), done.Before, since(begun))
	if len(done.Applied) > 0 {
		figure += ": " + strings.Join(done.Applied, ", ")
	}
	if len(done.Late) > 0 {
		figure += "; older than others that were there: " + strings.Join(done.Late, ", ")
	}
	if len(done.Waiting) > 0 {
		figure += "; waiting: " + strings.Join(done.Waiting, ", ")
	}
	if done.TakenOver != "" {
		figure += "; the history of " + done.TakenOver + " was taken over"
	}
	w.prove(Evidence{Probe: "migrations", Figure: figure})
	return w.contracted(ctx)
}

// byCommand is what a command did.
func (m Migrated) byCommand(command string, took time.Duration) string {
	figure := fmt.Sprintf("`%s` ran in %s", command, took)
	if m.Resumed {
		figure += "; a run before it had not come to its end"
	}
	if len(m.Changed) == 0 {
		return figure + "; nothing of the schema is different"
	}
	return figure + "; " + strings.Join(m.Changed, ", ")
}

func (w *walk) databaseURL() (secret.Text, error) {
	name := w.stage.Database.Variable()
	for _, s := range w.settings.Values {
		if s.Name == name {
			return s.Value, nil
		}
	}
	return secret.Text{}, Hint(fmt.Errorf("%w: %s", ErrMissing, name), fmt.Sprintf("`lotse secrets set --stage %s %s`", w.Stage.Stage, name))
}
