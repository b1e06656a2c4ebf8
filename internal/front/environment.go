package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// environment is what the front itself was given: name=value, as of os.Environ.
type environment []string

func (e environment) get(name string) string {
	for _, kv := range slices.Backward(e) {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// Variables that are of the platform, of the machine or of the front itself. Their values are no secrets, and masking them would make
// every path and every region in a log unreadable.
var common = []string{"PATH", "HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "SHELL", "SHLVL", "_", "LANG", "LANGUAGE", "TERM", "TZ", "TMPDIR", "HOST",
	"HOSTNAME", "PORT", "MAIL", "AWS_REGION", "AWS_DEFAULT_REGION", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET", "LISTEN_FDS",
	"LISTEN_FDNAMES", "LISTEN_PID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"}

// ofManager are what the manager of services tells its process alone.
var ofManager = []string{"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID",
	"MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE"}

// ownVariables begin so: they are for the front, and what services get of them it makes itself.
const ownVariables = "LOTSE_"

// secrets are the values that no line may show: those of settings, and the lock.
func (e environment) secrets(settings []string) (all []secret.Text) {
	for _, kv := range e {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == lockVariable:
		case len(settings) > 0 && !slices.Contains(settings, name), slices.Contains(common, name), strings.HasPrefix(name, "LC_"), strings.HasPrefix(name, ownVariables):
			continue
		}
		all = append(all, secret.New(value))
	}
	if lock, err := e.lock(); err == nil && lock != nil {
		all = append(all, secret.New(lock.Verifier), secret.New(string(lock.Key)))
	}
	return all
}

const lockVariable = "LOTSE_PRIVATE"

// lock is the lock of a private stage, nil where there is none.
func (e environment) lock() (*proxy.Private, error) {
	text := e.get(lockVariable)
	if text == "" {
		return nil, nil
	}
	var lock proxy.Private
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		return nil, errors.New("it is no lock") // err may repeat a part of it
	}
	return &lock, nil
}

// lockOf is the lock that a private release must have.
func lockOf(s Spec, e environment) (*proxy.Private, error) {
	if !s.Private {
		return nil, nil
	}
	lock, err := e.lock()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", deploy.ErrBadInput, lockVariable, err)
	}
	if lock == nil {
		return nil, deploy.Hint(fmt.Errorf("%w: %s: the stage is private, and without its lock everybody could see it", deploy.ErrMissing, lockVariable),
			"deploy again, or look whether the platform may read the secret")
	}
	return lock, nil
}

// of is the whole environment of one process: what the front was given, without its own, and what it says itself.
func (e environment) of(s Spec, name, home, port string) []string {
	ours := []string{"HOST=127.0.0.1", "HOME=" + home, "TMPDIR=" + home + "/tmp", "LOTSE_APP=" + s.App, "LOTSE_STAGE=" + s.Stage,
		"LOTSE_RELEASE=" + s.Release.Short(), "LOTSE_SERVICE=" + name, "LOTSE_INSTANCE=0"}
	if port != "" {
		ours = append(ours, "PORT="+port)
	}
	env := slices.DeleteFunc(slices.Clone(e), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, ownVariables) || slices.Contains(ofManager, name) || slices.Contains([]string{"HOST", "PORT", "HOME", "TMPDIR"}, name)
	})
	return append(env, ours...)
}
