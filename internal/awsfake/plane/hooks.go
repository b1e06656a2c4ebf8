package plane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// LaunchError is a launch that failed on the instance. The instance stays, as on the platform, until it is stopped.
type LaunchError struct {
	Instance string
	Step     string // unpack, prebuild, predeploy, start, postdeploy
	Hook     string // of a hook: its file, as .platform/hooks/prebuild/01_x
	Code     int    // its exit status; -1 where it did not run
	Output   string // its last output
	Cause    error
}

// Error is the sentence of eb-engine.log.
func (e *LaunchError) Error() string {
	if e.Hook == "" {
		return fmt.Sprintf("instance deployment failed in %s: %v", e.Step, e.Cause)
	}
	return fmt.Sprintf("instance deployment failed: command %s failed with error %v. Stderr:%s", e.Hook, e.Cause, e.Output)
}

// Unwrap is the cause.
func (e *LaunchError) Unwrap() error { return e.Cause }

const mostOutput = 8 << 10 // of a hook, kept in the error

// hooks runs the files of one hook folder in the order of their names, in dir, where the platform runs them: in staging
// before the deploy and in current after it.
func (i *Instance) hooks(ctx context.Context, step, dir string) error {
	folder := filepath.Join(".platform", "hooks", step)
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &LaunchError{i.o.ID, step, "", -1, "", err}
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := i.hook(ctx, step, dir, filepath.Join(folder, e.Name())); err != nil {
			i.engine("ERROR", err.Error())
			return err
		}
	}
	return nil
}

func (i *Instance) hook(ctx context.Context, step, dir, file string) error {
	i.engine("INFO", "Running command: "+file)
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, file))
	cmd.Dir, cmd.Env = dir, i.environment(false, filepath.Join(i.folder, "stand-ins"))
	cmd.Stdout, cmd.Stderr = &output, &output
	groupEndsWith(cmd)
	err := cmd.Run()
	for line := range strings.Lines(output.String()) {
		i.engine("INFO", strings.TrimSuffix(line, "\n"))
	}
	if err == nil {
		return nil
	}
	tail := output.Bytes()
	code := -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return &LaunchError{i.o.ID, step, file, code, string(tail[max(0, len(tail)-mostOutput):]), errors.Join(ctx.Err(), err)}
}

// groupEndsWith gives a command a process group, which ends with its context.
func groupEndsWith(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
}

// standIns writes the programs that hooks find first: each notes what it was asked, and does nothing. mountpoint knows what
// was mounted, and RDS's certificates are those of the Plane's authority.
func (i *Instance) standIns() error {
	dir := filepath.Join(i.folder, "stand-ins")
	if err := os.MkdirAll(filepath.Join(dir, "downloads"), 0o755); err != nil {
		return err
	}
	for url, body := range i.o.Downloads {
		sum := sha256.Sum256([]byte(url))
		if err := os.WriteFile(filepath.Join(dir, "downloads", hex.EncodeToString(sum[:])), body, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "downloads", "rds"), i.plane.AuthorityPEM(), 0o644); err != nil {
		return err
	}
	bodies := map[string]string{"curl": download, "wget": download, "mount": `for last; do :; done; echo "$last" >> "$here/mounted"`,
		"mountpoint": `for last; do :; done; grep -qxF -- "$last" "$here/mounted" 2>/dev/null`}
	for _, name := range []string{"umount", "dnf", "yum", "rpm", "systemctl", "update-ca-trust", "chown"} {
		bodies[name] = ""
	}
	maps.Copy(bodies, i.o.StandIns)
	for name, body := range bodies {
		script := "#!/bin/sh\nhere=" + quote(dir) + "\nprintf '%s\\n' \"" + name + "${*:+ $*}\" >> \"$here/asked\"\n" + body + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// download is curl and wget: -o, -O or --output FILE and a URL that was foreseen; exit status 6 as curl for a host that is not known.
const download = `out=- url=
while [ $# -gt 0 ]; do
  case "$1" in
    -o|--output|--output-document|-O) out=$2; shift ;;
    --output=*|--output-document=*) out=${1#*=} ;;
    -*o) out=$2; shift ;;
    http://*|https://*) url=$1 ;;
  esac
  shift
done
file="$here/downloads/$(printf %s "$url" | sha256sum | cut -d' ' -f1)"
case "$url" in https://truststore.pki.rds.amazonaws.com/*) [ -f "$file" ] || file="$here/downloads/rds" ;; esac
[ -f "$file" ] || { echo "Could not resolve host of $url" >&2; exit 6; }
if [ "$out" = - ]; then cat "$file"; else cat "$file" > "$out"; fi`

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// Asked is what hooks asked of the stand-ins, one command line each, in order.
func (i *Instance) Asked() []string {
	raw, _ := os.ReadFile(filepath.Join(i.folder, "stand-ins", "asked")) // not there: nothing was asked
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")[:strings.Count(string(raw), "\n")]
}
