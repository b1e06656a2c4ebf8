package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

// inherited is what steps get from whoever runs Lotse, and all that they get: how to reach the network and its registries.
// None of it belongs into what a step makes.
var inherited = []string{
	"PATH",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE",
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOINSECURE",
	"npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_cafile", "NPM_CONFIG_CAFILE",
	"YARN_NPM_REGISTRY_SERVER", "PIP_INDEX_URL",
}

// inheritedKeyed may change what a step makes and is part of every cache key, as is what Config.Inherit names.
var inheritedKeyed = []string{"GOFLAGS", "GOTOOLCHAIN", "GOEXPERIMENT"}

// environment is what all steps of a pipeline run in. Language and time zone are not inherited but always the same: a build
// that depends on them would make another release on another machine.
type environment struct {
	vars  []string
	keyed []string      // names with a digest of their values
	path  string        // PATH
	masks []secret.Text // passwords in addresses of proxies and registries
}

func (p *Pipeline) environment() environment {
	env := environment{path: os.Getenv("PATH"), vars: []string{
		"HOME=" + p.home(), "LANG=C.UTF-8", "TZ=UTC", "CI=true", "NEXT_TELEMETRY_DISABLED=1", "DO_NOT_TRACK=1",
	}}
	keyed := append(slices.Clip(inheritedKeyed), p.config.Inherit...)
	for _, name := range append(slices.Clip(inherited), keyed...) {
		value, ok := os.LookupEnv(name)
		if !ok {
			continue
		}
		if name != "GOFLAGS" { // comes below
			env.vars = append(env.vars, name+"="+value)
		}
		if u, err := url.Parse(value); err == nil && u.User != nil {
			if password, ok := u.User.Password(); ok {
				env.masks = append(env.masks, secret.New(password))
			}
		}
		if slices.Contains(keyed, name) {
			digest := sha256.Sum256([]byte(value))
			env.keyed = append(env.keyed, name+" "+hex.EncodeToString(digest[:8]))
		}
	}
	slices.Sort(env.keyed)
	env.vars = append(env.vars, outsideRepositories(p.config.Dir)...)
	return env
}

// outsideRepositories keeps git and go from taking a repository that happens to lie above the checkouts for the commit's own:
// a checkout has none, so its version is not stamped into binaries.
func outsideRepositories(dir string) []string {
	flags := strings.TrimSpace(os.Getenv("GOFLAGS") + " -buildvcs=false")
	return []string{"GIT_CEILING_DIRECTORIES=" + dir, "GOFLAGS=" + flags}
}

// with returns the variables of one run: SOURCE_DATE_EPOCH (reproducible-builds.org) in seconds, and a folder for what is
// thrown away with the checkout.
func (e environment) with(epoch int64, tmp string) []string {
	return append(slices.Clip(e.vars), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch), "TMPDIR="+tmp)
}

// find looks a program up as the shell of a step would: in the folders of PATH that the user of the steps may enter.
func (e environment) find(name string, user *process.User) string {
	for _, dir := range filepath.SplitList(e.path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && unreachable(dir, user) == "" {
			return file
		}
	}
	return ""
}

// unreachable returns the first folder on the way to dir that user may not enter, or "".
func unreachable(dir string, user *process.User) string {
	if user == nil || user.UID == 0 {
		return ""
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	for at := dir; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil && !mayEnter(info, user) {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// lines that are longer are cut: a minified bundle in an error message is no help.
const longestLine = 8 << 10

func bounded(line string) string { return cut(line, longestLine) }

func cut(line string, most int) string {
	if len(line) <= most {
		return line
	}
	return strings.ToValidUTF8(line[:most], "") + fmt.Sprintf(" … (%d bytes more)", len(line)-most)
}
