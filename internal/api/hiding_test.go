package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/leakstest"
	"github.com/lotse-eu/lotse/internal/process"
)

// talking is a service whose every error tells what it knows.
type talking struct {
	Service
	says string
}

func (s talking) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

func (s talking) Status(context.Context) ([]deploy.StageStatus, error) {
	return nil, deploy.Hint(errors.New(s.says), s.says)
}

func (s talking) Follow(context.Context, string, func(deploy.Update) error) error {
	return deploy.Hint(errors.New(s.says), s.says)
}

// No error that travels carries a secret. Without the hiding, the same search finds it.
func TestErrorsTellNoSecret(t *testing.T) {
	all := leakstest.Make()
	var told bytes.Buffer
	for _, s := range all {
		leakstest.Tell(&told, []string{s.Value})
	}
	for _, hides := range []bool{true, false} {
		hider := &process.Hider{}
		if hides {
			hider.Know(leakstest.Values(all))
		}
		server := NewServer(talking{says: told.String()}, "1.0", slog.New(slog.DiscardHandler)).Hiding(hider.String)
		for _, path := range []string{"/v1/stages", "/v1/rollouts/r1/updates"} {
			answer := httptest.NewRecorder()
			server.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
			body, _ := io.ReadAll(answer.Body)
			found := leakstest.NewFinder(all)
			found.Answer(path, string(body)+strings.ReplaceAll(string(body), `\\`, `\`))
			if hides && len(found.Found) > 0 {
				t.Errorf("%v", found.Found)
			}
			if !hides && len(found.Found) == 0 {
				t.Errorf("%s: without hiding, nothing is found in %d bytes: the search would not notice", path, len(body))
			}
		}
	}
}
