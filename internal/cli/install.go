package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// InstallOptions says what is to be put under systemd.
type InstallOptions struct {
	State string // folder of everything that the controller keeps
	User  bool   // for this user alone, without root
}

// Installed is what an install or an uninstall has done, and what there is to know beside it.
type Installed struct {
	Done  []string `json:"done"`            // each a sentence about what was changed; none: nothing was
	Notes []string `json:"notes,omitempty"` // what to know, and what to type
}

func (s *session) installCommand() *cobra.Command {
	if s.Install == nil || s.Unit == nil {
		return nil
	}
	o := InstallOptions{}
	show := false
	c := &cobra.Command{Use: "install", Short: "Run the controller by systemd, from now on and at every start of the machine", Args: cobra.NoArgs,
		Long: `Copies this program to /usr/local/bin, writes a unit of systemd for the controller, and starts it. A second time changes nothing,
or brings what is newer. With --user, all of it is this user's own: ~/.local/bin, ~/.config/systemd/user, ports 8443 and 8080.`,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			o.State = s.stateFolder()
			if show {
				return s.showUnit(o)
			}
			done, err := s.Install(ctx, o)
			if err != nil {
				return err
			}
			return s.installed(done, "nothing was changed: it is installed and runs")
		})}
	c.Flags().BoolVar(&o.User, "user", false, "for this user alone, without root")
	c.Flags().BoolVar(&show, "print", false, "print the unit, and do nothing")
	return c
}

func (s *session) showUnit(o InstallOptions) error {
	unit, err := s.Unit(o)
	if err != nil {
		return err
	}
	if s.json {
		return s.answer(map[string]string{"unit": unit})
	}
	_, err = io.WriteString(s.Out, unit)
	return err
}

func (s *session) uninstallCommand() *cobra.Command {
	if s.Uninstall == nil {
		return nil
	}
	o := InstallOptions{}
	c := &cobra.Command{Use: "uninstall", Short: "End everything, and take away what `lotse install` has made; the data stays", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			o.State = s.stateFolder()
			done, err := s.Uninstall(ctx, o)
			if err != nil {
				return err
			}
			return s.installed(done, "nothing is installed; nothing was changed")
		})}
	c.Flags().BoolVar(&o.User, "user", false, "what was installed for this user alone")
	return c
}

func (s *session) installed(i Installed, nothing string) error {
	if s.json {
		return s.answer(map[string]any{"changed": len(i.Done) > 0, "done": append([]string{}, i.Done...), "notes": append([]string{}, i.Notes...)})
	}
	if len(i.Done) == 0 {
		s.say("%s", nothing)
	}
	for _, line := range i.Done {
		s.say("%s", clean(line))
	}
	for _, line := range i.Notes {
		s.say("  %s", clean(line))
	}
	return nil
}
