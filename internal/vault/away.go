package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Remote keeps the secrets of one stage where its platform reads them itself. Safe for concurrent use.
type Remote interface {
	// List returns what there is, without values. It may come some minutes late.
	List(ctx context.Context) ([]Kept, error)

	// Read returns those of names that are there now, with the values that may be read.
	Read(ctx context.Context, names []string) ([]Kept, error)

	// Put gives a secret a value; one that was removed and can still be restored is restored before.
	Put(ctx context.Context, name string, value secret.Text, by string) error

	// Make is Put where the name is free, and returns the value that is there then.
	Make(ctx context.Context, name string, value secret.Text, by string) (secret.Text, error)

	// Remove takes a secret away; one that is gone is fine.
	Remove(ctx context.Context, name string) error

	// Versions returns the versions of a secret, the oldest first; none for one that is not there.
	Versions(ctx context.Context, name string) ([]KeptVersion, error)

	// At returns a version by its id, under a Reference by which the platform reads that one. A *goneError says why it can be had no more.
	At(ctx context.Context, name, id string) (Kept, error)

	// Revoke makes that versions can be had no more.
	Revoke(ctx context.Context, name string, numbers []int) error
}

// KeptVersion is one version of a secret of a Remote.
type KeptVersion struct {
	Number int
	ID     string
	Since  time.Time // zero: not known
	By     string    // opaque id; empty: not known
	Now    bool
	Gone   string // why its value can be had no more
}

// goneError is a version that can be had no more.
type goneError struct{ why string }

func (e *goneError) Error() string { return "the version is " + e.why }

// Gone is the error of a version that can be had no more; why is one of deploy's reasons.
func Gone(why string) error { return &goneError{why} }

// Remotes opens what keeps the secrets of a stage. It asks nothing yet, except for whose the credentials are.
type Remotes interface {
	Open(ctx context.Context, home deploy.Home, stage deploy.StageRef) (Remote, error)
}

// Kept is one secret of a Remote.
type Kept struct {
	Name      string
	Reference string      // by which the platform reads it
	Version   string      // id of the value's version
	Number    int         // of it; 0: not known
	Origin    string      // the Reference of the secret, where Reference is of this version alone
	Value     secret.Text // empty where it was not asked for, or may not be read
	Since     time.Time
	By        string // opaque id
}

// passwordName is the name under which the password of a private stage rests. It is no variable.
const passwordName = "LOTSE_PASSWORD"

// With is the vault, with what keeps the secrets of stages that have another Home. It is called before anything else.
func (v *Vault) With(remotes Remotes) *Vault {
	with := *v
	with.remotes = remotes
	return &with
}

// Settle says where the secrets of a stage rest from now on. What was sealed here is brought there with the next call that needs it;
// nothing is ever brought back.
func (v *Vault) Settle(ctx context.Context, stage deploy.StageRef, home deploy.Home) error {
	d, err := v.read(stage)
	if err != nil || d.Home == home {
		return err
	}
	if home != (deploy.Home{}) && v.remotes == nil {
		return fmt.Errorf("%w: this controller keeps no secrets in %s", deploy.ErrUnsupported, home.Engine)
	}
	return v.update(ctx, stage, nil, func(d *document) error {
		d.Home, d.Noted = home, nil
		return nil
	})
}

// away opens where the secrets of a stage rest, nil for here.
func (v *Vault) away(ctx context.Context, stage deploy.StageRef) (Remote, error) {
	d, err := v.read(stage)
	if err != nil || d.Home == (deploy.Home{}) {
		return nil, err
	}
	if v.remotes == nil {
		return nil, fmt.Errorf("%w: this controller keeps no secrets in %s", deploy.ErrUnsupported, d.Home.Engine)
	}
	remote, err := v.remotes.Open(ctx, d.Home, stage)
	if err != nil {
		return nil, err
	}
	if d.Password != "" || slices.ContainsFunc(d.Variables, entry.secret) {
		err = v.alone(ctx, stage, func(d document) error { return v.move(ctx, remote, stage, d) })
	}
	return remote, err
}

func (e entry) secret() bool { return e.Kind == deploy.SecretVariable }

// move brings what was sealed here to where it rests from now on. What has its name there already stays.
func (v *Vault) move(ctx context.Context, remote Remote, stage deploy.StageRef, d document) error {
	for _, e := range d.Variables {
		if !e.secret() {
			continue
		}
		if _, err := remote.Make(ctx, e.Name, secret.New(e.Value), e.By); err != nil {
			return err
		}
		d.note(e.Name)
	}
	if d.Password != "" {
		if _, err := remote.Make(ctx, passwordName, secret.New(d.Password), ""); err != nil {
			return err
		}
	}
	d.Variables, d.Password = slices.DeleteFunc(slices.Clone(d.Variables), entry.secret), ""
	d.Old = slices.DeleteFunc(slices.Clone(d.Old), entry.secret)
	return v.write(stage, d, nil)
}

func (d *document) note(name string) {
	if i, there := slices.BinarySearch(d.Noted, name); !there {
		d.Noted = slices.Insert(slices.Clone(d.Noted), i, name)
	}
}

