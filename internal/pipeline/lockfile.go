package pipeline

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"go.yaml.in/yaml/v4"
)

func npm(name, version, integrity string) pkg {
	p := pkg{Purl: "pkg:npm/" + strings.ReplaceAll(name, "@", "%40"), Name: name, Ver: version}
	p.Algo, p.Hash = subresource(integrity)
	return p
}

// subresource reads a hash as it stands in lock files (W3C Subresource Integrity), the strongest where there are several.
func subresource(integrity string) (cdx.HashAlgorithm, string) {
	for _, try := range []struct {
		prefix string
		algo   cdx.HashAlgorithm
	}{{"sha512-", cdx.HashAlgoSHA512}, {"sha384-", cdx.HashAlgoSHA384}, {"sha256-", cdx.HashAlgoSHA256}, {"sha1-", cdx.HashAlgoSHA1}} {
		for word := range strings.FieldsSeq(integrity) {
			digits, ok := strings.CutPrefix(word, try.prefix)
			if !ok {
				continue
			}
			if raw, err := base64.StdEncoding.DecodeString(digits); err == nil {
				return try.algo, hex.EncodeToString(raw)
			}
		}
	}
	return "", ""
}

// npmPackages reads package-lock.json of npm 7 and later (lockfileVersion 2 and 3).
func npmPackages(data []byte) ([]pkg, error) {
	var lock struct {
		Packages map[string]struct {
			Name, Version, Integrity string
			Dev, Optional, Link      bool
			DevOptional              bool
		}
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, err
	}
	if lock.Packages == nil {
		return nil, errors.New("it has no packages: lockfileVersion 1")
	}
	var all []pkg
	for at, e := range lock.Packages {
		i := strings.LastIndex(at, "node_modules/")
		if i < 0 || e.Link || e.Version == "" { // the app itself, or a workspace of it
			continue
		}
		name := e.Name
		if name == "" {
			name = at[i+len("node_modules/"):]
		}
		p := npm(name, e.Version, e.Integrity)
		switch {
		case e.Dev:
			p.Scope = cdx.ScopeExcluded
		case e.Optional, e.DevOptional:
			p.Scope = cdx.ScopeOptional
		}
		all = append(all, p)
	}
	return all, nil
}

// pnpmPackages reads pnpm-lock.yaml of pnpm 8 and later (lockfileVersion 6 and 9).
func pnpmPackages(data []byte) ([]pkg, error) {
	var lock struct {
		Packages map[string]struct {
			Resolution struct{ Integrity string }
		}
	}
	if err := yaml.Unmarshal(data, &lock); err != nil {
		return nil, err
	}
	var all []pkg
	for key, e := range lock.Packages {
		key, _, _ = strings.Cut(strings.TrimPrefix(key, "/"), "(") // what it was resolved with
		i := strings.LastIndex(key, "@")
		if i <= 0 {
			return nil, errors.New("it names packages as no version does that is known here")
		}
		all = append(all, npm(key[:i], key[i+1:], e.Resolution.Integrity))
	}
	return all, nil
}

// yarnPackages reads yarn.lock of yarn 1, which is a format of its own, and of later ones, which is YAML of the same shape.
func yarnPackages(data []byte) ([]pkg, error) {
	var all []pkg
	var name, version, integrity string
	soft := false
	take := func() {
		if name != "" && version != "" && !soft {
			all = append(all, npm(name, version, integrity))
		}
		name, version, integrity, soft = "", "", "", false
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if line[0] != ' ' {
			take()
			first, _, _ := strings.Cut(strings.Trim(strings.TrimSuffix(line, ":"), `"`), ",")
			if i := strings.LastIndex(strings.Trim(first, `"`), "@"); i > 0 {
				name = strings.Trim(first, `"`)[:i]
				if before, alias, ok := strings.Cut(first, "@npm:"); ok && strings.LastIndex(alias, "@") > 0 { // an alias of another package
					name = alias[:strings.LastIndex(alias, "@")]
				} else if ok {
					name = strings.Trim(before, `"`)
				}
			}
			continue
		}
		if strings.HasPrefix(line, "   ") { // deeper: dependencies
			continue
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.TrimSuffix(key, ":") {
		case "version":
			version = strings.Trim(value, `"`)
		case "integrity":
			integrity = value
		case "linkType":
			soft = value == "soft"
		}
	}
	take()
	return all, lines.Err()
}
