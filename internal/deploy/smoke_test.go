package deploy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// only is a release that answers what it was asked for, and sends /moved to the stage's real address.
type only struct{}

func (only) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(fmt.Sprintf("%s %s", r.URL, r.Host)))}
	switch r.URL.Path {
	case "/moved":
		resp.StatusCode = http.StatusFound
		resp.Header.Set("Location", "https://shop.localhost:8443/there?a=b")
	case "/away":
		resp.StatusCode = http.StatusFound
		resp.Header.Set("Location", "https://elsewhere.example/")
	}
	return resp, nil
}

// A smoke test's command gets an address that leads to the release alone, under the real host, also after a redirect to that.
func TestOpenWay(t *testing.T) {
	here, end, err := openWay(t.Context(), only{}, "https://shop.localhost:8443")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Hostname() != "127.0.0.1" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	for path, want := range map[string]string{
		"/boats?near=Kiel": "https://shop.localhost:8443/boats?near=Kiel shop.localhost:8443",
		"/moved":           "https://shop.localhost:8443/there?a=b shop.localhost:8443",
	} {
		resp, err := client.Get(here + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want {
			t.Errorf("%s: %q, want %q", path, body, want)
		}
	}
	resp, err := client.Get(here + "/away")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Location"); got != "https://elsewhere.example/" {
		t.Errorf("a redirect to another host goes to %s", got)
	}
	end()
	if resp, err := client.Get(here); err == nil {
		resp.Body.Close()
		t.Error("the way is open after its end")
	}
}
