package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) releaseCommand() *cobra.Command {
	return &cobra.Command{Use: "release DIGEST", Short: "Show what a release is made of", Args: cobra.ExactArgs(1),
		Long: "Shows what a release is made of. DIGEST may be the first digits of it, as other commands print them.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			c := s.client()
			id, err := wholeDigest(ctx, c, args[0])
			if err != nil {
				return err
			}
			r, err := c.Release(ctx, id)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(r)
			}
			s.showRelease(r, s.names(ctx, c, []string{r.Record.Author})(r.Record.Author))
			return nil
		})}
}

const hexDigits = 64 // of a SHA-256

// wholeDigest finds the release that begins with what was typed, among those that were ever rolled out.
func wholeDigest(ctx context.Context, c *api.Client, typed string) (deploy.Digest, error) {
	hex := strings.TrimPrefix(typed, "sha256:")
	if len(hex) == hexDigits {
		return deploy.Digest("sha256:" + hex), nil
	}
	rollouts, err := c.History(ctx, "", "", 0)
	if err != nil {
		return "", err
	}
	found := map[deploy.Digest]bool{}
	var one deploy.Digest
	for _, r := range rollouts {
		if hex != "" && strings.HasPrefix(string(r.Release), "sha256:"+hex) {
			found[r.Release], one = true, r.Release
		}
	}
	switch len(found) {
	case 1:
		return one, nil
	case 0:
		return "", &failure{Code: "not-found", Message: fmt.Sprintf("no release begins with %q", typed), Hint: "`lotse history` lists them"}
	}
	return "", &failure{Code: "bad-input", Message: fmt.Sprintf("%d releases begin with %q", len(found), typed), Hint: "type more of the digest"}
}

func (s *session) showRelease(r deploy.Release, by string) {
	m := r.Manifest
	s.pairs("release", string(r.ID), "app", m.App, "commit", m.Commit, "made", moment(r.Record.Made)+" by "+by,
		"files", fmt.Sprintf("%s, %s", count(len(m.Files), "file", "files"), size(m.Files)), "sbom", string(m.SBOM))
	s.showServices(m.Services)
	s.showMade(r)
	if len(m.Jobs) > 0 {
		s.say("")
		jobs := table{head: []string{"JOB", "SCHEDULE", "COMMAND"}}
		for _, j := range m.Jobs {
			jobs.rows = append(jobs.rows, []string{cleanLine(j.Name), cleanLine(j.Schedule), cleanLine(j.Command)})
		}
		jobs.print(s.Out)
	}
}

func (s *session) showServices(services []deploy.Service) {
	s.say("")
	t := table{head: []string{"SERVICE", "PATH", "INSTANCES", "WHAT"}}
	for _, v := range services {
		path, instances, what := orDash(v.Path), strconv.Itoa(v.Instances), v.Command
		if v.Static != "" {
			instances, what = "-", "files in "+v.Static
		}
		t.rows = append(t.rows, []string{cleanLine(v.Name), cleanLine(path), instances, cleanLine(what)})
	}
	t.print(s.Out)
}

// showMade says how the steps of the pipeline went that made the release.
func (s *session) showMade(r deploy.Release) {
	s.say("")
	keys := map[string]deploy.Digest{}
	for _, k := range r.Manifest.Steps {
		keys[k.Name] = k.Key
	}
	t := table{head: []string{"STEP", "STATE", "TOOK", "CACHE KEY"}}
	for _, e := range r.Record.Steps {
		lasted := "-"
		if e.Duration > 0 && e.State != deploy.StepCached {
			lasted = took(e.Duration)
		}
		t.rows = append(t.rows, []string{cleanLine(e.Name), string(e.State), lasted, release(keys[e.Name])})
	}
	t.print(s.Out)
}

// size is about how much all files hold.
func size(files []deploy.File) string {
	all := int64(0)
	for _, f := range files {
		all += f.Size
	}
	return humanize.IBytes(uint64(all))
}
