// Package supabase knows by which addresses an app reaches a project of Supabase, and finds out in which region that project is.
//
// A project's API is at https://REF.supabase.co, which says nothing about where it is: its management API does
// (https://supabase.com/docs/reference/api, GET /v1/projects/{ref}), to who has an access token. The shared pooler of its database is at
// aws-N-REGION.pooler.supabase.com, which says it itself.
package supabase

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Sentinels to decide by.
var (
	ErrToken       = errors.New("supabase does not take the access token")
	ErrNotFound    = errors.New("supabase knows no such project, or the access token may not see it")
	ErrUnavailable = errors.New("supabase does not answer")
)

// API is the address of the management API.
const API = "https://api.supabase.com"

// Place is what an address says of a project. One of the two is known.
type Place struct {
	Project string // its reference, twenty letters
	Region  string // of AWS, where Supabase's projects are
}

var (
	reference = regexp.MustCompile(`^(?:db\.)?([a-z0-9]{20})\.supabase\.(?:co|in)$`)
	pooler    = regexp.MustCompile(`^aws-\d+-([a-z]{2}(?:-[a-z]+)+-\d)\.pooler\.supabase\.com$`)
)

// Recognise says which project an address belongs to: that of its API or of its database. ok is false for every other address.
func Recognise(address secret.Text) (p Place, ok bool) {
	u, err := url.Parse(strings.TrimSpace(address.Reveal()))
	if err != nil {
		return Place{}, false
	}
	host := strings.ToLower(u.Hostname())
	if found := pooler.FindStringSubmatch(host); found != nil {
		return Place{Region: found[1]}, true
	}
	if found := reference.FindStringSubmatch(host); found != nil {
		return Place{Project: found[1]}, true
	}
	return Place{}, false
}

const patience = 10 * time.Second

// Client asks the management API. Its zero value asks Supabase's own. It is safe for concurrent use.
type Client struct {
	Base string       // empty: API
	HTTP *http.Client // nil: one of its own, which waits 10 s
}

// Region asks in which region a project is. ErrToken, ErrNotFound, or ErrUnavailable, which may be another time; no error holds the token.
func (c Client) Region(ctx context.Context, project string, token secret.Text) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, cmp.Or(c.Base, API)+"/v1/projects/"+url.PathEscape(project), nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	request.Header.Set("Authorization", "Bearer "+token.Reveal())
	answer, err := cmp.Or(c.HTTP, &http.Client{Timeout: patience}).Do(request)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", ErrToken
	case http.StatusNotFound:
		return "", ErrNotFound
	default:
		return "", fmt.Errorf("%w: %s", ErrUnavailable, answer.Status)
	}
	var about struct {
		Region string `json:"region"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&about); err != nil || about.Region == "" {
		return "", fmt.Errorf("%w: its answer names no region", ErrUnavailable)
	}
	return about.Region, nil
}
