package pipeline

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// localTags are the tags that were found, and how the files looked in which git keeps them.
type localTags struct {
	marks string
	tags  []deploy.Tag
	at    time.Time
}

// byVersion has git sort v1.9 before v1.10, and v2-rc1 before v2 (git-config(1), versionsort.suffix).
var byVersion = []string{"-c", "versionsort.suffix=-"}

// Tags implements deploy.Sources.
func (s *Sources) Tags(ctx context.Context, o deploy.Origin, pattern string, token secret.Text) ([]deploy.Tag, error) {
	if (deploy.Push{Tag: pattern}).TagProblem() != "" {
		return nil, fmt.Errorf("%w: %q is no pattern of tags", deploy.ErrBadInput, pattern)
	}
	if o.Local {
		ctx, cancel := context.WithTimeout(ctx, localLook)
		defer cancel()
		return s.tagsOf(ctx, o.URL, pattern)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, remoteLook, errSlow(remoteLook.String()))
	defer cancel()
	g := s.remote(token)
	g.args = append(g.args, byVersion...)
	said, err := g.ended(ctx, "ls-remote", "--quiet", "--sort=version:refname", "--", o.URL, tagRef+pattern, tagRef+pattern+peeled)
	if err != nil {
		return nil, unread(err, o, token)
	}
	return tagsIn(said, pattern), nil
}

const (
	tagRef = "refs/tags/"
	peeled = "^{}" // behind the name of a tag object: what it names (git-ls-remote(1))
)

// tagsIn reads ls-remote. What a tag object names counts; whether that is a commit is seen when it is fetched.
func tagsIn(said, pattern string) (tags []deploy.Tag) {
	for line := range strings.Lines(said) {
		id, ref, _ := strings.Cut(strings.TrimSpace(line), "\t")
		name, is := strings.CutPrefix(ref, tagRef)
		name, object := strings.CutSuffix(name, peeled)
		if !is || !isObject(id) || !matchesTag(pattern, name) {
			continue
		}
		i := slices.IndexFunc(tags, func(t deploy.Tag) bool { return t.Name == name })
		switch {
		case i < 0:
			tags = append(tags, deploy.Tag{Name: name, Commit: id})
		case object:
			tags[i].Commit = id
		}
	}
	return tags
}

func matchesTag(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// tagsOf are the tags of a repository on this machine.
func (s *Sources) tagsOf(ctx context.Context, repo, pattern string) ([]deploy.Tag, error) {
	if err := there(repo); err != nil {
		return nil, err
	}
	key, now := repo+"\x00"+pattern, localTags{marks: looks(repo, filepath.Join("refs", "tags", filepath.FromSlash(path.Dir(pattern)))), at: time.Now()}
	s.mu.Lock()
	known, ok := s.tags[key]
	s.mu.Unlock()
	if ok && known.marks == now.marks && now.at.Sub(known.at) < trusted && !strings.Contains(path.Dir(pattern), "*") {
		return known.tags, nil
	}
	g := local(repo)
	g.args = append(g.args, byVersion...)
	said, err := g.output(ctx, "for-each-ref", "--sort=version:refname", "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)", tagRef+pattern)
	if err != nil {
		return nil, away(err)
	}
	for line := range strings.Lines(said) {
		fields := strings.Split(strings.TrimSpace(line), " ")
		if len(fields) != 5 {
			continue
		}
		id, name := fields[1], strings.TrimPrefix(fields[4], tagRef)
		if fields[0] == "tag" {
			fields[0], id = fields[2], fields[3]
		}
		if fields[0] == "commit" && matchesTag(pattern, name) {
			now.tags = append(now.tags, deploy.Tag{Name: name, Commit: id})
		}
	}
	s.mu.Lock()
	s.tags[key] = now
	s.mu.Unlock()
	return now.tags, nil
}

// FetchTag implements deploy.Sources.
func (s *Sources) FetchTag(ctx context.Context, o deploy.Origin, tag string, token secret.Text) (deploy.Commit, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetching, errSlow(fetching.String()))
	defer cancel()
	tags, err := s.Tags(ctx, o, tag, token)
	if err != nil {
		return deploy.Commit{}, err
	}
	if len(tags) == 0 {
		return deploy.Commit{}, fmt.Errorf("%w: there is no tag %s", deploy.ErrNotFound, tag)
	}
	return s.bring(ctx, o, "tags/"+tag, tags[0].Commit, token)
}
