package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) databaseDropCommand() *cobra.Command {
	var stage, yes string
	c := &cobra.Command{Use: "drop", Short: "Delete the database that Lotse runs for a stage, with all its data", Args: cobra.NoArgs,
		Long: "Deletes the PostgreSQL that Lotse runs for a stage on this machine: all of its data, its password and its files. There is no way\nback. End Lotse with `lotse down` before. The next deploy to the stage begins with an empty database.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			app, named, _ := strings.Cut(yes, "/")
			if app == "" || named == "" || named != stage {
				return deploy.Hint(fmt.Errorf("%w: a yes that names app and stage is missing", deploy.ErrBadInput), "lotse db drop --stage STAGE --yes-delete-the-data-of APP/STAGE")
			}
			if err := s.DropDatabase(ctx, s.stateFolder(), app, stage); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"dropped": yes})
			}
			s.say("the database of %s is deleted", clean(yes))
			return nil
		})}
	c.Flags().StringVar(&stage, "stage", "", "the stage")
	c.Flags().StringVar(&yes, "yes-delete-the-data-of", "", "APP/STAGE, once more")
	return c
}
