package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/pageload"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/process"
)

// doctor looks at what this machine can do.
func doctor(ctx context.Context, state string) []cli.Finding {
	p := place(state)
	all := []cli.Finding{
		tool(ctx, "git", cli.FindingBad, "git --version", "install it: apt-get install -y git"),
		tool(ctx, "node", cli.FindingPoor, "node --version", "needed only for apps with a front end: https://nodejs.org"),
		tool(ctx, "go", cli.FindingPoor, "go version", "needed only for apps in Go: https://go.dev/doc/install"),
		stateFolder(p),
		space(p),
		listening(p),
		database(),
		browser(ctx),
	}
	for _, a := range process.Abilities() {
		f := cli.Finding{Name: a.Name, State: cli.FindingGood, Says: a.Detail}
		if !a.OK {
			f.State = cli.FindingPoor
		}
		all = append(all, f)
	}
	return all
}

func tool(ctx context.Context, name string, without cli.FindingState, command, hint string) cli.Finding {
	words := strings.Fields(command)
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
	if err != nil {
		return cli.Finding{Name: name, State: without, Says: "it is not on the PATH", Hint: hint}
	}
	return cli.Finding{Name: name, State: cli.FindingGood, Says: strings.TrimSpace(string(out))}
}

func stateFolder(p place) cli.Finding {
	f := cli.Finding{Name: "state folder", State: cli.FindingGood, Says: string(p)}
	_, err := os.Stat(string(p))
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.Says += " (made by the first `lotse serve`)"
	case err == nil && os.Getuid() == 0:
		err = p.passable()
		fallthrough
	default:
		if err != nil {
			f.State, f.Says, f.Hint = cli.FindingBad, err.Error(), deploy.HintOf(err)
		}
	}
	return f
}

// littleSpace is what one build of a usual front end needs, and some.
const littleSpace = 2 << 30

func space(p place) cli.Finding {
	dir := string(p)
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = dir[:max(1, strings.LastIndexByte(dir, '/'))]
	}
	free, total, err := depot.Space(dir)
	if err != nil {
		return cli.Finding{Name: "disk", State: cli.FindingPoor, Says: err.Error()}
	}
	f := cli.Finding{Name: "disk", State: cli.FindingGood, Says: fmt.Sprintf("%d GiB of %d GiB free", free>>30, total>>30)}
	if free < littleSpace {
		f.State, f.Hint = cli.FindingBad, "a build needs some 2 GiB; make room"
	}
	return f
}

func listening(p place) cli.Finding {
	if pid, err := p.controller(); err == nil && pid != 0 {
		return cli.Finding{Name: "ports", State: cli.FindingGood, Says: fmt.Sprintf("a controller runs (process %d)", pid)}
	}
	kept := p.keptPorts()
	at, err := choosePorts(ports{}, kept)
	f := cli.Finding{Name: "ports", State: cli.FindingGood, Says: fmt.Sprintf("%d (HTTPS) and %d (HTTP) are free", at.HTTPS, at.HTTP)}
	switch {
	case err != nil:
		f.State, f.Says, f.Hint = cli.FindingBad, err.Error(), "end what listens there, or name others: lotse serve --https … --http …"
	case at == kept:
		f.Says = fmt.Sprintf("%d (HTTPS) and %d (HTTP), as before", at.HTTPS, at.HTTP)
	}
	return f
}

func browser(ctx context.Context) cli.Finding {
	program, err := pageload.Find(os.Getenv("LOTSE_CHROMIUM"))
	if err != nil {
		return cli.Finding{Name: "Chromium", State: cli.FindingPoor, Says: "it is not here", Hint: "needed only to measure how soon pages are there: apt-get install -y chromium"}
	}
	f := tool(ctx, program, cli.FindingPoor, program+" --version", "name another with LOTSE_CHROMIUM")
	f.Name = "Chromium"
	return f
}

func database() cli.Finding {
	found, err := postgres.Find()
	if err != nil {
		return cli.Finding{Name: "PostgreSQL", State: cli.FindingPoor, Says: err.Error(), Hint: deploy.HintOf(err)}
	}
	return cli.Finding{Name: "PostgreSQL", State: cli.FindingGood, Says: found.Version + " in " + found.Dir}
}
