package main

import (
	"os"

	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/pageload"
)

// openBrowser is the browser that loads pages of releases. LOTSE_CHROMIUM names its program, or says none. As pages bring the scripts of
// others along, it runs as who builds, not as root.
func openBrowser(p place) (*pageload.Browser, error) {
	c := pageload.Config{Dir: p.at("pageload"), Path: os.Getenv("LOTSE_CHROMIUM")}
	if os.Getuid() == 0 {
		c.UID, c.GID = buildUser, buildUser
	}
	return pageload.New(c)
}

// space asks for the disk of the state folder.
func (p place) space() (free, total int64, err error) { return depot.Space(string(p)) }
