package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

const noteBuildInfo = "buildinfo" // digest of a program → the Go modules in it

// lockFiles says how the packages of a lock file are read; nil: they are not, and the bill says so.
var lockFiles = map[string]func([]byte) ([]pkg, error){
	"package-lock.json": npmPackages, "npm-shrinkwrap.json": npmPackages, "pnpm-lock.yaml": pnpmPackages, "yarn.lock": yarnPackages,
	"bun.lock": nil, "requirements.txt": nil, "poetry.lock": nil, "uv.lock": nil, "Pipfile.lock": nil, "Gemfile.lock": nil, "Cargo.lock": nil,
	"composer.lock": nil, "pom.xml": nil, "build.gradle": nil,
}

// pkg is one package that is in a release, or was used to make it.
type pkg struct {
	Purl  string // without version, as github.com/package-url says
	Name  string
	Ver   string
	Scope cdx.Scope
	Algo  cdx.HashAlgorithm
	Hash  string // hexadecimal
	H1    string // the Go checksum database's own hash, which no tool can compare with a file
}

// bill stores the software bill of materials of the release, CycloneDX 1.6, and returns its digest. It depends on the commit
// and on what the programs of the release say of themselves, and on nothing else.
func (r *run) bill(ctx context.Context, files depot.Tree) (deploy.Digest, error) {
	all, uncovered, err := r.lockedPackages(ctx)
	if err != nil {
		return "", err
	}
	linked, err := r.linkedModules(ctx, files)
	if err != nil {
		return "", err
	}
	if len(linked) == 0 {
		for _, f := range r.all {
			if path.Base(f.path) == "go.mod" {
				uncovered = append(uncovered, f.path)
			}
		}
	}
	data, err := r.encodeBill(append(all, linked...), uncovered)
	if err != nil {
		return "", err
	}
	digest, _, err := r.p.depot.Put(ctx, bytes.NewReader(data))
	return deploy.Digest(digest), err
}

// lockedPackages reads the lock files of the commit. What it cannot read is returned by name.
func (r *run) lockedPackages(ctx context.Context) (all []pkg, uncovered []string, err error) {
	var wanted []blob
	for _, f := range r.all {
		read, known := lockFiles[path.Base(f.path)]
		if !known || f.mode == "120000" || strings.Contains("/"+f.path, "/node_modules/") {
			continue
		}
		if read == nil {
			uncovered = append(uncovered, f.path)
			continue
		}
		wanted = append(wanted, blob{f.object, func(in io.Reader, _ int64) error {
			data, err := io.ReadAll(in)
			if err != nil {
				return err
			}
			found, err := read(data)
			if err != nil { // the package manager will have said more about it
				uncovered = append(uncovered, f.path)
				return nil //nolint:nilerr // the bill says what it does not cover
			}
			all = append(all, found...)
			return nil
		}})
	}
	return all, uncovered, gitOf(r.commit.Repo).blobs(ctx, wanted)
}

// linkedModules asks the Go programs of the release what is linked into them: the truth, where go.mod is only a wish.
func (r *run) linkedModules(ctx context.Context, files depot.Tree) ([]pkg, error) {
	var all []pkg
	for _, e := range files {
		if !e.Executable || e.Size < 64<<10 || strings.Contains("/"+e.Path, "/node_modules/") {
			continue
		}
		var found []pkg
		data, err := r.p.depot.Note(noteBuildInfo, e.Digest)
		if err == nil {
			err = json.Unmarshal(data, &found)
		}
		if err != nil {
			if found, err = r.buildInfo(ctx, e.Digest); err != nil {
				return nil, err
			}
		}
		all = append(all, found...)
	}
	return all, nil
}

func (r *run) buildInfo(ctx context.Context, digest string) ([]pkg, error) {
	data, err := r.p.depot.Read(ctx, digest)
	if err != nil {
		return nil, err
	}
	found := []pkg{}
	if info, err := buildinfo.Read(bytes.NewReader(data)); err == nil { // else it is no Go program
		found = append(found, pkg{Purl: "pkg:golang/std", Name: "std", Ver: strings.TrimPrefix(info.GoVersion, "go")})
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			found = append(found, pkg{Purl: "pkg:golang/" + m.Path, Name: m.Path, Ver: m.Version, H1: m.Sum})
		}
	}
	if data, err = json.Marshal(found); err != nil {
		return nil, err
	}
	return found, r.p.depot.SetNote(noteBuildInfo, digest, data, depot.Keeps{})
}

func (r *run) encodeBill(all []pkg, uncovered []string) ([]byte, error) {
	bom := cdx.NewBOM()
	digest := sha256.Sum256([]byte("lotse bill of materials\x00" + r.app.Name + "\x00" + r.commit.ID))
	digest[6], digest[8] = digest[6]&0x0f|0x80, digest[8]&0x3f|0x80 // RFC 9562 §5.8: version 8, of the maker's own
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", digest[:4], digest[4:6], digest[6:8], digest[8:10], digest[10:16])
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.commit.At.UTC().Format(time.RFC3339),
		Component: &cdx.Component{Type: cdx.ComponentTypeApplication, BOMRef: "app", Name: r.app.Name, Version: r.commit.ID},
	}
	if len(uncovered) > 0 {
		slices.Sort(uncovered)
		var props []cdx.Property
		for _, name := range slices.Compact(uncovered) {
			props = append(props, cdx.Property{Name: "lotse:not-covered", Value: name})
		}
		bom.Metadata.Properties = &props
	}
	components := components(all)
	bom.Components = &components
	var out bytes.Buffer
	err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

// components lists every package once, by its purl. One that is needed at run time somewhere is not a development one.
func components(all []pkg) []cdx.Component {
	slices.SortStableFunc(all, func(a, b pkg) int {
		return cmp.Or(strings.Compare(a.ref(), b.ref()), strings.Compare(string(a.Scope), string(b.Scope)), strings.Compare(a.Hash, b.Hash))
	})
	all = slices.CompactFunc(all, func(a, b pkg) bool { return a.ref() == b.ref() })
	list := []cdx.Component{}
	for _, p := range all {
		c := cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: p.ref(), Name: p.Name, Version: p.Ver, PackageURL: p.ref(), Scope: p.Scope}
		if scope, name, ok := strings.Cut(p.Name, "/"); ok && strings.HasPrefix(scope, "@") {
			c.Group, c.Name = scope, name
		}
		if p.Hash != "" {
			c.Hashes = &[]cdx.Hash{{Algorithm: p.Algo, Value: p.Hash}}
		}
		if p.H1 != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: p.H1}}
		}
		list = append(list, c)
	}
	return list
}

func (p pkg) ref() string { return p.Purl + "@" + strings.ReplaceAll(p.Ver, "+", "%2B") }
