package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) endCommand() *cobra.Command {
	var app, yes string
	c := &cobra.Command{Use: "end STAGE", Short: "Take a stage off: stop everything that runs there, and free its address", Args: cobra.ExactArgs(1),
		Long:              "Drains and stops what STAGE serves, and gives its address back. Its data, variables and history stay; the next deploy or promotion\nbegins it anew. Where the stage is in the cloud, its machines are not paid for any more.",
		ValidArgsFunction: s.completeStages,
		RunE: s.run(func(ctx context.Context, args []string) error {
			named, stage := stageFlag(args[0])
			if app == "" {
				app = s.appHere(named)
			}
			ref := deploy.StageRef{App: app, Stage: stage}
			if app == "" || yes != ref.String() {
				return deploy.Hint(fmt.Errorf("%w: a yes that names app and stage is missing", deploy.ErrBadInput), "lotse end "+args[0]+" --yes-end "+orName(app, "APP")+"/"+stage)
			}
			err := s.client().End(ctx, ref, s.who())
			if errors.Is(err, context.Canceled) {
				return &failure{Code: codeDetached, Message: "the stage goes on ending without anybody looking", Hint: "`lotse status` shows what still runs"}
			}
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"ended": ref.String()})
			}
			s.say("%s is ended; its data stays", clean(ref.String()))
			return nil
		})}
	c.Flags().StringVar(&app, "app", "", "the app (lotse.yaml of this folder says which)")
	c.Flags().StringVar(&yes, "yes-end", "", "APP/STAGE, once more")
	return c
}

func orName(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
