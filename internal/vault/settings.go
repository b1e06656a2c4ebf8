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
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Of returns the variables of a stage in the order of their names: those of lotse.yaml, over them those of its env_file, which is
// not in the commit, over them those that were set here; and the password of a private stage. dir is where lotse.yaml lies in the
// work tree. Errors are those of EnvFile, ErrBadInput for an env_file that is in the commit, and those of a damaged vault. Secrets that
// rest where the platform reads them have a Reference, and a value only where this controller may read it.
func (v *Vault) Of(ctx context.Context, dir, app string, stage deploy.Stage) (deploy.Settings, error) {
	return v.given(ctx, dir, app, stage, nil)
}

// Earlier is Of with the variables that were set here in the versions that something had, and without those that it had not. A
// *deploy.VersionsError names what can be had no more. The second name of one whose values overlap may be among them.
func (v *Vault) Earlier(ctx context.Context, dir, app string, stage deploy.Stage, had deploy.ValueVersions) (deploy.Settings, error) {
	if had == nil {
		had = deploy.ValueVersions{}
	}
	return v.given(ctx, dir, app, stage, had)
}

func (v *Vault) given(ctx context.Context, dir, app string, stage deploy.Stage, had deploy.ValueVersions) (deploy.Settings, error) {
	values := map[string]chosen{}
	for name, value := range stage.Env {
		values[name] = written(name, secret.New(value))
	}
	if stage.EnvFile != "" {
		read, err := envFileOf(ctx, dir, stage.EnvFile)
		if err != nil {
			return deploy.Settings{}, err
		}
		for _, s := range read {
			values[s.Name] = written(s.Name, s.Value)
		}
	}
	ref := deploy.StageRef{App: app, Stage: stage.Name}
	if err := v.Settle(ctx, ref, stage.Home()); err != nil {
		return deploy.Settings{}, err
	}
	kept, err := v.choose(ctx, ref, v.overlaps(stage), had)
	if err != nil {
		return deploy.Settings{}, err
	}
	of := deploy.Settings{Versions: deploy.ValueVersions{}}
	for _, one := range kept {
		values[one.Name], of.Versions[one.Name] = one, one.version
		if one.kind == deploy.SecretVariable {
			of.Secrets = append(of.Secrets, one.Name)
		}
	}
	all := make([]chosen, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all, of.Values = append(all, values[name]), append(of.Values, values[name].Setting)
	}
	of.Version, of.Digests = v.version(all), v.digests(ref, all)
	if stage.Private {
		of.Password, err = v.Password(ctx, ref)
	}
	return of, err
}

// written is a variable of a file.
func written(name string, value secret.Text) chosen {
	return chosen{Setting: deploy.Setting{Name: name, Value: value}, counts: value}
}

// overlapping is a name whose value before is given beside it, where the one of now was set after a certain time.
type overlapping struct {
	name  string
	after time.Time
}

// overlaps are the second names of what overlaps.
func (v *Vault) overlaps(stage deploy.Stage) map[string]overlapping {
	all := map[string]overlapping{}
	for name, span := range stage.Overlap {
		all[deploy.Previous(name)] = overlapping{name, v.now().Add(-span)}
	}
	return all
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
func (v *Vault) version(values []chosen) string {
	mac := hmac.New(sha256.New, v.mac)
	for _, s := range values {
		measure(mac, s)
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

func measure(mac io.Writer, s chosen) {
	value := s.counts.Reveal()
	fmt.Fprintf(mac, "%d:%s=%d:%s", len(s.Name), s.Name, len(value), value)
}

// digests names each value by itself, under the same key. The stage is in it, so that nobody sees where two stages have the same value.
func (v *Vault) digests(of deploy.StageRef, values []chosen) deploy.ValueNames {
	names := deploy.ValueNames{}
	for _, s := range values {
		mac := hmac.New(sha256.New, v.mac)
		fmt.Fprintf(mac, "value of %s ", of)
		measure(mac, s)
		names[s.Name] = hex.EncodeToString(mac.Sum(nil)[:8])
	}
	return names
}
