package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) statusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show what every stage serves", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			c := s.client()
			all, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]any{"stages": all})
			}
			if len(all) == 0 {
				s.say("nothing was deployed yet; `lotse deploy` in a folder with lotse.yaml begins")
				return nil
			}
			s.showStatus(all, s.names(ctx, c, actorsOf(all)))
			return nil
		})}
}

func actorsOf(all []deploy.StageStatus) []string {
	ids := []string{}
	for _, st := range all {
		if st.Serves != nil {
			ids = append(ids, st.Serves.Actor)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *session) showStatus(all []deploy.StageStatus, name func(string) string) {
	var rows [][]string
	var notes []string
	for _, st := range all {
		rows = append(rows, s.lane(st, name))
		notes = append(append(notes, notesOf(st)...), s.watchNotes(st)...)
	}
	s.columns([]string{"STAGE", "ADDRESS", "RELEASE", "COMMIT", "SINCE", "BY", "HEALTHY", "WARM UNTIL", "ON ITS WAY"}, rows)
	for _, note := range notes {
		s.say("%s", note)
	}
}

// lane is a stage as one row.
func (s *session) lane(st deploy.StageStatus, name func(string) string) []string {
	cells := []string{cleanLine(st.Stage.String()), cleanLine(st.URL), "nothing", "-", "-", "-", "-", "-", "-"}
	if l := st.Serves; l != nil {
		since := "watched" // it has traffic and has not settled
		if !l.Since.IsZero() {
			since = ago(l.Since, s.now())
		}
		copy(cells[2:], []string{release(l.Release), commit(l.Commit), since, name(l.Actor), healthy(st.Running, cmp.Or(l.Runs, l.Rollout))})
	}
	if len(st.Warm) > 0 {
		cells[7] = release(st.Warm[0].Release) + " " + in(st.Warm[0].Until, s.now())
	}
	if st.OnItsWay != nil {
		cells[8] = heading(*st.OnItsWay)
	}
	return cells
}

// healthy is how many of a rollout's instances are; "static" where it has none.
func healthy(all []deploy.Running, rollout string) string {
	i := slices.IndexFunc(all, func(r deploy.Running) bool { return r.Rollout == rollout })
	if i < 0 {
		return "-"
	}
	good, total := 0, 0
	for _, service := range all[i].Services {
		for _, instance := range service.Instances {
			total++
			if instance.Healthy {
				good++
			}
		}
	}
	if total == 0 {
		return "static"
	}
	return fmt.Sprintf("%d/%d", good, total)
}

// notesOf says below the table what a cell has no room for.
func notesOf(st deploy.StageStatus) []string {
	var notes []string
	if st.Data != "" {
		notes = append(notes, fmt.Sprintf("%s: %s; `lotse db status` has more", st.Stage, cleanLine(st.Data)))
	}
	if l := st.Serves; l != nil && l.Bad != "" {
		notes = append(notes, fmt.Sprintf("%s: %s is marked as bad: %s", st.Stage, release(l.Release), cleanLine(l.Bad)))
	}
	if f := st.Frozen; f != nil {
		until := "until it is thawed"
		if !f.Until.IsZero() {
			until = "until " + f.Until.Local().Format(time.DateTime)
		}
		notes = append(notes, fmt.Sprintf("%s: frozen %s: %s; `lotse thaw %s` ends it", st.Stage, until, cleanLine(f.Reason), clean(st.Stage.Stage)))
	}
	if c := st.Closed; c != nil && c.Maintenance {
		notes = append(notes, fmt.Sprintf("%s: a page with 503 answers; `lotse maintenance %s --off` ends it", st.Stage, clean(st.Stage.Stage)))
	} else if c != nil {
		notes = append(notes, fmt.Sprintf("%s: requests wait until %s, %d now", st.Stage, c.Until.Local().Format(time.TimeOnly), c.Waiting))
	}
	if st.Note != "" {
		notes = append(notes, fmt.Sprintf("%s: %s", st.Stage, cleanLine(st.Note)))
	}
	for _, r := range st.Running {
		for _, service := range r.Services {
			for _, i := range service.Instances {
				if !i.Healthy {
					notes = append(notes, cleanLine(fmt.Sprintf("%s: %s[%d] of %s is not healthy: %s", st.Stage, service.Name, i.Number, r.Rollout, unhealthy(i))))
				}
			}
		}
	}
	return notes
}

func unhealthy(i deploy.RunningInstance) string {
	why := orDash(i.Note)
	if i.Restarts > 0 {
		why += ", " + count(i.Restarts, "restart", "restarts")
	}
	return why
}

func (s *session) historyCommand() *cobra.Command {
	given, limit := "", 0
	c := &cobra.Command{Use: "history", Short: "List rollouts, the newest first", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if limit < 0 {
				return &failure{Code: "bad-input", Message: "--limit is a number from 0 up"}
			}
			c := s.client()
			app, stage := stageFlag(given)
			rollouts, err := c.History(ctx, app, stage, limit)
			if err != nil {
				return err
			}
			if len(rollouts) == 0 && given != "" {
				if err := s.mustKnow(ctx, c, given); err != nil {
					return err
				}
			}
			if s.json {
				return s.answer(map[string]any{"rollouts": rollouts})
			}
			if len(rollouts) == 0 {
				s.say("no rollouts")
				return nil
			}
			s.showHistory(ctx, c, rollouts)
			return nil
		})}
	c.Flags().StringVar(&given, "stage", "", "only of this stage, as STAGE or APP/STAGE")
	c.Flags().IntVarP(&limit, "limit", "n", 20, "at most so many; 0 is all")
	return c
}

