// Package vault knows where secrets rest: sealed with age in files of the state folder, one for each stage, in .env files
// beside lotse.yaml that are not in the commit, and, of stages with the engine aws, in Secrets Manager, where the platform reads them
// itself. Plain variables are always sealed here.
//
//	<dir>/age.key           the identity that opens all of them (age's own file format), mode 0600
//	<dir>/recipients        who else can open them: public keys, each with a name
//	<dir>/reseal            there while files are still to be sealed anew for a change of the two above
//	<dir>/<app>/<stage>.age the variables and the password of one stage
//	<dir>/write.lock        held by who writes
//
// Sealed files that are copied alone are of no use to anybody; with the key, `age -d -i key stage.age` opens them without Lotse.
// A file is only ever replaced by a whole one, and one that cannot be opened is never replaced.
package vault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Vault keeps the variables of stages. It holds nothing in memory but the key of versions, and is safe for concurrent use, also
// beside other processes on the same folder.
type Vault struct {
	dir string
	mac []byte // the key under which versions of settings are named
	now func() time.Time

	remotes Remotes // nil: secrets rest here alone
	needed  func(context.Context, deploy.StageRef) ([]deploy.ValueVersions, error)
	moment  func() error // tests end the work there; nil: nothing happens
}

// Open opens the vault in dir, which is made with the first thing that is kept. versions is the file with the key under which
// versions of settings are named; it is made (0600) where there is none. Sealed files are looked at when they are asked for: one
// that is damaged is an error for its own stage alone.
func Open(dir, versions string, now func() time.Time) (*Vault, error) {
	mac, err := versionKey(versions)
	if err != nil {
		return nil, fmt.Errorf("the key of settings: %w", err)
	}
	return &Vault{dir: dir, mac: mac, now: now}, nil
}

// Set keeps values for a stage, all of them or none, in the place of what had their names. by is the opaque id of who asks.
// record is called when nothing but a crash can keep the change from happening any more; its error does. ErrBadInput for what
// cannot be a variable, and for a name that is a secret and is not to be one any more; ErrDamaged for a vault that cannot be
// opened, which is then left as it is.
func (v *Vault) Set(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by string, record func() error) error {
	return v.Change(ctx, stage, kind, values, nil, by, record)
}

// Change is Set of values and Remove of names at once.
func (v *Vault) Change(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by string, record func() error) error {
	if !kind.Known() || len(values)+len(remove) == 0 {
		return fmt.Errorf("%w: a variable is env or secret, and there must be one", deploy.ErrBadInput)
	}
	for _, s := range values {
		if err := s.Problem(); err != nil {
			return err
		}
	}
	away, err := v.away(ctx, stage)
	switch {
	case err != nil:
		return err
	case away != nil && kind == deploy.SecretVariable:
		return v.bring(ctx, away, stage, values, remove, by, record)
	case away != nil:
		if err := v.noneAway(ctx, away, stage, values); err != nil {
			return err
		}
	}
	return v.update(ctx, stage, record, func(d *document) error {
		for _, name := range remove {
			if err := d.remove(kind, name); err != nil {
				return err
			}
		}
		for _, s := range values {
			if err := d.set(entry{Name: s.Name, Kind: kind, Value: s.Value.Reveal(), Since: v.now().UTC().Truncate(time.Second), By: by}); err != nil {
				return err
			}
		}
		return nil
	})
}

func isSecret(name string, stage deploy.StageRef) error {
	return deploy.Hint(fmt.Errorf("%w: %s is a secret of %s, and env is shown to everybody who asks", deploy.ErrBadInput, name, stage),
		fmt.Sprintf("set it with `lotse secrets set --stage %s %s`, or take the secret away first: `lotse secrets rm --stage %[1]s %[2]s`", stage.Stage, name))
}

// find says where a name is, or where it belongs.
func (d *document) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d.Variables, name, func(e entry, name string) int { return strings.Compare(e.Name, name) })
}

