package notify

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// TestNotices sends a test message for each notice, or for one, all at once, and says what became of each. An error is about the question:
// no such notice, no such stage, a lotse.yaml with mistakes. Nothing is tried again, and the ledger does not hear of it.
func (t *Teller) TestNotices(ctx context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error) {
	app, _, err := t.Rollouts.Draft(ctx, q.Dir, q.Stage)
	if err != nil {
		return nil, err
	}
	notices, err := meant(app, q)
	if err != nil {
		return nil, err
	}
	results := make([]deploy.NoticeResult, len(notices))
	var all sync.WaitGroup
	for i, n := range notices {
		all.Go(func() { results[i] = t.trial(ctx, app, n, q) })
	}
	all.Wait()
	return results, ctx.Err()
}

// meant are the notices that somebody asks for.
func meant(app deploy.App, q deploy.NoticeTest) ([]deploy.Notice, error) {
	var all []deploy.Notice
	var names []string
	for _, n := range app.Notify {
		names = append(names, n.Name)
		if (q.Notice == "" || q.Notice == n.Name) && (q.Stage == "" || n.For(q.Stage)) {
			all = append(all, n)
		}
	}
	switch {
	case len(names) == 0:
		return nil, deploy.Hint(fmt.Errorf("%w: lotse.yaml of %s tells nobody", deploy.ErrNotFound, app.Name),
			"for example, in lotse.yaml: notify: { team: { slack: SLACK_WEBHOOK } }")
	case q.Notice != "" && !slices.Contains(names, q.Notice):
		return nil, deploy.Hint(fmt.Errorf("%w: %s has no notice %q", deploy.ErrNotFound, app.Name, q.Notice), "notices are: "+strings.Join(names, ", "))
	case len(all) == 0:
		return nil, deploy.Hint(fmt.Errorf("%w: nobody is told of %s", deploy.ErrNotFound, q.Stage), "stages of a notice say whose rollouts it tells of")
	}
	return all, nil
}

func (t *Teller) trial(ctx context.Context, app deploy.App, n deploy.Notice, q deploy.NoticeTest) deploy.NoticeResult {
	result := deploy.NoticeResult{Notice: n.Name, Kind: n.Kind, Stage: firstFor(app, n, q.Stage)}
	_, settings, err := t.Rollouts.Draft(ctx, q.Dir, result.Stage)
	if err != nil {
		result.Why, result.Hint = err.Error(), deploy.HintOf(err)
		return result
	}
	id := "test-" + strings.ToLower(rand.Text()[:8]) + "-" + n.Name
	miss := t.send(ctx, n.Kind, settings, n.URL, message{ID: id, Event: "test", App: app.Name, Stage: result.Stage})
	if miss == nil {
		result.Told = true
		return result
	}
	result.Status, result.Why, result.Hint = miss.status, miss.Error(), miss.hint
	return result
}

// firstFor is the stage whose settings hold a notice's address: the one that was named, else the first that the notice is about.
func firstFor(app deploy.App, n deploy.Notice, named string) string {
	i := slices.IndexFunc(app.Stages, func(s deploy.Stage) bool { return named == "" && n.For(s.Name) })
	if i < 0 {
		return named
	}
	return app.Stages[i].Name
}