// mustKnow is an error where neither the controller nor lotse.yaml of this folder has a stage.
func (s *session) mustKnow(ctx context.Context, c *api.Client, given string) error {
	all, err := c.Status(ctx)
	if err != nil {
		return err
	}
	app, stage := stageFlag(given)
	if s.Outline != nil {
		if here, err := s.Outline(absolute(".")); err == nil && (app == "" || app == here.App) && slices.Contains(here.Stages, stage) {
			return nil
		}
	}
	var names []string
	for _, st := range all {
		if st.Stage.Stage == stage && (app == "" || app == st.Stage.App) {
			return nil
		}
		names = append(names, st.Stage.String())
	}
	return &failure{Code: "not-found", Message: fmt.Sprintf("there is no stage %q", given), Hint: hintOfStages(names, given)}
}

func (s *session) showHistory(ctx context.Context, c *api.Client, rollouts []deploy.Rollout) {
	ids := []string{}
	for _, r := range rollouts {
		ids = append(ids, r.Actor)
	}
	slices.Sort(ids)
	name := s.names(ctx, c, slices.Compact(ids))
	var rows [][]string
	for _, r := range rollouts {
		lasted := "-"
		if r.Outcome.Ended() {
			lasted = took(r.Ended.Sub(r.Began))
		}
		rows = append(rows, []string{r.ID, cleanLine(r.Stage.String()), how(r), release(r.Release), commit(r.Commit), by(r, name(r.Actor)),
			ago(r.Began, s.now()), lasted, outcome(r)})
	}
	s.columns([]string{"ROLLOUT", "STAGE", "HOW", "RELEASE", "COMMIT", "BY", "BEGAN", "TOOK", "OUTCOME"}, rows)
}

// how is the verb, and whether a freeze or a window was passed.
func how(r deploy.Rollout) string {
	verb := string(cmp.Or(r.Verb, deploy.Deployed))
	if r.Override != "" {
		verb += ", now"
	}
	return verb
}

// letsIn are the migrations that the request has let in, with the reason.
func letsIn(r deploy.Rollout) string {
	if len(r.Allowed) == 0 {
		return ""
	}
	return strings.Join(r.Allowed, ", ") + ": " + r.AllowedWhy
}

func outcome(r deploy.Rollout) string {
	switch {
	case r.Turned == nil:
		return string(r.Outcome)
	case r.Turned.Aborted:
		return fmt.Sprintf("%s: aborted at %s", r.Outcome, r.Turned.Step)
	}
	undone := slices.ContainsFunc(r.Steps, func(s deploy.Step) bool { return s.Undone })
	if r.Outcome == deploy.Reverted && !undone { // there was nothing to go back from
		return "failed at " + r.Turned.Step
	}
	return fmt.Sprintf("%s at %s", r.Outcome, r.Turned.Step)
}

func (s *session) showCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a rollout: every step with its time and evidence", Args: cobra.ExactArgs(1),
		ValidArgsFunction: s.completeRollouts,
		RunE: s.run(func(ctx context.Context, args []string) error {
			c := s.client()
			r, err := c.Rollout(ctx, args[0])
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(r)
			}
			s.showRollout(r, by(r, s.names(ctx, c, []string{r.Actor})(r.Actor)))
			return nil
		})}
}

func (s *session) showRollout(r deploy.Rollout, by string) {
	s.pairs("rollout", r.ID, "outcome", outcome(r), "stage", r.Stage.String(), "how", how(r), "now", r.Override, "lets in", letsIn(r), "address", r.URL, "release", string(r.Release),
		"commit", r.Commit, "by", by, "began", moment(r.Began), "ended", ended(r), "before", r.Before)
	p := newProgress()
	p.rollout = r
	s.say("")
	var t table
	for _, row := range p.rows(s.now()) {
		lasted := "-"
		if row.took > 0 {
			lasted = took(row.took)
		}
		t.rows = append(t.rows, []string{strings.Repeat("  ", row.depth) + row.name, string(row.stand), lasted, row.note})
	}
	t.print(s.Out)
	s.showKept(r)
	s.showMiss(r)
}

// showKept says where more of the evidence lies than the ledger has. It may be pruned by now.
func (s *session) showKept(r deploy.Rollout) {
	var all []deploy.Evidence
	for _, step := range r.Steps {
		all = append(all, step.Evidence...)
	}
	if r.Turned != nil {
		all = append(all, r.Turned.Evidence...)
	}
	for _, e := range all {
		if e.File != "" {
			s.say("%s: screenshots and all figures are in %s", cleanLine(e.Probe), filepath.Join(s.stateFolder(), filepath.FromSlash(cleanLine(e.File))))
		}
	}
}

// showMiss says why a rollout went back, with all that was kept.
func (s *session) showMiss(r deploy.Rollout) {
	if r.Turned == nil {
		return
	}
	s.say("")
	f := missedOf(r, "")
	s.say("%s", clean(f.Message))
	if f.Hint != "" {
		s.say("%s", indented("  → ", clean(f.Hint)))
	}
}

func ended(r deploy.Rollout) string {
	if r.Ended.IsZero() {
		return "not yet"
	}
	return moment(r.Ended) + ", after " + took(r.Ended.Sub(r.Began))
}

// pairs prints names and values below each other; what has no value is left out.
func (s *session) pairs(of ...string) {
	var t table
	for pair := range slices.Chunk(of, 2) {
		if value := cleanLine(pair[1]); value != "" {
			t.rows = append(t.rows, []string{pair[0], value})
		}
	}
	t.print(s.Out)
}
