package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// unitName is the unit of the controller, of the machine's systemd or of a user's.
const unitName = "lotse.service"

// madeHere is the first line of what is ours: nothing without it is changed or removed.
const madeHere = "# Made by `lotse install`. `lotse uninstall` takes it away."

// copiedMark begins the line that says which binary `lotse install` has put where. One that was there already has no such line.
const copiedMark = "# lotse-binary: "

// stateMark begins the line that names the state folder.
const stateMark = "# lotse-state: "

// unit is what stands in a unit file of ours.
type unit struct {
	user   bool
	binary string // what it starts
	digest string // of the binary, when it was copied there by us
	state  string
	path   string // PATH of the controller, in which the programs of pipelines and services are found
}

// plain is what systemd takes in every place as it is, without quotes or escapes.
func plain(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("._/+@-", r)
	})
}

func (u unit) problem() error {
	for _, path := range []string{u.binary, u.state} {
		if !plain(path) {
			return deploy.Hint(fmt.Errorf("%w: systemd would need %q in quotes", deploy.ErrBadInput, path), "take a path of letters, digits and . _ / + @ -")
		}
	}
	return nil
}

// text is the unit as a file.
func (u unit) text() string {
	marks := stateMark + u.state + "\n"
	if u.digest != "" {
		marks += copiedMark + u.binary + " " + u.digest + "\n"
	}
	body := machineUnit
	if u.user {
		body = userUnit
	}
	body = strings.NewReplacer("{common}", commonUnit, "{calls}", callsUnit).Replace(body)
	values := strings.NewReplacer("{binary}", u.binary, "{state}", u.state, "{folder}", u.folder(), "{path}", u.path)
	return madeHere + "\n" + marks + "\n" + values.Replace(body)
}

// folder says how the unit may write to the state folder.
func (u unit) folder() string {
	if name, ok := strings.CutPrefix(u.state, "/var/lib/"); ok && name != "" {
		return "StateDirectory=" + name + "\nStateDirectoryMode=0711"
	}
	return "ReadWritePaths=" + u.state
}

// parseUnit reads what an earlier install has written. ours is false where somebody else has.
func parseUnit(text string) (u unit, ours bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if state, ok := strings.CutPrefix(line, stateMark); ok {
			u.state = state
		}
		if copied, ok := strings.CutPrefix(line, copiedMark); ok {
			u.binary, u.digest, _ = strings.Cut(copied, " ")
		}
	}
	return u, strings.HasPrefix(text, madeHere+"\n") && u.state != ""
}

// safePath leaves out of PATH what is there twice or no absolute folder that is there; for root also what others may write to:
// whoever can put a program into root's PATH is root.
func safePath(path string, root bool) string {
	seen := map[string]bool{}
	kept := slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool {
		info, err := os.Stat(dir)
		if !plain(dir) || err != nil || !info.IsDir() || seen[dir] {
			return true
		}
		seen[dir] = true
		owner, ok := info.Sys().(*syscall.Stat_t)
		return root && (!ok || owner.Uid != 0 || info.Mode()&0o022 != 0)
	})
	return cmp.Or(strings.Join(kept, ":"), "/usr/local/bin:/usr/bin:/bin")
}
