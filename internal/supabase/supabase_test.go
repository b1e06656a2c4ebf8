package supabase_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/supabase"
)

const project = "abcdefghijklmnopqrst"

func TestRecognise(t *testing.T) {
	for address, want := range map[string]supabase.Place{
		"https://" + project + ".supabase.co":                                                       {Project: project},
		"https://" + strings.ToUpper(project) + ".supabase.co/rest/v1":                              {Project: project},
		"postgres://postgres:pw@db." + project + ".supabase.co:5432/postgres":                       {Project: project},
		"postgresql://postgres.ref:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres":         {Region: "eu-central-1"},
		"postgresql://postgres.ref:pw@aws-1-ap-southeast-2.pooler.supabase.com/postgres?sslmode=no": {Region: "ap-southeast-2"},
	} {
		if got, ok := supabase.Recognise(secret.New(address)); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", address, got, ok, want)
		}
	}
	for _, address := range []string{"", "eyJhbGciOi", "https://example.org", "https://" + project + ".supabase.co.example.org", "https://supabase.co",
		"https://docs.supabase.com", "https://aws-0-eu-central-1.pooler.supabase.com.example.org", "%zz"} {
		if got, ok := supabase.Recognise(secret.New(address)); ok {
			t.Errorf("%q is taken for %+v", address, got)
		}
	}
}

// A stand-in for the management API, which Supabase documents.
func TestRegion(t *testing.T) {
	status, body := http.StatusOK, `{"id":"`+project+`","region":"eu-central-1","name":"shop"}`
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/projects/"+project || r.Header.Get("Authorization") != "Bearer sbp_hidden" {
			t.Errorf("asked %s with other words", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer api.Close()
	c := supabase.Client{Base: api.URL, HTTP: api.Client()}
	if region, err := c.Region(t.Context(), project, secret.New("sbp_hidden")); err != nil || region != "eu-central-1" {
		t.Errorf("%q %v", region, err)
	}
	for wrong, want := range map[int]error{401: supabase.ErrToken, 403: supabase.ErrToken, 404: supabase.ErrNotFound, 500: supabase.ErrUnavailable, 429: supabase.ErrUnavailable} {
		status = wrong
		if _, err := c.Region(t.Context(), project, secret.New("sbp_hidden")); !errors.Is(err, want) || strings.Contains(err.Error(), "sbp_") {
			t.Errorf("%d: %v, want %v", wrong, err, want)
		}
	}
	status = http.StatusOK
	for _, body = range []string{"", "<html>", "{}"} {
		if _, err := c.Region(t.Context(), project, secret.New("sbp_hidden")); !errors.Is(err, supabase.ErrUnavailable) {
			t.Errorf("an answer %q: %v", body, err)
		}
	}
	api.Close()
	if _, err := c.Region(t.Context(), project, secret.New("sbp_hidden")); !errors.Is(err, supabase.ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
}
