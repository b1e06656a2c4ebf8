package proxy

import "time"

// Site is the whole table of one stage of one app. A Server holds many; Client.Put replaces one of them atomically.
type Site struct {
	Key       string            `json:"key"`                 // "whatsgonow/dev"
	Fence     int64             `json:"fence"`               // smaller than the last seen for Key: ErrFenced
	Hosts     []string          `json:"hosts"`               // host names without port; one host belongs to one site
	Redirects map[string]string `json:"redirects,omitempty"` // host → https URL base; path and query are kept
	Releases  []Release         `json:"releases,omitempty"`
	Private   *Private          `json:"private,omitempty"` // who may see it, and search engines may not; nil: everybody. Redirects are open
	Drain     time.Duration     `json:"drain,omitempty"`   // what the end of the whole proxy gives this site's requests; 0: Config.Drain
}

// Release is one release in a site's table. The Shares of a site sum to 100, or to 0: then every request gets 503 with
// Retry-After. A release with share 0 gets no request, except for immutable files that the others do not have (an old
// tab still finds its assets), and those that name it in the header Lotse-For, when it had a share before.
type Release struct {
	ID     string  `json:"id"`    // rollout id, unique within the site
	Label  string  `json:"label"` // for the response header Lotse-Release
	Share  int     `json:"share"` // percent
	Routes []Route `json:"routes"`

	Until  time.Time `json:"until,omitzero"`   // it has ended, and its immutable files alone are served until then; zero: it is there
	Served bool      `json:"served,omitempty"` // it had a share once; the Server says it
}

// Route is one service of a release: instances (Targets) or files (Static), never both.
type Route struct {
	Prefix  string   `json:"prefix"` // "/" or "/api"; the longest match on whole path segments wins; never stripped
	Service string   `json:"service"`
	Targets []string `json:"targets,omitempty"` // "127.0.0.1:41233", plain HTTP/1.1
	Health  string   `json:"health,omitempty"`  // path asked of a target that was marked down; "": a connection is enough
	Static  *Static  `json:"static,omitempty"`
}

// Static is where a release's files lie.
type Static struct {
	Root     string `json:"root"`               // directory; no request ever leaves it, through links neither
	Index    string `json:"index"`              // file that holds the StaticIndex as JSON
	Fallback string `json:"fallback,omitempty"` // path within Root served for unknown pages, "index.html"; "": 404
}

// Drained says what became of a release's requests, websockets and streams that were in flight when Drain began.
type Drained struct {
	Finished int `json:"finished"` // ended by themselves, by close frame 1001, or between two events
	Cut      int `json:"cut"`      // still there at the timeout
}
