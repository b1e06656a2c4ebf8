package survey

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
)

// Git is what git knows of a folder.
type Git struct {
	Repository bool            // the folder lies in one
	Commit     bool            // and there is a commit
	Tracked    map[string]bool // files named .env or .env.*, by path from the folder, that are in git
	Ignored    map[string]bool // .env and node_modules, where git was told to leave them out
}

// AskGit asks git about dir. Nothing that the repository's own configuration names is run. Where git is missing or refuses, the folder
// is taken for one outside of any repository.
func AskGit(ctx context.Context, dir string) Git {
	ask := func(args ...string) (string, bool) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", dir}, args...)...)
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "GIT_") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(cmd.Env, "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
		var out bytes.Buffer
		cmd.Stdout = &out
		err := cmd.Run()
		return out.String(), err == nil
	}
	g := Git{Tracked: map[string]bool{}, Ignored: map[string]bool{}}
	if _, g.Repository = ask("rev-parse", "--git-dir"); !g.Repository {
		return g
	}
	_, g.Commit = ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	said, _ := ask("ls-files", "-z", "--", ":(glob)**/.env", ":(glob)**/.env.*")
	for name := range strings.SplitSeq(said, "\x00") {
		if name != "" {
			g.Tracked[name] = true
		}
	}
	for _, name := range []string{".env", "node_modules"} {
		_, g.Ignored[name] = ask("check-ignore", "-q", name)
	}
	return g
}
