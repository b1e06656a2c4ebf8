package vault

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// mostVersions is how many versions of a name are kept, with the one of now. Those that a release needs to which somebody may go back are
// kept beside them, as far as there is room.
const mostVersions = 10

// Keeping is the vault, with what names the versions that releases need. It is called before anything else.
func (v *Vault) Keeping(needed func(context.Context, deploy.StageRef) ([]deploy.ValueVersions, error)) *Vault {
	with := *v
	with.needed = needed
	return &with
}

// neededOf are the ids of versions of a stage that must not be dropped. Where that cannot be found out, the last ones are kept all the same.
func (v *Vault) neededOf(stage deploy.StageRef) map[string]bool {
	ids := map[string]bool{}
	if v.needed == nil {
		return ids
	}
	all, err := v.needed(context.Background(), stage)
	if err != nil {
		return ids
	}
	for _, versions := range all {
		for name, id := range versions {
			ids[name+"@"+id] = true
		}
	}
	return ids
}

// id names the version among all of its name. It says nothing of the value.
func (e entry) id() string {
	if e.Mark == "" {
		return strconv.Itoa(e.Version)
	}
	return strconv.Itoa(e.Version) + "-" + e.Mark
}

// mark is enough to tell two versions of one number apart, which only come to be where somebody puts back a copy.
func mark() string { return strings.ToLower(rand.Text()[:5]) }

// set puts e in the place of what has its name. The same value again is no new version.
func (d *document) set(e entry) error {
	i, there := d.find(e.Name)
	if there {
		is := d.Variables[i]
		switch {
		case is.secret() && !e.secret():
			return isSecret(e.Name, deploy.StageRef{App: d.App, Stage: d.Stage})
		case is.Kind == e.Kind && is.Value == e.Value:
			return nil
		}
		d.putAside(is)
	}
	e.Version, e.Mark = d.last(e.Name)+1, mark()
	if there {
		d.Variables[i] = e
	} else {
		d.Variables = slices.Insert(slices.Clone(d.Variables), i, e)
	}
	return nil
}

// remove takes a variable away; its versions stay.
func (d *document) remove(kind deploy.VariableKind, name string) error {
	i, there := d.find(name)
	if !there || d.Variables[i].Kind != kind {
		return d.unknown(kind, name)
	}
	d.putAside(d.Variables[i])
	d.Variables = slices.Delete(slices.Clone(d.Variables), i, i+1)
	return nil
}

// putAside makes an old version of what was one of now.
func (d *document) putAside(e entry) {
	d.Old = append(slices.Clone(d.Old), e)
	slices.SortStableFunc(d.Old, func(a, b entry) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
}

// last is the highest number of a name that ever was.
func (d *document) last(name string) (n int) {
	for _, e := range d.history(name) {
		n = max(n, e.Version)
	}
	return n
}

// history are all versions of a name, the oldest first; that of now is the last.
func (d *document) history(name string) (all []entry) {
	for _, e := range d.Old {
		if e.Name == name {
			all = append(all, e)
		}
	}
	if i, there := d.find(name); there {
		all = append(all, d.Variables[i])
	}
	return all
}

// version finds one by its id, or says why it is gone.
func (d *document) version(name, id string) (e entry, gone string) {
	for _, e := range d.history(name) {
		if e.id() == id {
			return e, e.Gone
		}
	}
	return entry{}, deploy.VersionNotKept
}

// fitting is the document as it is sealed: with as many versions as may be kept, those that are needed for longest.
func (d document) fitting(needed map[string]bool) ([]byte, error) {
	d.Format = format
	wanted := func(e entry) bool { return needed[e.Name+"@"+e.id()] }
	younger := map[string]int{}
	for _, e := range d.Variables {
		younger[e.Name] = 1
	}
	var kept []entry
	for _, e := range slices.Backward(d.Old) {
		if younger[e.Name]++; younger[e.Name] <= mostVersions || wanted(e) {
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	d.Old = kept
	for {
		plain, err := json.Marshal(d) //nolint:gosec // it is sealed by the caller
		if err != nil || len(plain) <= maxSealed {
			return plain, err
		}
		if !d.shorten(wanted) {
			return nil, fmt.Errorf("%w: all together have more than %d bytes", deploy.ErrBadInput, maxSealed)
		}
	}
}

// shorten drops the value of the oldest version, of those first that nothing needs. Its number stays taken.
func (d *document) shorten(wanted func(entry) bool) bool {
	oldest := -1
	for i, e := range d.Old {
		if e.Gone != "" {
			continue
		}
		if oldest < 0 || wanted(d.Old[oldest]) && !wanted(e) || wanted(d.Old[oldest]) == wanted(e) && e.Since.Before(d.Old[oldest].Since) {
			oldest = i
		}
	}
	if oldest >= 0 {
		d.Old = slices.Clone(d.Old)
		d.Old[oldest].Value, d.Old[oldest].Gone = "", deploy.VersionNotKept
	}
	return oldest >= 0
}

// Get returns the values of variables of one kind in the order of names: those that are named, or all. record is called before. ErrNotFound
// for a name that the stage does not have; ErrRefused for a value that this machine may not read.
func (v *Vault) Get(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, record func(names []string) error) ([]deploy.Setting, error) {
	all, d, err := v.current(ctx, stage, kind)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s deploy.Setting) bool { return s.Name == name }) {
			return nil, d.unknown(kind, name)
		}
	}
	var found []deploy.Setting
	var given []string
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		if s.Reference != "" && s.Value.Empty() {
			return nil, deploy.Hint(fmt.Errorf("%w: this machine may not read %s of %s", deploy.ErrRefused, s.Name, stage), "it takes secretsmanager:GetSecretValue")
		}
		found, given = append(found, s), append(given, s.Name)
	}
	if len(found) > 0 {
		err = record(given)
	}
	return found, err
}

