package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/supabase"
)

func TestWhereabouts(t *testing.T) {
	const inFrankfurt, inVirginia = "aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer token":
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, inFrankfurt):
			_, _ = w.Write([]byte(`{"region":"eu-central-1"}`))
		case strings.HasSuffix(r.URL.Path, inVirginia):
			_, _ = w.Write([]byte(`{"region":"us-east-1"}`))
		}
	}))
	defer api.Close()
	ask := whereabouts(supabase.Client{Base: api.URL, HTTP: api.Client()})
	set := func(pairs ...string) (all []deploy.Setting) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, deploy.Setting{Name: pairs[i], Value: secret.New(pairs[i+1])})
		}
		return all
	}
	for _, c := range []struct {
		name     string
		settings []deploy.Setting
		want     []string
		refused  string
	}{
		{"no Supabase", set("STRIPE_KEY", "sk_live"), nil, ""},
		{"in Frankfurt, named twice", set("SUPABASE_URL", "https://"+inFrankfurt+".supabase.co", "VITE_SUPABASE_URL", "https://"+inFrankfurt+".supabase.co", deploy.SupabaseToken, "token"),
			[]string{"Supabase of SUPABASE_URL: eu-central-1"}, ""},
		{"in Virginia", set("SUPABASE_URL", "https://"+inVirginia+".supabase.co", deploy.SupabaseToken, "token"), nil, "SUPABASE_URL points to a project of Supabase in us-east-1"},
		{"a pooler in London", set("SUPABASE_DB_URL", "postgres://u:pw@aws-0-eu-west-2.pooler.supabase.com/postgres"), nil, "in eu-west-2"},
		{"nobody may ask", set("SUPABASE_URL", "https://"+inVirginia+".supabase.co"), []string{"Supabase of SUPABASE_URL: not known: `lotse secrets set SUPABASE_ACCESS_TOKEN` lets Lotse ask"}, ""},
		{"a wrong token", set("SUPABASE_URL", "https://"+inVirginia+".supabase.co", deploy.SupabaseToken, "other"), []string{"Supabase of SUPABASE_URL: not known: Supabase does not take SUPABASE_ACCESS_TOKEN"}, ""},
	} {
		found, err := ask(t.Context(), deploy.Stage{}, c.settings)
		var said []string
		for _, e := range found {
			said = append(said, e.Figure)
		}
		if diff := cmp.Diff(c.want, said); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if refused := errors.Is(err, deploy.ErrRefused); refused != (c.refused != "") || refused && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	settings := set("DB", "postgres://u:pw@aws-0-eu-west-2.pooler.supabase.com/postgres")
	if _, err := ask(t.Context(), deploy.Stage{AWS: deploy.AWS{OutsideEU: "Art. 45 GDPR"}}, settings); err != nil {
		t.Errorf("with a reason: %v", err)
	}
}
