package cli

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// judgedMigrations is the JSON of `lotse db judge`: what was judged, with the class of each file.
type judgedMigrations struct {
	deploy.Judgement

	Classes map[string]deploy.MigrationClass `json:"classes"`
}

func (s *session) databaseJudgeCommand() *cobra.Command {
	all := false
	c := &cobra.Command{Use: "judge [FOLDER] [FILE…]", Short: "Say what migrations do to the code that runs already",
		Long: "Runs migrations of the work tree on a scratch PostgreSQL of this machine, behind the other files of the folder, and says of each\nstatement which lock it takes, whether it writes a table anew, and whether code that knows the schema before it goes on. Without FILE it\njudges the last file of the folder; FOLDER is what lotse.yaml says. Ends with 1 where old code breaks or a table is locked for long.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			folder, files := "", []string{}
			if len(args) > 0 {
				folder = args[0]
				for _, name := range args[1:] {
					files = append(files, inFolder(folder, name))
				}
			}
			j, err := s.JudgeMigrations(ctx, absolute("."), folder, files, all)
			if err != nil {
				return err
			}
			if s.json {
				classes := map[string]deploy.MigrationClass{}
				for _, f := range j.Files {
					classes[f.Name] = f.Class()
				}
				if err := s.answer(judgedMigrations{j, classes}); err != nil {
					return err
				}
			} else {
				s.showJudgement(j)
			}
			if len(j.Of(deploy.Contract))+len(j.Of(deploy.Dangerous)) == 0 {
				return nil
			}
			return &failure{Code: codeFindings, Message: "not every migration lets the code go on that runs already",
				Hint: "docs/migrations.md has each rule; `-- lotse:allow RULE REASON` in a file says that it may be"}
		})}
	c.Flags().BoolVar(&all, "all", false, "every file of the folder, each against those before it")
	return c
}

// inFolder is the name of a file in its folder, however it was given: git names it from the root of the repository.
func inFolder(folder, name string) string {
	if rel, err := filepath.Rel(folder, name); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(name)
}

func (s *session) showJudgement(j deploy.Judgement) {
	for _, f := range j.Files {
		s.say("%s: %s", cleanLine(f.Name), f.Class())
		for _, l := range f.Locks {
			s.say("  locks %s", cleanLine(l))
		}
		for _, v := range f.Verdicts {
			s.say("  %s", cleanLine(v.String()))
			if v.Safer != "" && v.Allowed == "" && v.Class != deploy.Expand {
				s.say("    safer: %s", cleanLine(v.Safer))
			}
		}
		if len(f.Needs) > 0 {
			s.showList("  needs", f.Needs)
		}
	}
	if len(j.Files) == 0 {
		s.say("there is nothing to judge")
		return
	}
	s.say("on PostgreSQL %s, with %s, in %s", j.Server, cleanLine(j.Schema), took(j.Took))
	s.showList("the clone lacked", slices.Clone(j.Lacks))
}

func (s *session) databaseContractCommand() *cobra.Command {
	q := deploy.Contracting{}
	c := &cobra.Command{Use: "contract STAGE FILE…", Short: "Run migrations that wait, now", Args: cobra.MinimumNArgs(2), ValidArgsFunction: s.completeStages,
		Long: "Runs the migrations that wait on STAGE until the release before is gone. That ends now, and with it the way back; requests wait meanwhile\nwhere the engine can have them wait. All that wait are named; `lotse plan` and `lotse rollout show` list them.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			q.App, q.Stage = s.stageOfApp(args[0], q.App)
			q.Files, q.By = args[1:], s.who()
			if err := s.client().Contract(ctx, q); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]any{"contracted": q.Files})
			}
			s.say("they have run; there is no way back to a release without them")
			return nil
		})}
	c.Flags().StringVar(&q.App, "app", "", "the app (lotse.yaml of this folder says which, else there is only one)")
	c.Flags().StringVar(&q.Reason, "reason", "", "why now, in a sentence; it is kept in the history")
	return c
}
