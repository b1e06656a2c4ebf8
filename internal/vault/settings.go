package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Settings reads the variables of stages. It is safe for concurrent use.
type Settings struct{ key []byte }

// OpenSettings reads the key under which versions of settings are named from file, or makes it there (0600).
func OpenSettings(file string) (*Settings, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, sha256.Size)
		rand.Read(key) // never fails, by its documentation
		err = os.WriteFile(file, key, 0o600)
	}
	if err == nil && len(key) < sha256.Size {
		err = deploy.Hint(fmt.Errorf("%w: %s holds %d bytes", deploy.ErrDamaged, file, len(key)),
			"delete it: a new one is made, and every stage counts as changed once")
	}
	if err != nil {
		return nil, fmt.Errorf("the key of settings: %w", err)
	}
	return &Settings{key}, nil
}

// Of returns the variables of a stage in the order of their names: those of lotse.yaml, and over them those of its env_file, which
// is not in the commit. dir is where lotse.yaml lies in the work tree. Errors are those of EnvFile.
func (s *Settings) Of(_ context.Context, dir, _ string, stage deploy.Stage) (deploy.Settings, error) {
	values := map[string]secret.Text{}
	for name, value := range stage.Env {
		values[name] = secret.New(value)
	}
	if stage.EnvFile != "" {
		file := stage.EnvFile
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		read, err := EnvFile(file)
		if err != nil {
			return deploy.Settings{}, err
		}
		for _, v := range read {
			values[v.Name] = v.Value
		}
	}
	var of deploy.Settings
	for _, name := range slices.Sorted(maps.Keys(values)) {
		of.Values = append(of.Values, deploy.Setting{Name: name, Value: values[name]})
	}
	of.Version = s.version(of.Values)
	return of, nil
}

// version names settings without saying anything of them: a MAC under a key that never leaves this machine. A plain digest
// would let a reader of the ledger try out short values.
func (s *Settings) version(values []deploy.Setting) string {
	mac := hmac.New(sha256.New, s.key)
	for _, v := range values {
		fmt.Fprintf(mac, "%d:%s=%d:%s", len(v.Name), v.Name, len(v.Value.Reveal()), v.Value.Reveal())
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
