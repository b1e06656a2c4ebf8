package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Of returns the variables of a stage in the order of their names: those of lotse.yaml, over them those of its env_file, which is
// not in the commit, over them those that were set here; and the password of a private stage. dir is where lotse.yaml lies in the
// work tree. Errors are those of EnvFile, ErrBadInput for an env_file that is in the commit, and those of a damaged vault.
func (v *Vault) Of(ctx context.Context, dir, app string, stage deploy.Stage) (deploy.Settings, error) {
	values := map[string]secret.Text{}
	for name, value := range stage.Env {
		values[name] = secret.New(value)
	}
	if stage.EnvFile != "" {
		read, err := envFileOf(ctx, dir, stage.EnvFile)
		if err != nil {
			return deploy.Settings{}, err
		}
		for _, s := range read {
			values[s.Name] = s.Value
		}
	}
	ref := deploy.StageRef{App: app, Stage: stage.Name}
	kept, err := v.read(ref)
	if err != nil {
		return deploy.Settings{}, err
	}
	var of deploy.Settings
	for _, e := range kept.Variables {
		values[e.Name] = secret.New(e.Value)
		if e.Kind == deploy.SecretVariable {
			of.Secrets = append(of.Secrets, e.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		of.Values = append(of.Values, deploy.Setting{Name: name, Value: values[name]})
	}
	of.Version = v.version(of.Values)
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
// would let a reader of the ledger try out short values.
func (v *Vault) version(values []deploy.Setting) string {
	mac := hmac.New(sha256.New, v.mac)
	for _, s := range values {
		fmt.Fprintf(mac, "%d:%s=%d:%s", len(s.Name), s.Name, len(s.Value.Reveal()), s.Value.Reveal())
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
