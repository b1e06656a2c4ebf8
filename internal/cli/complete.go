package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// What a shell offers at the tab key. It asks the controller as any command does; where none answers, nothing is offered, and nothing
// is said: it would stand in the middle of what somebody types.

type completion = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

const asListed = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder

// completeFlags offers values for the flags that name something.
func (s *session) completeFlags(root *cobra.Command) {
	known := map[string]completion{"stage": s.offerStages, "rollout": s.offerRollouts, "to": s.offerRollouts, "service": s.offerServices, "app": s.offerApps}
	commands := root.Commands()
	for i := 0; i < len(commands); i++ {
		commands = append(commands, commands[i].Commands()...)
		for name, offer := range known {
			if _, has := commands[i].GetFlagCompletionFunc(name); !has && commands[i].Flags().Lookup(name) != nil {
				_ = commands[i].RegisterFlagCompletionFunc(name, offer) // fails for a flag that is not there, or has one
			}
		}
	}
}

// first offers for the first argument alone.
func first(offer completion) completion {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(c, args, typed)
	}
}

func (s *session) completeStages(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return first(s.offerStages)(c, args, typed)
}

func (s *session) completeRollouts(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return first(s.offerRollouts)(c, args, typed)
}

// offerStages offers those of lotse.yaml in this folder, and those that the controller knows: of another app as APP/STAGE.
func (s *session) offerStages(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, _ := s.client().Status(c.Context()) // nobody answers: lotse.yaml alone
	var here Outline
	if s.Outline != nil {
		here, _ = s.Outline(absolute("."))
	}
	apps := map[string]bool{here.App: here.App != ""}
	for _, st := range all {
		apps[st.Stage.App] = true
	}
	delete(apps, "")
	var names []string
	for _, st := range all {
		name := st.Stage.Stage
		if st.Stage.App != here.App && len(apps) > 1 {
			name = st.Stage.String()
		}
		names = append(names, name+"\t"+cleanLine(st.URL))
	}
	for _, name := range here.Stages {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+"\t") }) {
			names = append(names, name)
		}
	}
	return names, asListed
}

// offerRollouts offers the latest.
func (s *session) offerRollouts(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	rollouts, err := s.client().History(c.Context(), "", "", 10)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, r := range rollouts {
		ids = append(ids, fmt.Sprintf("%s\t%s %s, %s", r.ID, r.Stage, commit(r.Commit), r.Outcome))
	}
	return ids, asListed
}

// offerServices offers what runs; of the stage that was typed before, where one was.
func (s *session) offerServices(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := s.client().Status(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	app, stage := "", ""
	if f := c.Flags().Lookup("stage"); f != nil {
		app, stage = stageFlag(f.Value.String())
	}
	var names []string
	for _, st := range all {
		if stage != "" && stage != st.Stage.Stage || app != "" && app != st.Stage.App {
			continue
		}
		for _, running := range st.Running {
			for _, service := range running.Services {
				names = append(names, cleanLine(service.Name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

func (s *session) offerApps(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := s.client().Status(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, st := range all {
		names = append(names, st.Stage.App)
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