func (d *document) forget(name string) {
	d.Noted = slices.DeleteFunc(slices.Clone(d.Noted), func(n string) bool { return n == name })
}

// there are the secrets that are there now: what the listing has, which comes late, and what was brought there from here.
func there(ctx context.Context, remote Remote, d document) ([]Kept, error) {
	listed, err := remote.List(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Clone(d.Noted)
	for _, k := range listed {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	read, err := remote.Read(ctx, slices.Compact(names))
	for i, k := range read {
		if j := slices.IndexFunc(listed, func(l Kept) bool { return l.Name == k.Name }); j >= 0 {
			read[i].By, read[i].Number = listed[j].By, listed[j].Number
		}
	}
	return read, err
}

// bring puts secrets where they rest. Each name is by itself there: where one cannot be put, the error says which were.
func (v *Vault) bring(ctx context.Context, remote Remote, stage deploy.StageRef, values []deploy.Setting, remove []string, by string, record func() error) error {
	for _, s := range values {
		if s.Value.Empty() {
			return deploy.Hint(fmt.Errorf("%w: Secrets Manager takes no empty value, and that of %s is", deploy.ErrBadInput, s.Name), "take it away instead: `lotse secrets rm`")
		}
		if strings.HasPrefix(s.Name, "LOTSE_") {
			return deploy.Hint(fmt.Errorf("%w: %s is Lotse's own", deploy.ErrBadInput, s.Name), "give it a name without LOTSE_")
		}
	}
	return v.alone(ctx, stage, func(d document) error {
		if _, err := remote.List(ctx); err != nil { // before it is written down: who may not even ask changes nothing
			return err
		}
		if err := recorded(record); err != nil {
			return err
		}
		var failed error
		var done []string
		for _, name := range remove {
			if failed = remote.Remove(ctx, name); failed != nil {
				return partly(failed, "taken away", done, len(remove)+len(values))
			}
			done = append(done, name)
			d.forget(name)
		}
		for _, s := range values {
			if failed = remote.Put(ctx, s.Name, s.Value, by); failed != nil {
				break
			}
			done = append(done, s.Name)
			d.note(s.Name)
			if i, there := d.find(s.Name); there {
				d.Variables = slices.Delete(slices.Clone(d.Variables), i, i+1)
			}
		}
		if len(done) > 0 {
			if err := v.write(stage, d, nil); err != nil {
				return err
			}
		}
		return partly(failed, "set", done, len(remove)+len(values))
	})
}

func recorded(record func() error) error {
	if record == nil {
		return nil
	}
	return record()
}

// partly says what was done of several names before one could not be.
func partly(err error, done string, names []string, all int) error {
	if err == nil || all == 1 {
		return err
	}
	was := "none of the " + fmt.Sprint(all) + " was " + done
	if len(names) > 0 {
		was = strings.Join(names, ", ") + " was " + done + " before"
	}
	return deploy.Hint(fmt.Errorf("%w (%s)", err, was), deploy.HintOf(err))
}

// noneAway refuses names of plain variables that are secrets where secrets rest.
func (v *Vault) noneAway(ctx context.Context, remote Remote, stage deploy.StageRef, values []deploy.Setting) error {
	d, err := v.read(stage)
	if err != nil {
		return err
	}
	kept, err := there(ctx, remote, d)
	for _, k := range kept {
		if slices.ContainsFunc(values, func(s deploy.Setting) bool { return s.Name == k.Name }) {
			return isSecret(k.Name, stage)
		}
	}
	return err
}

// takeAway removes secrets where they rest.
func (v *Vault) takeAway(ctx context.Context, remote Remote, stage deploy.StageRef, names []string, record func() error) error {
	return v.alone(ctx, stage, func(d document) error {
		kept, err := there(ctx, remote, d)
		if err != nil {
			return err
		}
		shown := d
		for _, k := range kept {
			shown.Variables = append(slices.Clone(shown.Variables), entry{Name: k.Name, Kind: deploy.SecretVariable})
		}
		for _, name := range names {
			if !slices.ContainsFunc(kept, func(k Kept) bool { return k.Name == name }) {
				return shown.unknown(deploy.SecretVariable, name)
			}
		}
		if err := recorded(record); err != nil {
			return err
		}
		var failed error
		var done []string
		for _, name := range names {
			if failed = remote.Remove(ctx, name); failed != nil {
				break
			}
			done = append(done, name)
		}
		d.Noted = slices.DeleteFunc(slices.Clone(d.Noted), func(name string) bool { return slices.Contains(done, name) })
		if err := v.write(stage, d, nil); err != nil {
			return err
		}
		return partly(failed, "taken away", done, len(names))
	})
}

func (v *Vault) newPasswordAway(ctx context.Context, remote Remote, record func() error) (secret.Text, error) {
	if err := recorded(record); err != nil {
		return secret.Text{}, err
	}
	made := secret.New(newPassword())
	if err := remote.Put(ctx, passwordName, made, ""); err != nil {
		return secret.Text{}, err
	}
	return made, nil
}
