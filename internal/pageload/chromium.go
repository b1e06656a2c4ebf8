package pageload

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// chromium is one that runs.
type chromium struct {
	ctx     context.Context // of chromedp; tabs are made of it
	version string
	hosts   []string
	cancel  func()
	command *exec.Cmd
	profile string
}

// start starts a Chromium for whom the stage's hosts are at the way's end. It is steered by a pipe, so that nobody else can.
func (b *Browser) start(ctx context.Context, program string, to *way) (*chromium, error) {
	profile, err := os.MkdirTemp(filepath.Split(profiles(b.config.Dir)))
	if err != nil {
		return nil, err
	}
	c := &chromium{hosts: to.hosts, profile: profile}
	if b.config.UID != 0 {
		if err := os.Chown(profile, int(b.config.UID), int(b.config.GID)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(profile))
		}
	}
	options := append(flags(to), chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.NoInheritEnv,
		chromedp.Env("PATH="+os.Getenv("PATH"), "HOME="+profile, "TMPDIR="+profile, "LANG=C.UTF-8"),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) { b.supervise(c, cmd) }))
	options = append(options, chromedp.Flag("no-sandbox", !b.sandbox(ctx)))
	allocator, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	tab, cancelTab := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {})) // every error that matters is returned
	c.ctx, c.cancel = tab, func() { cancelTab(); cancelAllocator() }
	version, err := chromedp.CallBrowser(tab, browser.GetVersion, cdp.Empty{})
	if err != nil {
		c.end()
		return nil, err
	}
	c.version = strings.Replace(strings.Replace(version.Product, "HeadlessChrome/", "Chromium ", 1), "Chrome/", "Chromium ", 1)
	return c, nil
}

// flags keep Chromium from everything but pages: no updates, no accounts, no first run, no crash reports, no proxy of the machine's.
func flags(to *way) []chromedp.ExecAllocatorOption {
	var rules []string
	for _, host := range to.hosts {
		rules = append(rules, "MAP "+host+" "+to.addr)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.Headless, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.WindowSize(width, height),
		chromedp.Flag("host-resolver-rules", strings.Join(rules, ", ")), chromedp.Flag("ignore-certificate-errors-spki-list", to.pin),
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("password-store", "basic"), chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter")}
	for _, name := range []string{"disable-background-networking", "disable-component-update", "disable-sync", "disable-breakpad", "disable-crash-reporter",
		"disable-client-side-phishing-detection", "disable-default-apps", "disable-extensions", "disable-dev-shm-usage", "disable-gpu",
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding", "disable-hang-monitor",
		"disable-domain-reliability", "metrics-recording-only", "mute-audio", "no-pings", "no-proxy-server"} {
		options = append(options, chromedp.Flag(name, true))
	}
	return options
}

// Pages are shown in a window as Lighthouse's desktop form has it (core/config/constants.js, DESKTOP_EMULATION_METRICS).
const width, height = 1350, 940

// sandbox says whether Chromium can lock its pages up, for which it makes user namespaces. Root cannot, and others may not where the unit or
// the machine forbids it; whoever they are, they are not root then.
func (b *Browser) sandbox(ctx context.Context) bool {
	if os.Getuid() == 0 && b.config.UID == 0 {
		return false
	}
	cmd := exec.CommandContext(ctx, "unshare", "--user", "--map-root-user", "true")
	cmd.SysProcAttr = b.user()
	return cmd.Run() == nil
}

// user is who the browser runs as.
func (b *Browser) user() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if b.config.UID != 0 && os.Getuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: b.config.UID, Gid: b.config.GID}
	}
	return attr
}

// supervise has the kernel end Chromium when this process is gone, and makes a group of it, which is ended as one. Its children end when
// their parent does: each holds a channel to it.
func (b *Browser) supervise(c *chromium, cmd *exec.Cmd) {
	cmd.SysProcAttr = b.user()
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
	cmd.Dir = c.profile
	c.command = cmd
}

// end ends the whole group, and removes its profile.
func (c *chromium) end() {
	if c.command != nil && c.command.Process != nil {
		_ = syscall.Kill(-c.command.Process.Pid, syscall.SIGKILL) // it may be gone already
	}
	c.cancel()
	chromedp.FromContext(c.ctx).Allocator.Wait()
	_ = os.RemoveAll(c.profile) // New removes what is left
}

func (c *chromium) foreign(host string) bool {
	for _, own := range c.hosts {
		if strings.EqualFold(own, host) {
			return false
		}
	}
	return true
}
