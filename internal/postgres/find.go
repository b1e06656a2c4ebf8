package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Binaries is one installation of PostgreSQL's server.
type Binaries struct {
	Dir     string // holds initdb and postgres
	Version string // "15.18"
	Major   int    // 15
}

// Find returns the newest installation of this machine. ErrNotInstalled carries the command that installs it as a hint.
func Find() (Binaries, error) { return machine().find(0) }

// FindMajor returns the installation of one major version, which is what an existing cluster needs.
func FindMajor(major int) (Binaries, error) { return machine().find(major) }

// ToolsFor returns an installation whose pg_dump and pg_restore can work with a server of that major version: those of the same version
// where they are installed, else the newest, which must not be older. ErrNotInstalled carries the command that installs them as a hint.
func ToolsFor(major int) (Binaries, error) {
	found, err := FindMajor(major)
	if err != nil {
		newest, none := Find()
		if none != nil || newest.Major < major {
			return Binaries{}, &hinted{fmt.Errorf("it takes the programs of PostgreSQL %d or newer: %w", major, err), HintOf(err)}
		}
		found = newest
	}
	for _, name := range []string{"pg_dump", "pg_restore"} {
		if _, err := os.Stat(filepath.Join(found.Dir, name)); err != nil {
			return Binaries{}, &hinted{fmt.Errorf("%w: %s is not beside the server in %s", ErrNotInstalled, name, found.Dir), "install PostgreSQL's client programs of version " + strconv.Itoa(found.Major)}
		}
	}
	return found, nil
}

// system is what find looks at; tests give another one.
type system struct {
	globs     []string
	path      string // as $PATH
	osRelease string
	version   func(dir string) (string, error)
}

func machine() system {
	return system{
		globs: []string{
			"/usr/lib/postgresql/*/bin",               // Debian, Ubuntu
			"/usr/pgsql-*/bin",                        // PostgreSQL's own packages for Fedora and RHEL
			"/usr/lib64/pgsql/bin",                    // openSUSE
			"/usr/libexec/postgresql*",                // Alpine
			"/opt/homebrew/opt/postgresql@*/bin",      // Homebrew on Apple silicon
			"/usr/local/opt/postgresql@*/bin",         // Homebrew on Intel
			"/home/linuxbrew/.linuxbrew/opt/pos*/bin", // Homebrew on Linux
		},
		path:      os.Getenv("PATH"), // Fedora and Arch have it in /usr/bin
		osRelease: "/etc/os-release",
		version:   askVersion,
	}
}

// find returns the newest installation, or the newest of one major version when major is not 0.
func (s system) find(major int) (Binaries, error) {
	var best Binaries
	var others []string
	for _, dir := range s.candidates() {
		b, ok := s.inspect(dir)
		if ok && (major == 0 || b.Major == major) && newer(b.Version, best.Version) {
			best = b
		} else if ok && !slices.Contains(others, b.Version) {
			others = append(others, b.Version)
		}
	}
	if best.Dir == "" {
		return Binaries{}, s.notInstalled(major, others)
	}
	return best, nil
}

func (s system) candidates() []string {
	var dirs []string
	for _, glob := range s.globs {
		found, _ := filepath.Glob(glob) // the only error is a bad pattern, and ours are constants
		dirs = append(dirs, found...)
	}
	for _, dir := range filepath.SplitList(s.path) {
		// A link in PATH leads to where the other programs and share/ are.
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && filepath.IsAbs(target) {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	return dirs
}

func (s system) inspect(dir string) (Binaries, bool) {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			return Binaries{}, false
		}
	}
	version, err := s.version(dir)
	if err != nil {
		return Binaries{}, false // it cannot be executed: of another machine, or a library is missing
	}
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	return Binaries{Dir: dir, Version: version, Major: major}, err == nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+(?:\.\d+)*)`)

func askVersion(dir string) (string, error) {
	// postgres refuses much as root, but not this.
	out, err := exec.CommandContext(context.Background(), filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return "", err
	}
	match := versionText.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("%s --version says %q", dir, out)
	}
	return string(match[1]), nil
}

func newer(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range as {
		if i >= len(bs) {
			return true
		}
		x, _ := strconv.Atoi(as[i]) // digits, by versionText; the empty string of "none yet" is 0
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x > y
		}
	}
	return false
}

func (s system) notInstalled(major int, others []string) error {
	if major == 0 {
		return &hinted{ErrNotInstalled, s.installCommand("")}
	}
	number := strconv.Itoa(major)
	err := fmt.Errorf("version %s: %w", number, ErrNotInstalled)
	if len(others) > 0 {
		err = fmt.Errorf("%w; this machine has %s", err, strings.Join(others, ", "))
	}
	return &hinted{err, s.installCommand(number)}
}

// installCommand names the command of this distribution (os-release(5)); major "" leaves the version to it.
func (s system) installCommand(major string) string {
	text, _ := os.ReadFile(s.osRelease) // macOS has none
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for id := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
			if command := installCommandOf(id, major); command != "" {
				return command
			}
		}
	}
	return "install PostgreSQL's server, on macOS: brew install postgresql" + prefixed("@", major)
}

func installCommandOf(id, major string) string {
	switch id {
	case "debian", "ubuntu":
		return "apt-get install -y postgresql" + prefixed("-", major)
	case "fedora", "rhel", "centos":
		return "dnf install -y postgresql" + major + "-server"
	case "opensuse", "suse":
		return "zypper install -y postgresql" + major + "-server"
	case "alpine":
		return "apk add postgresql" + major
	case "arch":
		return "pacman -S --noconfirm postgresql"
	}
	return ""
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
