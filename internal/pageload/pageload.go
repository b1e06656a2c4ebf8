// Package pageload knows how a real browser is had, led to one release and nowhere else, and what it says of how soon a page is there.
//
// A visit starts one Chromium with a profile of its own. For each load of a page it makes a new browser context, which has no cookies, no
// cache and no connections, and throttles network and processor by the DevTools protocol. All requests for the stage's hosts are led to a
// listener of this process on the loopback, whose certificate is made for the visit; Chromium is told the key of that one certificate,
// and checks every other one as always. The whole of Chromium ends with the visit, and with this process.
package pageload

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Config is what a Browser needs.
type Config struct {
	Dir string // what is kept lies here, in a folder for each rollout; it is made
	// Path names the browser's program; empty: the first of Programs that is found; None: there is no browser.
	Path string
	// UID and GID are who the browser runs as, where this process is root; 0: root. Files that it may not read are not shown to it.
	UID, GID uint32
}

// None is a Config.Path that says that no browser is to be used.
const None = "none"

// Programs are looked for on the PATH, in this order.
func Programs() []string {
	return []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}
}

// Browser implements deploy.Browser with Chromium.
type Browser struct {
	config Config
	turn   chan struct{} // holds one token while nobody visits
}

var _ deploy.Browser = (*Browser)(nil)

// keptFolder is the name of Config.Dir as evidence has it, relative to the state folder.
const keptFolder = "pageload"

// profiles is the pattern of the folders with the profiles of visits. They do not lie in dir: Chromium makes a unix socket in its profile,
// whose path has 107 bytes at most.
func profiles(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("lotse-page-%x-*", sum[:4]))
}

// New makes a Browser, and removes profiles that a process before this one left. There is one Browser for a folder.
func New(c Config) (*Browser, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(profiles(c.Dir))
	if err != nil {
		return nil, err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	b := &Browser{config: c, turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b, nil
}

// Find returns the program of the browser, as Config.Path names it. ErrUnsupported where there is none.
func Find(named string) (program string, err error) {
	if named == None {
		return "", fmt.Errorf("%w: LOTSE_CHROMIUM says that there is no browser", deploy.ErrUnsupported)
	}
	wanted := Programs()
	if named != "" {
		wanted = []string{named}
	}
	for _, name := range wanted {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no Chromium is here (%s)", deploy.ErrUnsupported, strings.Join(wanted, ", "))
}

// Visit implements deploy.Browser.
func (b *Browser) Visit(ctx context.Context, v deploy.Visit) (deploy.Visited, error) {
	program, err := Find(b.config.Path)
	if err != nil {
		return deploy.Visited{}, err
	}
	select {
	case <-b.turn:
		defer func() { b.turn <- struct{}{} }()
	case <-ctx.Done():
		return deploy.Visited{}, fmt.Errorf("another page is being measured: %w", ctx.Err())
	}
	kept := filepath.Join(b.config.Dir, v.Rollout)
	if err := errors.Join(os.RemoveAll(kept), os.Mkdir(kept, 0o700)); err != nil {
		return deploy.Visited{}, err
	}
	way, err := listen(v)
	if err != nil {
		return deploy.Visited{}, err
	}
	defer way.close()
	c, err := b.start(ctx, program, way)
	if err != nil {
		return deploy.Visited{}, fmt.Errorf("%w: the browser did not start: %w", deploy.ErrUnavailable, err)
	}
	defer c.end()
	seen := deploy.Visited{Browser: c.version, Folder: keptFolder + "/" + v.Rollout}
	all := record{Browser: c.version, Network: v.Network, CPU: v.CPU}
	for i, path := range v.Pages {
		p, err := c.page(ctx, v, path, filepath.Join(kept, fmt.Sprintf("page-%d.png", i+1)))
		if err != nil {
			return seen, err
		}
		all.Pages = append(all.Pages, p)
		seen.Pages = append(seen.Pages, p.PageSeen)
	}
	return seen, all.write(filepath.Join(kept, "visit.json"))
}

// page loads one page as often as is asked for.
func (c *chromium) page(ctx context.Context, v deploy.Visit, path, screenshot string) (page, error) {
	p := page{PageSeen: deploy.PageSeen{Path: path}, Screenshot: filepath.Base(screenshot)}
	for i := range v.Times {
		shot := ""
		if i == 0 {
			shot = screenshot
		}
		l, err := c.load(ctx, v, path, shot)
		if err != nil {
			return page{}, err
		}
		p.Loads, p.Paints = append(p.Loads, l.load), append(p.Paints, l.paint)
		l.told(&p)
	}
	p.Load, p.Paint = median(p.Loads), median(p.Paints)
	return p, nil
}

// median of an odd number is the one in the middle; of an even number the later of the two.
func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(time.Millisecond)
}

// record is what is kept of a visit. Times are in nanoseconds.
type record struct {
	Browser string         `json:"browser"`
	Network deploy.Network `json:"network"`
	CPU     float64        `json:"cpu"`
	Pages   []page         `json:"pages"`
}

type page struct {
	deploy.PageSeen
	Loads      []time.Duration   `json:"loads"`
	Paints     []time.Duration   `json:"paints"`
	Screenshot string            `json:"screenshot"`
	Resources  []deploy.Resource `json:"resources"`       // the heaviest first
	Hosts      map[string]int    `json:"hosts,omitempty"` // requests to hosts that are not the stage's
}

func (r record) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// Prune implements deploy.Browser.
func (b *Browser) Prune(keep []string) error {
	all, err := os.ReadDir(b.config.Dir)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range all {
		if !slices.Contains(keep, e.Name()) {
			failed = append(failed, os.RemoveAll(filepath.Join(b.config.Dir, e.Name())))
		}
	}
	return errors.Join(failed...)
}
