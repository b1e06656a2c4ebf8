package pipeline_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/secret"
)

// tagsOf are "name commit" of each, where a commit is its place among those of the test.
func tagsOf(t *testing.T, s *pipeline.Sources, o deploy.Origin, pattern string, token secret.Text, commits ...string) string {
	t.Helper()
	all, err := s.Tags(t.Context(), o, pattern, token)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, tag := range all {
		said = append(said, fmt.Sprintf("%s %d", tag.Name, slices.Index(commits, tag.Commit)))
	}
	return strings.Join(said, ", ")
}

// Tags of every kind, of a repository on this machine and of one elsewhere: plain, as objects, packed, moved, deleted, of what is no commit.
func TestTags(t *testing.T) {
	const password = "sesame-4711-sesame"
	for _, local := range []bool{true, false} {
		t.Run(map[bool]string{true: "here", false: "elsewhere"}[local], func(t *testing.T) {
			r := newRepository(t)
			r.commit(map[string]string{"lotse.yaml": "app: shop"})
			origin := r.bare()
			s, remote, token := openSources(t, shared(t)), "", noToken
			if !local {
				remote, token = serveGit(t, filepath.Dir(origin), password).URL+"/origin.git", secret.New(password)
			}
			o, err := s.Find(t.Context(), r.dir, remote)
			if err != nil || o.Local != local {
				t.Fatalf("found %+v, %v", o, err)
			}
			first := r.head()
			if got := tagsOf(t, s, o, "v*", token); got != "" {
				t.Errorf("without any there are %s", got)
			}
			r.commit(map[string]string{"a": "2"})
			second := r.head()
			r.git("tag", "v1.9", first)
			r.git("-c", "user.name=A", "-c", "user.email=a@example.org", "tag", "-a", "-m", "ten", "v1.10", second)
			r.git("tag", "v2.0-rc1", second)
			r.git("tag", "nightly", second)
			r.git("tag", "release/v1", second)
			r.git("push", "-q", "origin", "main", "--tags")
			const want = "v1.9 0, v1.10 1, v2.0-rc1 1"
			if got := tagsOf(t, s, o, "v*", token, first, second); got != want {
				t.Errorf("there are %s, want %s", got, want)
			}
			if got := tagsOf(t, s, o, "release/*", token, first, second); got != "release/v1 1" {
				t.Errorf("below release there are %s", got)
			}
			c, err := s.FetchTag(t.Context(), o, "v1.10", token)
			if err != nil || c.ID != second || c.Name != "A" || c.Dir != "." {
				t.Errorf("fetched %+v, %v", c, err)
			}
			if known, err := s.Commit(t.Context(), o, second); err != nil || known.ID != second {
				t.Errorf("then it is %+v, %v", known, err)
			}
			r.git("tag", "v2.0", second)
			r.git("push", "-q", "origin", "v2.0")
			in(t, origin, "pack-refs", "--all")
			if got := tagsOf(t, s, o, "v*", token, first, second); got != want+", v2.0 1" {
				t.Errorf("packed there are %s", got)
			}
			r.git("tag", "-f", "v1.10", first)
			r.git("push", "-q", "--force", "origin", "v1.10")
			r.git("push", "-q", "origin", ":v1.9")
			if got := tagsOf(t, s, o, "v*", token, first, second); got != "v1.10 0, v2.0-rc1 1, v2.0 1" {
				t.Errorf("moved and deleted there are %s", got)
			}
			if c, err = s.FetchTag(t.Context(), o, "v1.10", token); err != nil || c.ID != first {
				t.Errorf("moved it is %+v, %v", c, err)
			}
			if _, err = s.FetchTag(t.Context(), o, "v1.9", token); !errors.Is(err, deploy.ErrNotFound) {
				t.Errorf("what is deleted is %v", err)
			}
			if _, err = s.Tags(t.Context(), o, "--upload-pack=x", token); !errors.Is(err, deploy.ErrBadInput) {
				t.Errorf("a pattern that is none is %v", err)
			}
			if local {
				tree := r.git("rev-parse", "HEAD^{tree}")
				r.git("tag", "v3.0", tree)
				r.git("push", "-q", "origin", "v3.0")
				if got := tagsOf(t, s, o, "v3*", token); got != "" {
					t.Errorf("a tag of a folder is %s", got)
				}
			}
		})
	}
}