// Remove takes variables of one kind away, all or none of them; record as at Set. ErrNotFound for a name that the stage does not
// have, with the names that may have been meant.
func (v *Vault) Remove(ctx context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, record func() error) error {
	if !kind.Known() || len(names) == 0 {
		return fmt.Errorf("%w: a variable is env or secret, and there must be one", deploy.ErrBadInput)
	}
	if away, err := v.away(ctx, stage); err != nil || away != nil && kind == deploy.SecretVariable {
		if err != nil {
			return err
		}
		return v.takeAway(ctx, away, stage, names, record)
	}
	return v.update(ctx, stage, record, func(d *document) error {
		for _, name := range names {
			if err := d.remove(kind, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// unknown says that there is no such variable, and which there are. What is no name is not shown.
func (d *document) unknown(kind deploy.VariableKind, name string) error {
	verb := map[deploy.VariableKind]string{deploy.PlainVariable: "env", deploy.SecretVariable: "secrets"}
	var known []string
	for _, e := range d.Variables {
		if e.Name == name {
			return deploy.Hint(fmt.Errorf("%w: %s of %s/%s is of the other kind", deploy.ErrNotFound, name, d.App, d.Stage),
				fmt.Sprintf("`lotse %s rm --stage %s %s`", verb[e.Kind], d.Stage, name))
		}
		if e.Kind == kind {
			known = append(known, e.Name)
		}
	}
	if rest, _ := deploy.VariableProblem(name); rest != "" {
		name = "of that name"
	}
	what := map[deploy.VariableKind]string{deploy.PlainVariable: "variable", deploy.SecretVariable: "secret"}[kind]
	err := fmt.Errorf("%w: %s/%s has no %s %s", deploy.ErrNotFound, d.App, d.Stage, what, name)
	if len(known) == 0 {
		return deploy.Hint(err, fmt.Sprintf("nothing was set with `lotse %s set` there", verb[kind]))
	}
	hint := "there are: " + strings.Join(known, ", ")
	if near := deploy.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %s? ", near) + hint
	}
	return deploy.Hint(err, hint)
}

// List returns the variables of a stage that were set here or where its secrets rest, in the order of their names. Secrets come without
// their values.
func (v *Vault) List(ctx context.Context, stage deploy.StageRef) ([]deploy.Variable, error) {
	away, err := v.away(ctx, stage)
	if err != nil {
		return nil, err
	}
	d, err := v.read(stage)
	if err != nil {
		return nil, err
	}
	all := []deploy.Variable{}
	for _, e := range d.Variables {
		one := deploy.Variable{Name: e.Name, Kind: e.Kind, Since: e.Since, By: e.By, Version: e.Version}
		if e.Kind == deploy.PlainVariable {
			one.Value = secret.New(e.Value)
		}
		all = append(all, one)
	}
	if away == nil {
		return all, nil
	}
	kept, err := there(ctx, away, d)
	for _, k := range kept {
		all = append(all, deploy.Variable{Name: k.Name, Kind: deploy.SecretVariable, Since: k.Since, By: k.By, Version: k.Number})
	}
	slices.SortFunc(all, func(a, b deploy.Variable) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// Password returns the password of a private stage, which is made when it is asked for the first time.
func (v *Vault) Password(ctx context.Context, stage deploy.StageRef) (secret.Text, error) {
	if away, err := v.away(ctx, stage); err != nil || away != nil {
		if err != nil {
			return secret.Text{}, err
		}
		return away.Make(ctx, passwordName, secret.New(newPassword()), "")
	}
	d, err := v.read(stage)
	if err != nil || d.Password != "" {
		return secret.New(d.Password), err
	}
	return v.password(ctx, stage, nil, false)
}

// NewPassword makes a new password for a private stage in the place of the old one; record as at Set.
func (v *Vault) NewPassword(ctx context.Context, stage deploy.StageRef, record func() error) (secret.Text, error) {
	if away, err := v.away(ctx, stage); err != nil || away != nil {
		if err != nil {
			return secret.Text{}, err
		}
		return v.newPasswordAway(ctx, away, record)
	}
	return v.password(ctx, stage, record, true)
}

func (v *Vault) password(ctx context.Context, stage deploy.StageRef, record func() error, anew bool) (made secret.Text, err error) {
	err = v.update(ctx, stage, record, func(d *document) error {
		if anew || d.Password == "" { // of two that ask for the first time, the second finds what the first has made
			d.Password = newPassword()
		}
		made = secret.New(d.Password)
		return nil
	})
	if err != nil {
		return secret.Text{}, err
	}
	return made, nil
}

// update changes what is kept for a stage while nobody else writes.
func (v *Vault) update(ctx context.Context, stage deploy.StageRef, record func() error, change func(*document) error) error {
	return v.alone(ctx, stage, func(d document) error {
		if err := change(&d); err != nil {
			return err
		}
		return v.write(stage, d, record)
	})
}

// alone calls body with what is kept for a stage while nobody else writes.
func (v *Vault) alone(ctx context.Context, stage deploy.StageRef, body func(document) error) error {
	if err := stage.Problem(); err != nil {
		return err
	}
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(v.dir, "write.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	_ = v.reseal() // goes on with what a crash has left; what keeps it from ending is told to who changes recipients
	d, err := v.read(stage)
	if err != nil {
		return err
	}
	return body(d)
}
