package api

import (
	"context"
	"errors"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// telling is a fake that tells.
type telling struct{ *fake }

func (f telling) TestNotices(_ context.Context, q deploy.NoticeTest) ([]deploy.NoticeResult, error) {
	return []deploy.NoticeResult{{Notice: "team", Kind: "slack", Stage: "dev", Status: 404, Why: "answered 404 channel_not_found", Hint: "h"}}, f.note(q)
}

func TestNoticesOverTheWire(t *testing.T) {
	f := newFake()
	q := deploy.NoticeTest{Dir: "/app", Stage: "dev", Notice: "team"}
	results, err := reached(t, telling{f}).TestNotices(t.Context(), q)
	if err != nil || len(results) != 1 || results[0].Why != "answered 404 channel_not_found" || results[0].Status != 404 || f.last() != any(q) {
		t.Errorf("%+v, %v, asked %+v", results, err, f.last())
	}
	if _, err := reached(t, f).TestNotices(t.Context(), q); !errors.Is(err, deploy.ErrUnsupported) {
		t.Errorf("a controller that tells nobody: %v", err)
	}
}
