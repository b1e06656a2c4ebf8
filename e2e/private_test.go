package e2e_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

// A stage that says nothing of access is private from its first deploy on. Who signs in stays signed in through rollouts under load
// and the death of the proxy, until there is a new password.
func TestStageIsPrivate(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	file := strings.Replace(m.appFile("bin/app good", 1, quick), "access: open, ", "", 1)
	repo := m.repository(map[string]string{"lotse.yaml": file, "release.txt": "0\n"})
	m.must(repo, "deploy")
	password := func(args ...string) secret.Text {
		return secret.New(strings.TrimSpace(m.must(repo, append([]string{"password", "--stage", "dev"}, args...)...)))
	}
	first := password()
	client := m.client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cookie := ""
	ask := func(what string, want int) {
		t.Helper()
		m.await(what, time.Minute, func() bool { // a proxy that was killed is back in a moment
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url(host)+"/about", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Cookie", cookie)
			answer, err := client.Do(req)
			if err != nil {
				return false
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if answer.StatusCode != want || answer.Header.Get("X-Robots-Tag") == "" {
				t.Fatalf("%s: %s", what, answer.Status)
			}
			return true
		})
	}
	ask("a stranger", http.StatusUnauthorized)
	answer, err := client.PostForm(m.url(host)+"/.lotse/sign-in", url.Values{"password": {first.Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	cookie, _, _ = strings.Cut(answer.Header.Get("Set-Cookie"), ";")
	ask("signed in", http.StatusOK)

	plan := m.everyKind()
	plan.Header = load.Basic(first)
	h := m.loaded(plan)
	m.commit(repo, map[string]string{"release.txt": "1\n"})
	m.must(repo, "deploy")
	m.more(h, 100)
	none(t, h.Stop())
	ask("signed in, a rollout later", http.StatusOK)
	m.kill("proxy")
	ask("signed in, after the proxy's death", http.StatusOK)

	second := password("--new")
	m.commit(repo, map[string]string{"release.txt": "2\n"})
	m.must(repo, "deploy")
	ask("signed in with the password before", http.StatusUnauthorized)
	plan.Header, plan.Requests = load.Basic(second), 50
	none(t, load.Run(within(t, time.Minute), plan))
	m.tellsNothing(t, "the controller's log", m.said(), second.Reveal())
}
