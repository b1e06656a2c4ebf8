package cli

import (
	"context"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) dbCopyCommand() *cobra.Command {
	var q deploy.DataRequest
	c := &cobra.Command{Use: "copy FROM TO", Short: "Give a stage another one's data, with people masked", Args: cobra.ExactArgs(2),
		Long: "Copies the database of the stage FROM into a new one beside that of the stage TO, with invented people in place of real ones, checks that no\n" +
			"original value is left, and switches to it while requests wait. A column that cannot be judged stops the copy until lotse.yaml names\n" +
			"it under people; `lotse db people` lists them. What TO had is kept until `lotse db forget`. Volumes are not copied.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			from, to := args[0], args[1]
			if app, stage := stageFlag(from); app != "" && !strings.Contains(to, "/") {
				to, from = app+"/"+to, stage
			} else {
				from = stage
			}
			q.From, q.Stage = from, to
			return s.job(ctx, q, (*api.Client).CopyData)
		})}
	c.Flags().StringVar(&q.Reason, "reason", "", "why, for the history")
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

func (s *session) dbPeopleCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "people [STAGE]", Short: "Show what a stage's database holds of people", Args: cobra.MaximumNArgs(1),
		Long: "Lists each column that a masked copy would change, what it was taken for and why, and what to write into lotse.yaml for those that cannot\n" +
			"be judged. It reads a sample of each table, changes nothing and shows no value. A STAGE may be app/stage.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q := deploy.DataRequest{Stage: strings.Join(args, "")}
			if err := s.meant(ctx, &q); err != nil {
				return err
			}
			found, err := s.client().FindPeople(ctx, q.App, q.Stage)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(found)
			}
			s.sayPeople(found, all)
			return nil
		})}
	c.Flags().BoolVar(&all, "all", false, "also columns that are kept")
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

func (s *session) sayPeople(found deploy.People, all bool) {
	var rows [][]string
	kept := 0
	for _, c := range found.Columns {
		if c.Kind == "keep" && !all {
			kept++
			continue
		}
		kind := string(c.Kind)
		if kind == "" {
			kind = "?"
		}
		rows = append(rows, []string{cleanLine(c.Column), kind, cleanLine(c.Why)})
	}
	s.columns([]string{"column", "kind", "why"}, rows)
	if kept > 0 {
		s.say("%s more: nothing of people in them, --all lists them", humanize.Comma(int64(kept)))
	}
	if unjudged := found.Unjudged(); len(unjudged) > 0 {
		s.say("cannot be judged, and stop a copy until lotse.yaml says what they hold:")
		s.say("%s", found.Paste())
	}
}
