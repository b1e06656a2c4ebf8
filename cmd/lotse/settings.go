package main

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
	"github.com/lotse-eu/lotse/internal/vault"
)

// settings reads the variables of a stage: the .env file that is not in the commit, over the plain ones of lotse.yaml.
type settings struct{ key []byte }

// openSettings reads the key under which versions of settings are named, or makes it.
func openSettings(p place) (settings, error) {
	file := p.at("settings.key")
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key) // never fails, by its documentation
		err = os.WriteFile(file, key, 0o600)
	}
	return settings{key}, err
}

func (s settings) of(_ context.Context, dir, _ string, stage deploy.Stage) (deploy.Settings, error) {
	values := map[string]secret.Text{}
	for name, value := range stage.Env {
		values[name] = secret.New(value)
	}
	if stage.EnvFile != "" {
		file := stage.EnvFile
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		read, err := vault.EnvFile(file)
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

// version names the settings without saying anything of them: a MAC under a key that never leaves this folder.
func (s settings) version(values []deploy.Setting) string {
	mac := hmac.New(sha256.New, s.key)
	for _, v := range values {
		fmt.Fprintf(mac, "%d:%s=%d:%s", len(v.Name), v.Name, len(v.Value.Reveal()), v.Value.Reveal())
	}
	return hex.EncodeToString(mac.Sum(nil)[:8])
}
