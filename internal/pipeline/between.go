package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// mostCommits is what Commits looks at: more between two releases is no list that anybody reads.
const mostCommits = 1000

// Commits implements deploy.Builder.
func (p *Pipeline) Commits(ctx context.Context, c deploy.Commit, before string) (deploy.Span, error) {
	said, err := gitOf(c.Repo).output(ctx, "log", "--left-right", "-z", "--max-count="+strconv.Itoa(mostCommits+1),
		"--format=%m%n%H%n%an%n%ae%n%ct%n%B", "--end-of-options", before+"..."+c.ID, "--")
	if _, refused := errors.AsType[*gitError](err); refused {
		return deploy.Span{Unknown: true, Why: fmt.Sprintf("the repository does not have both of %.8s and %.8s", before, c.ID)}, nil
	}
	if err != nil {
		return deploy.Span{}, err
	}
	var span deploy.Span
	for one := range strings.SplitSeq(strings.TrimSuffix(said, "\x00"), "\x00") {
		if one == "" {
			continue
		}
		side, commit, err := parseCommit(one)
		if err != nil {
			return span, err
		}
		if side == "<" {
			span.Gone = append(span.Gone, commit)
		} else {
			span.New = append(span.New, commit)
		}
	}
	if len(span.New)+len(span.Gone) > mostCommits {
		return deploy.Span{Unknown: true, Why: fmt.Sprintf("more than %d lie between %.8s and %.8s", mostCommits, before, c.ID)}, nil
	}
	return span, nil
}

// parseCommit reads one commit as Commits has asked for it.
func parseCommit(one string) (side string, c deploy.Commit, err error) {
	fields := strings.SplitN(one, "\n", 6)
	if len(fields) != 6 {
		return "", c, fmt.Errorf("git describes a commit as %q", one)
	}
	seconds, err := strconv.ParseInt(fields[4], 10, 64)
	c = deploy.Commit{ID: fields[1], Name: fields[2], Mail: fields[3], At: time.Unix(seconds, 0).UTC(), Message: strings.TrimSpace(fields[5])}
	c.Subject, _, _ = strings.Cut(c.Message, "\n")
	return fields[0], c, err
}

// Names implements deploy.Builder.
func (p *Pipeline) Names(ctx context.Context, c deploy.Commit, folder string) ([]string, error) {
	all, err := sources(ctx, c)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range all {
		if below(s.path, folder) {
			names = append(names, s.path)
		}
	}
	slices.Sort(names)
	return names, nil
}
