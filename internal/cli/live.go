package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/lotse-eu/lotse/internal/api"
)

// liveView draws the steps as a tree in place. Only what changed is written to the terminal; when it ends, the tree stays above
// what follows.
type liveView struct {
	s       *session
	program *tea.Program
	p       *progress // of its own, so that it is not shared with the program's goroutine
	ended   chan struct{}
}

func newLiveView(s *session, detach func()) *liveView {
	m := &drawing{p: newProgress(), now: s.now, detach: detach}
	v := &liveView{s: s, p: newProgress(), ended: make(chan struct{})}
	v.program = tea.NewProgram(m, tea.WithInput(s.In), tea.WithOutput(s.Out), tea.WithoutSignalHandler(), tea.WithFPS(30))
	go func() {
		defer close(v.ended)
		if _, err := v.program.Run(); err != nil {
			detach() // nothing is seen any more, and Ctrl-C not heard: say so where it is
		}
	}()
	return v
}

func (v *liveView) show(u api.Update) error {
	v.p.take(u, v.s.now())
	v.program.Send(u)
	return nil
}

// close takes the drawing away and prints its last state as text, which no terminal cuts.
func (v *liveView) close() {
	v.program.Send(gone{})
	<-v.ended
	if !v.p.known() {
		return
	}
	width, _ := v.s.terminal()
	lipgloss.Fprintln(v.s.Out, strings.Join(drawn(v.p, v.s.now(), width, signs), "\n"))
}

// gone ends the drawing.
type gone struct{}

type tick struct{}

const tickEvery = 100 * time.Millisecond

func nextTick() tea.Cmd { return tea.Tick(tickEvery, func(time.Time) tea.Msg { return tick{} }) }

// drawing is the state of the program that draws. One goroutine has it.
type drawing struct {
	p             *progress
	now           func() time.Time
	detach        func()
	width, height int
	frame         int
	gone          bool
}

func (d *drawing) Init() tea.Cmd { return nextTick() }

func (d *drawing) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch m := msg.(type) {
	case api.Update:
		d.p.take(m, d.now())
	case tea.WindowSizeMsg:
		d.width, d.height = m.Width, m.Height
	case tea.KeyPressMsg:
		switch m.String() {
		case "ctrl+c":
			d.detach()
		case "ctrl+z":
			return d, tea.Suspend
		}
	case gone:
		d.gone = true
		return d, tea.Quit
	case tick:
		d.frame++
		return d, nextTick()
	}
	return d, nil
}

func (d *drawing) View() tea.View {
	if d.gone || !d.p.known() || d.width == 0 {
		return tea.NewView("")
	}
	frames := signs
	frames.running = string(spinner[d.frame%len(spinner)])
	below := faint.Render("Ctrl-C detaches; the rollout goes on")
	if d.p.lost {
		below = loud.Render("the controller went away; trying to reach it again")
	}
	lines := append(drawn(d.p, d.now(), d.width, frames), ansi.Truncate(below, d.width, "…"))
	return tea.NewView(strings.Join(fitting(lines, d.height), "\n"))
}

var (
	spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	signs   = signSet{waiting: "·", running: "›", done: "✓", cached: "=", missed: "✗", skipped: "-", undone: "↩"} //nolint:gochecknoglobals // a constant that Go has no word for

	faint = lipgloss.NewStyle().Faint(true)
	loud  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	good  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Red)
	bold  = lipgloss.NewStyle().Bold(true)
)

type signSet struct{ waiting, running, done, cached, missed, skipped, undone string }

func (s signSet) of(r row) string {
	switch r.stand {
	case running:
		return loud.Render(s.running)
	case done:
		return good.Render(s.done)
	case cached:
		return good.Render(s.cached)
	case missed, stuck:
		return bad.Render(s.missed)
	case undone:
		return loud.Render(s.undone)
	case skipped:
		return faint.Render(s.skipped)
	default: // waiting
		return faint.Render(s.waiting)
	}
}

// drawn is the tree as lines of at most width columns.
func drawn(p *progress, now time.Time, width int, signs signSet) []string {
	rows := p.rows(now)
	column := 0
	for _, r := range rows {
		column = max(column, 2*r.depth+ansi.StringWidth(r.name))
	}
	lines := []string{bold.Render(p.title())}
	for _, r := range rows {
		name := strings.Repeat("  ", r.depth) + signs.of(r) + " " + r.name
		gap := strings.Repeat(" ", column-2*r.depth-ansi.StringWidth(r.name))
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s%s %s", name, gap, told(r)), " "))
	}
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], width, "…")
	}
	return lines
}

// told is what stands beside a step: its time, a word where a sign would not be enough, what it says or has proved.
func told(r row) string {
	lasted := ""
	if r.took > 0 {
		lasted = took(r.took)
	}
	said := fmt.Sprintf(" %12s", lasted)
	if r.stand == missed || r.stand == cached || r.stand == skipped || r.stand == undone || r.stand == stuck {
		said += "  " + string(r.stand)
	}
	if r.note != "" && r.stand != undone {
		said += "  " + faint.Render(r.note)
	}
	if r.line != "" {
		said += "  " + faint.Render(r.line)
	}
	return said
}

// fitting drops lines that the terminal has no room for: of what is to come, then of what was. The first and the last line stay.
func fitting(lines []string, height int) []string {
	const leave = 1 // a full screen would scroll
	over := len(lines) - max(height-leave, 3)
	if over <= 0 {
		return lines
	}
	last := len(lines) - 1
	isWaiting := func(line string) bool { return strings.HasPrefix(ansi.Strip(line), signs.waiting+" ") }
	for over > 0 && last > 1 && isWaiting(lines[last-1]) {
		lines = slices.Delete(lines, last-1, last)
		last, over = last-1, over-1
	}
	if over > 0 {
		lines = slices.Delete(lines, 1, 1+over)
	}
	return lines
}