// current are the variables of one kind as they are, and a document that has their names.
func (v *Vault) current(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind) (all []deploy.Setting, d document, err error) {
	away, err := v.away(ctx, stage)
	if err != nil {
		return nil, d, err
	}
	if d, err = v.read(stage); err != nil {
		return nil, d, err
	}
	for _, e := range d.Variables {
		if e.Kind == kind {
			all = append(all, deploy.Setting{Name: e.Name, Value: secret.New(e.Value)})
		}
	}
	if away == nil || kind != deploy.SecretVariable {
		return all, d, nil
	}
	kept, err := there(ctx, away, d)
	for _, k := range kept {
		all = append(all, deploy.Setting{Name: k.Name, Value: k.Value, Reference: k.Reference})
		d.Variables = append(slices.Clone(d.Variables), entry{Name: k.Name, Kind: kind})
	}
	slices.SortFunc(d.Variables, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(all, func(a, b deploy.Setting) int { return strings.Compare(a.Name, b.Name) })
	return all, d, err
}

// Compare says what would become of variables if they were set to values, in the order of these. Nothing is changed, and no value told.
func (v *Vault) Compare(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting) ([]deploy.VariableChange, error) {
	now, _, err := v.current(ctx, stage, kind)
	if err != nil {
		return nil, err
	}
	changes := make([]deploy.VariableChange, len(values))
	for i, s := range values {
		changes[i] = deploy.VariableChange{Name: s.Name, Is: deploy.ChangeNew}
		for _, n := range now {
			switch {
			case n.Name != s.Name:
			case n.Value.Reveal() == s.Value.Reveal():
				changes[i].Is = deploy.ChangeSame
			default:
				changes[i].Is = deploy.ChangeChanged
			}
		}
	}
	return changes, nil
}

// Versions returns the versions of a variable, the newest first, also of one that was taken away. ErrNotFound for a name that never was.
func (v *Vault) Versions(ctx context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error) {
	away, err := v.away(ctx, stage)
	if err != nil {
		return nil, err
	}
	d, err := v.read(stage)
	if err != nil {
		return nil, err
	}
	var all []deploy.VariableVersion
	i, plain := d.find(name)
	if away != nil && (!plain || d.Variables[i].secret()) {
		versions, err := away.Versions(ctx, name)
		if err != nil || len(versions) > 0 {
			return newestFirst(versions), err
		}
	}
	for _, e := range d.history(name) {
		all = append(all, deploy.VariableVersion{Number: e.Version, Since: e.Since, By: e.By, Gone: e.Gone, Now: plain && e.Version == d.Variables[i].Version})
	}
	if len(all) == 0 {
		return nil, d.unknown(deploy.SecretVariable, name)
	}
	slices.Reverse(all)
	return all, nil
}

func newestFirst(versions []KeptVersion) (all []deploy.VariableVersion) {
	for _, k := range slices.Backward(versions) {
		all = append(all, deploy.VariableVersion{Number: k.Number, Since: k.Since, By: k.By, Now: k.Now, Gone: k.Gone})
	}
	return all
}

// Revoke makes that versions of a secret can be had no more, here or by a rollback: the ones that are named, or all but the one of now. It
// returns which; record is called before. ErrRefused for the one of now, ErrNotFound for a version that is not kept.
func (v *Vault) Revoke(ctx context.Context, stage deploy.StageRef, name string, numbers []int, record func(numbers []int) error) (revoked []int, err error) {
	versions, err := v.Versions(ctx, stage, name)
	if err != nil {
		return nil, err
	}
	for _, k := range versions {
		if k.Gone == "" && (len(numbers) == 0 && !k.Now || slices.Contains(numbers, k.Number)) {
			revoked = append(revoked, k.Number)
		}
		if k.Now && slices.Contains(numbers, k.Number) {
			return nil, deploy.Hint(fmt.Errorf("%w: version %d of %s is the one of now", deploy.ErrRefused, k.Number, name),
				fmt.Sprintf("`lotse secrets rotate --stage %s --revoke %s` gives it another value and revokes this one; `lotse secrets rm` takes it away", stage.Stage, name))
		}
	}
	for _, n := range numbers {
		if !slices.ContainsFunc(versions, func(k deploy.VariableVersion) bool { return k.Number == n }) {
			return nil, deploy.Hint(fmt.Errorf("%w: %s of %s has no version %d", deploy.ErrNotFound, name, stage, n), fmt.Sprintf("`lotse secrets versions --stage %s %s` lists them", stage.Stage, name))
		}
	}
	if len(revoked) == 0 {
		return nil, nil
	}
	slices.Sort(revoked)
	if away, err := v.away(ctx, stage); err != nil || away != nil {
		if err == nil {
			err = record(revoked)
		}
		if err == nil {
			err = away.Revoke(ctx, name, revoked)
		}
		return revoked, err
	}
	return revoked, v.update(ctx, stage, func() error { return record(revoked) }, func(d *document) error {
		d.Old = slices.Clone(d.Old)
		for i, e := range d.Old {
			if e.Name == name && slices.Contains(revoked, e.Version) {
				d.Old[i].Value, d.Old[i].Gone = "", deploy.VersionRevoked
			}
		}
		return nil
	})
}
