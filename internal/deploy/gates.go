package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The gates of entry are asked before anything of the stage is touched, those of health when the release is up and nobody is sent to
// it. Each leaves its figure as evidence, also the one that refuses.

// askGatesOfEntry is a part of the step entry.
func (w *walk) askGatesOfEntry(ctx context.Context) error {
	for _, ask := range []func(context.Context) error{w.askVariables, w.askRegion, w.askWhereabouts, w.askDisk} {
		if err := ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// askVariables asks again what was asked at the request: a controller that takes a rollout up later reads the settings anew.
func (w *walk) askVariables(context.Context) error {
	if err := w.app.Missing(w.stage, w.settings); err != nil {
		return err
	}
	w.prove(Evidence{Probe: "variables", Figure: fmt.Sprintf("%d set, %d of them secrets; all %d that the stage needs are among them",
		len(w.settings.Values), len(w.settings.Secrets), len(w.app.Needs(w.stage)))})
	return nil
}

func (w *walk) askRegion(context.Context) error {
	region := w.stage.AWS.Region
	switch {
	case region == "":
		return nil // the stage is on this machine
	case InTheEU(region):
		w.prove(Evidence{Probe: "region", Figure: region + ", in the European Union"})
	case w.stage.AWS.OutsideEU != "":
		w.prove(Evidence{Probe: "region", Figure: region + ", outside the European Union: " + w.stage.AWS.OutsideEU})
	default:
		return Hint(fmt.Errorf("%w: %s is outside the European Union", ErrGate, region), "aws: { region: eu-central-1 }, or say under outside_eu why it is lawful")
	}
	return nil
}

// diskReserve is what stays free beside the release, for logs, the ledger, and what the app itself writes meanwhile.
const diskReserve = 256 << 20

// askDisk wants room for the release once more: an engine of this machine puts it out beside the depot. The pipeline asks for its own
// room before it builds.
func (w *walk) askDisk(context.Context) error {
	if w.c.Space == nil {
		return nil
	}
	free, total, err := w.c.Space()
	if err != nil {
		return err
	}
	size := int64(0)
	for _, f := range w.release.Manifest.Files {
		size += f.Size
	}
	figure := fmt.Sprintf("%s of %s free, the release has %s", inBytes(free), inBytes(total), inBytes(size))
	w.prove(Evidence{Probe: "disk", Figure: figure})
	if free < size+diskReserve {
		return Hint(fmt.Errorf("%w: %s, and %s are to stay free", ErrNoSpace, figure, inBytes(diskReserve)), "free some space on the disk of the state folder")
	}
	return nil
}

// askGatesOfHealth is a part of the step health, after the stable window. glance is what a browser was asked for beside it.
func (w *walk) askGatesOfHealth(ctx context.Context, glance <-chan glanced) error {
	if w.Verb == RolledBack {
		w.prove(Evidence{Probe: "gates", Figure: "not asked: what goes back has passed them, and does not wait"})
		return nil
	}
	if err := w.askCertificate(ctx); err != nil {
		return err
	}
	if err := w.askSmoke(ctx); err != nil {
		return err
	}
	if w.stage.Gates.PageLoad.Limit > 0 {
		return w.askPages(ctx)
	}
	w.tellGlance(ctx, glance)
	return nil
}

// Certifies is what an engine has that knows which certificate clients of the stage are shown.
type Certifies interface {
	// Certificate is the one for a host of the stage. ErrUnavailable where that cannot be found out right now.
	Certificate(ctx context.Context, host string) (Certificate, error)
}

// Certificate is what is known of a certificate.
type Certificate struct {
	Until  time.Time
	Issuer string // as people call it
}

// askCertificate wants a certificate that is good for every host of the stage. That all its addresses are https is a rule of
// lotse.yaml.
func (w *walk) askCertificate(ctx context.Context) error {
	engine, knows := w.c.opened(w.Stage).(Certifies)
	if !knows {
		w.prove(Evidence{Probe: "tls", Figure: "https alone; the platform looks after the certificate"})
		return nil
	}
	for _, host := range w.stage.hosts() {
		var found Certificate
		err := within(ctx, quickVerb, "the certificate", func(ctx context.Context) (err error) {
			found, err = engine.Certificate(ctx, host)
			return err
		})
		left := time.Until(found.Until)
		switch {
		case Retryable(err): // that nobody can say says nothing of the release
			w.prove(Evidence{Probe: "tls", Figure: host + ": not known right now"})
		case err != nil:
			return fmt.Errorf("%w: the certificate of %s: %w", ErrGate, host, err)
		case left <= 0:
			return fmt.Errorf("%w: the certificate of %s is not valid any more, since %s", ErrGate, host, found.Until.UTC().Format(time.DateOnly))
		default:
			w.prove(Evidence{Probe: "tls", Figure: fmt.Sprintf("%s: valid for %d days, by %s", host, int(left.Hours()/24), found.Issuer)})
		}
	}
	return nil
}

// Pages are loaded once where nothing is refused, and so often where it is: a median of five stands still while a single load does not.
const (
	enforcedLoads = 5
	glanceMost    = 10 * time.Second // a glance never delays a rollout by more, less the stable window beside which it is taken
	loadGrace     = 15 * time.Second // beyond the limit, so that a page that is merely slow gets a figure
)

func (w *walk) visit(ctx context.Context) (Visit, error) {
	asked := w.stage.Gates.PageLoad
	to, err := w.engine.Reach(ctx, w.instances())
	if err != nil {
		return Visit{}, err
	}
	v := Visit{Rollout: w.ID, Address: w.c.Address(w.stage), Hosts: w.stage.hosts(), Site: reached(to), Pages: asked.Pages, Network: networkOf(asked.Network),
		CPU: max(1, asked.CPU), Times: 1, Each: glanceMost}
	if len(v.Pages) == 0 {
		v.Pages = []string{"/"}
	}
	if asked.Limit > 0 {
		v.Times, v.Each = enforcedLoads, asked.Limit+loadGrace
	}
	return v, nil
}

// askPages refuses a release with a page that is slower than the limit, and one whose pages cannot be measured.
func (w *walk) askPages(ctx context.Context) error {
	limit := w.stage.Gates.PageLoad.Limit
	const hint = "install one: `apt-get install -y chromium`, or name it with LOTSE_CHROMIUM; or take page_load out of lotse.yaml"
	if w.c.Browser == nil {
		return Hint(fmt.Errorf("%w: page_load is to be within %s, and there is no browser", ErrGate, limit), hint)
	}
	v, err := w.visit(ctx)
	if err != nil {
		return err
	}
	seen, err := w.c.Browser.Visit(ctx, v)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrUnsupported):
		return Hint(fmt.Errorf("%w: page_load is to be within %s, and %w", ErrGate, limit, err), hint)
	case err != nil && !errors.Is(err, ErrGate):
		return fmt.Errorf("%w: page_load: %w", ErrGate, err)
	case err != nil:
		return err
	}
	w.provePages(v, seen)
	return slow(seen.Pages, limit)
}

