package vault

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// chosen is one variable as it is given to something.
type chosen struct {
	deploy.Setting
	kind    deploy.VariableKind
	version string      // id
	counts  secret.Text // what it counts as in digests: its value, or where it rests and which version of it
}

// choose finds the variables of a stage, in the versions that something had; nil had: in those of now.
func (v *Vault) choose(ctx context.Context, ref deploy.StageRef, overlap map[string]overlapping, had deploy.ValueVersions) ([]chosen, error) {
	away, err := v.away(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := v.read(ref)
	if err != nil {
		return nil, err
	}
	shelf := shelves{d: d, away: away}
	if away != nil {
		if shelf.kept, err = there(ctx, away, d); err != nil {
			return nil, err
		}
	}
	if had == nil {
		if had, err = shelf.now(ctx, overlap); err != nil {
			return nil, err
		}
	}
	var all []chosen
	gone := &deploy.VersionsError{Stage: ref}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		of := name
		if base, is := overlap[name]; is {
			of = base.name
		}
		one, why, err := shelf.at(ctx, of, had[name])
		switch {
		case err != nil:
			return nil, err
		case why != "":
			gone.Gone = append(gone.Gone, deploy.GoneVersion{Name: name, Why: why})
		default:
			one.Name = name
			all = append(all, one)
		}
	}
	if len(gone.Gone) > 0 {
		return nil, gone
	}
	return all, nil
}

// shelves are the two places in which the variables of a stage may rest.
type shelves struct {
	d    document
	away Remote // nil: everything is in d
	kept []Kept // of away
}

// now are the versions of now, and those before that still overlap with them.
func (s shelves) now(ctx context.Context, overlap map[string]overlapping) (deploy.ValueVersions, error) {
	had := deploy.ValueVersions{}
	for _, e := range s.d.Variables {
		had[e.Name] = e.id()
	}
	for _, k := range s.kept {
		had[k.Name] = k.Version
	}
	for name, o := range overlap {
		if _, set := had[name]; set {
			delete(overlap, name) // somebody has set that very name
			continue
		}
		before, err := s.before(ctx, o)
		if err != nil {
			return nil, err
		}
		if before != "" {
			had[name] = before
		}
	}
	return had, nil
}

// before is the version before that of now, while both count.
func (s shelves) before(ctx context.Context, o overlapping) (string, error) {
	if i := slices.IndexFunc(s.kept, func(k Kept) bool { return k.Name == o.name }); i >= 0 {
		if !s.kept[i].Since.After(o.after) {
			return "", nil
		}
		versions, err := s.away.Versions(ctx, o.name)
		for _, k := range slices.Backward(versions) {
			if !k.Now && k.Gone == "" {
				return k.ID, err
			}
		}
		return "", err
	}
	i, there := s.d.find(o.name)
	if !there || !s.d.Variables[i].Since.After(o.after) {
		return "", nil
	}
	for _, e := range slices.Backward(s.d.history(o.name)) {
		if e.Version < s.d.Variables[i].Version && e.Gone == "" && e.secret() {
			return e.id(), nil
		}
	}
	return "", nil
}

// at is a variable in one version, or why that can be had no more.
func (s shelves) at(ctx context.Context, name, id string) (one chosen, gone string, err error) {
	if e, gone := s.d.version(name, id); s.away == nil || gone == "" && !e.secret() {
		value := secret.New(e.Value)
		return chosen{deploy.Setting{Name: name, Value: value}, e.Kind, id, value}, gone, nil
	}
	var k Kept
	if i := slices.IndexFunc(s.kept, func(k Kept) bool { return k.Name == name && k.Version == id }); i >= 0 {
		k = s.kept[i]
	} else if k, err = s.away.At(ctx, name, id); err != nil {
		if missing, is := errors.AsType[*goneError](err); is {
			return one, missing.why, nil
		}
		return one, "", err
	}
	return chosen{deploy.Setting{Name: name, Value: k.Value, Reference: k.Reference}, deploy.SecretVariable, id, secret.New(cmp.Or(k.Origin, k.Reference) + "#" + k.Version)}, "", nil
}
