package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Of returns the variables of a stage in the order of their names: those of lotse.yaml, over them those of its env_file, which is
// not in the commit, over them those that were set here; and the password of a private stage. dir is where lotse.yaml lies in the
// work tree. Errors are those of EnvFile, ErrBadInput for an env_file that is in the commit, and those of a damaged vault. Secrets that
// rest where the platform reads them have a Reference, and a value only where this controller may read it.
func (v *Vault) Of(ctx context.Context, dir, app string, stage deploy.Stage) (deploy.Settings, error) {
	values := map[string]deploy.Setting{}
	for name, value := range stage.Env {
		values[name] = deploy.Setting{Name: name, Value: secret.New(value)}
	}
	if stage.EnvFile != "" {
		read, err := envFileOf(ctx, dir, stage.EnvFile)
		if err != nil {
			return deploy.Settings{}, err
		}
		for _, s := range read {
			values[s.Name] = s
		}
	}
	ref := deploy.StageRef{App: app, Stage: stage.Name}
	if err := v.Settle(ctx, ref, stage.Home()); err != nil {
		return deploy.Settings{}, err
	}
	away, err := v.away(ctx, ref)
	if err != nil {
		return deploy.Settings{}, err
	}
	kept, err := v.read(ref)
	if err != nil {
		return deploy.Settings{}, err
	}
	var of deploy.Settings
	for _, e := range kept.Variables {
		values[e.Name] = deploy.Setting{Name: e.Name, Value: secret.New(e.Value)}
		if e.Kind == deploy.SecretVariable {
			of.Secrets = append(of.Secrets, e.Name)
		}
	}
	versions, err := v.referred(ctx, away, kept, values, &of)
	if err != nil {
		return deploy.Settings{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		of.Values = append(of.Values, values[name])
	}
	of.Version, of.Digests = v.version(of.Values, versions), v.digests(ref, of.Values, versions)
	if stage.Private {
		of.Password, err = v.Password(ctx, ref)
	}
	return of, err
}

// envFileOf reads a stage's env_file, unless git has it.
func envFileOf(ctx context.Context, dir, file string) ([]deploy.Setting, error) {
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	if err := untracked(ctx, file); err != nil {
		return nil, err
	}
	return EnvFile(file)
}

// version names settings without saying anything of them: a MAC under a key that never leaves this machine. A plain digest
// would let a reader of the ledger try out short values. A value that rests elsewhere counts by its version there: it may not be
// readable.
func (v *Vault) version(values []deploy.Setting, versions map[string]string) string {
	mac := hmac.New(sha256.New, v.mac)
	for _, s := range values {
		measure(mac, s, versions)
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

func measure(mac io.Writer, s deploy.Setting, versions map[string]string) {
	value := s.Value.Reveal()
	if s.Reference != "" {
		value = s.Reference + "#" + versions[s.Name]
	}
	fmt.Fprintf(mac, "%d:%s=%d:%s", len(s.Name), s.Name, len(value), value)
}

// digests names each value by itself, under the same key. The stage is in it, so that nobody sees where two stages have the same value.
func (v *Vault) digests(of deploy.StageRef, values []deploy.Setting, versions map[string]string) deploy.ValueNames {
	names := deploy.ValueNames{}
	for _, s := range values {
		mac := hmac.New(sha256.New, v.mac)
		fmt.Fprintf(mac, "value of %s ", of)
		measure(mac, s, versions)
		names[s.Name] = hex.EncodeToString(mac.Sum(nil)[:8])
	}
	return names
}