// slow is nil when every page was there in time.
func slow(pages []PageSeen, limit time.Duration) error {
	var late []string
	for _, p := range pages {
		if p.Slowest() > limit {
			late = append(late, fmt.Sprintf("%s was there after %s (load %s, largest content %s)", p.Path, p.Slowest(), p.Load, p.Paint))
		}
	}
	if len(late) == 0 {
		return nil
	}
	return Hint(fmt.Errorf("%w: page_load is to be within %s: %s", ErrGate, limit, strings.Join(late, "; ")),
		"`lotse show` has the heaviest files and says where the screenshots are")
}

// glanced is what a glance came to.
type glanced struct {
	visit Visit
	seen  Visited
	err   error
}

// glance has a browser load the pages once, beside what is done meanwhile, until end. Nil: it was not asked for.
func (w *walk) glance(ctx context.Context) (done <-chan glanced, end func()) {
	asked := w.stage.Gates.PageLoad
	if w.c.Browser == nil || asked.Off || asked.Limit > 0 || w.Verb == RolledBack || w.stage.Strategy == Recreate { // where nobody serves meanwhile
		return nil, func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, glanceMost)
	answer, ended := make(chan glanced, 1), make(chan struct{})
	go func() {
		defer close(ended)
		var g glanced
		if g.visit, g.err = w.visit(ctx); g.err == nil {
			g.seen, g.err = w.c.Browser.Visit(ctx, g.visit)
		}
		answer <- g
	}()
	return answer, func() { cancel(); <-ended }
}

// tellGlance makes evidence of what a glance saw, or of why it saw nothing. It refuses nothing.
func (w *walk) tellGlance(ctx context.Context, done <-chan glanced) {
	if done == nil {
		return
	}
	select {
	case g := <-done:
		if g.err != nil {
			w.prove(Evidence{Probe: "page load", Figure: "not measured: " + firstLine(g.err.Error())})
			return
		}
		w.provePages(g.visit, g.seen)
	case <-ctx.Done():
	}
}

func (w *walk) provePages(v Visit, seen Visited) {
	for i, p := range seen.Pages {
		e := Evidence{Probe: "page load", Figure: p.figure(v, seen.Browser)}
		if i == 0 {
			e.File = seen.Folder
		}
		w.prove(e)
	}
}

// heaviestTold is how many files are named in the ledger; the folder beside it has all.
const heaviestTold = 3

func (p PageSeen) figure(v Visit, browser string) string {
	var heavy []string
	for _, r := range p.Heaviest[:min(heaviestTold, len(p.Heaviest))] {
		heavy = append(heavy, r.Name+" "+inBytes(r.Bytes))
	}
	loads := "one cold load"
	if v.Times > 1 {
		loads = fmt.Sprintf("medians of %d cold loads", v.Times)
	}
	figure := fmt.Sprintf("%s load %s, largest content %s (%s, %s, network %s, CPU %gx); %d requests, %s", p.Path, p.Load, p.Paint, loads, browser,
		v.Network.Name, v.CPU, p.Requests, inBytes(p.Bytes))
	if p.Foreign > 0 {
		figure += fmt.Sprintf(", %d to other hosts", p.Foreign)
	}
	if len(heavy) > 0 {
		figure += "; heaviest: " + strings.Join(heavy, ", ")
	}
	return figure
}

// visitsKept is how many rollouts of a stage keep what a browser saw.
const visitsKept = 10

// pruneVisits removes what a browser saw of rollouts long ago.
func (c *Controller) pruneVisits(rollouts []Rollout) {
	if c.Browser == nil {
		return
	}
	of := map[StageRef]int{}
	var keep []string
	for _, r := range slices.Backward(rollouts) {
		if of[r.Stage]++; of[r.Stage] <= visitsKept || !r.Outcome.Ended() {
			keep = append(keep, r.ID)
		}
	}
	if err := c.Browser.Prune(keep); err != nil {
		c.Log.Warn("what a browser saw of old rollouts could not be removed", "error", err)
	}
}

// inBytes is about how much.
func inBytes(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
