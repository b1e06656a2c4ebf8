package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Survey is what was found in a folder, and the lotse.yaml that fits it.
type Survey struct {
	App    string       `json:"app"`
	File   string       `json:"file"`   // the text of lotse.yaml
	Found  []SurveyNote `json:"found"`  // what is there, and by what it was recognised
	Decide []SurveyNote `json:"decide"` // what only a person can know
	Next   []SurveyNote `json:"next"`   // commands, and what each is for
}

// SurveyNote is one thing and what is to be said of it.
type SurveyNote struct {
	What string `json:"what"`
	Says string `json:"says"`
}

func (s *session) initCommand() *cobra.Command {
	if s.Survey == nil {
		return nil
	}
	preview := false
	c := &cobra.Command{Use: "init [DIR]", Short: "Write the lotse.yaml that fits what is here", Args: cobra.MaximumNArgs(1),
		Long: "Looks at the files of DIR (this folder), finds out what kind of app they are, and writes lotse.yaml beside them. It runs nothing,\nasks nobody over the network, and changes no other file.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			dir := append(args, ".")[0]
			found, err := s.survey(ctx, dir)
			if err != nil {
				return err
			}
			if preview && !s.json {
				_, err := s.Out.Write([]byte(found.File))
				return err
			}
			if !preview {
				if err := writeNew(filepath.Join(dir, "lotse.yaml"), found.File); err != nil {
					return err
				}
			}
			if s.json {
				return s.answer(found)
			}
			s.showSurvey(found)
			return nil
		})}
	c.Flags().BoolVar(&preview, "print", false, "print the file instead of writing it")
	return c
}

// survey looks, and makes sure that what it gives is a file that Lotse takes.
func (s *session) survey(ctx context.Context, dir string) (Survey, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return Survey{}, &failure{Code: "bad-input", Message: "there is no folder " + cleanLine(dir), Hint: "name the folder of the app: `lotse init DIR`"}
	}
	found, err := s.Survey(ctx, absolute(dir))
	if err != nil || s.Check == nil {
		return found, err
	}
	if err := s.Check("lotse.yaml", []byte(found.File)); err != nil {
		return found, fmt.Errorf("init made a lotse.yaml that Lotse itself refuses, which is a mistake of Lotse's: %w", err)
	}
	return found, nil
}

// writeNew writes a file that is not there yet, whole or not at all.
func writeNew(name, text string) (err error) {
	aside, err := os.CreateTemp(filepath.Dir(name), ".lotse.yaml-")
	if err != nil {
		return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	defer os.Remove(aside.Name())
	_, err = aside.WriteString(text)
	if err = errors.Join(err, aside.Chmod(0o644), aside.Sync(), aside.Close()); err != nil {
		return err
	}
	err = os.Link(aside.Name(), name) // unlike a rename it replaces nothing
	if errors.Is(err, fs.ErrExist) {
		return deploy.Hint(fmt.Errorf("%w: %s is there already, and init overwrites nothing", deploy.ErrBadInput, filepath.Base(name)),
			"`lotse init --print` shows what it would write; `lotse check` looks for mistakes in the one that is there")
	}
	return err
}

func (s *session) showSurvey(found Survey) {
	notes := func(all []SurveyNote) {
		var t table
		for _, n := range all {
			t.rows = append(t.rows, []string{"  " + cleanLine(n.What), cleanLine(n.Says)})
		}
		t.print(s.Out)
	}
	s.say("found:")
	notes(found.Found)
	if len(found.Decide) > 0 {
		s.say("")
		s.say("for you to look at:")
		for _, n := range found.Decide {
			s.say("  %s: %s", cleanLine(n.What), cleanLine(n.Says))
		}
	}
	s.say("")
	s.say("lotse.yaml is written, for the app %s; next:", cleanLine(found.App))
	for _, n := range found.Next {
		s.say("  %s", cleanLine(n.What))
		s.say("      %s", cleanLine(n.Says))
	}
}
