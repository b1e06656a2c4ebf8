package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Sealed files can be opened by the key of this machine, and by those of the team: public keys of age or of ssh. A change of either seals
// every file anew. It is written down before it begins (<dir>/reseal), and whoever writes next goes on where a crash has ended it: until
// then age.key holds the key before as well, so that everything can be opened at every moment.

// recipient is one of the team.
type recipient struct {
	name, text string
	key        age.Recipient
}

// maxTeam bounds the header of every file.
const maxTeam = 100

func (v *Vault) teamFile() string   { return filepath.Join(v.dir, "recipients") }
func (v *Vault) resealFile() string { return filepath.Join(v.dir, "reseal") }

// team reads who else can open the files, in the order in which they came.
func (v *Vault) team() (team []recipient, err error) {
	data, err := os.ReadFile(v.teamFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, text, _ := strings.Cut(line, " ")
		r, err := parseRecipient(name, text)
		if err != nil {
			return nil, deploy.Hint(fmt.Errorf("%w: a line of %s is no recipient", deploy.ErrDamaged, v.teamFile()), "put it back from a copy, or take the line out; nothing was changed")
		}
		team = append(team, r)
	}
	return team, nil
}

var recipientName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// parseRecipient reads a public key. What was typed is not repeated: in its place there may stand a private one.
func parseRecipient(name, text string) (recipient, error) {
	if !recipientName.MatchString(name) || name == ownName {
		return recipient{}, deploy.Hint(fmt.Errorf("%w: a recipient needs a name of small letters, digits and hyphens", deploy.ErrBadInput), "for example anna-laptop")
	}
	text = strings.Join(strings.Fields(text), " ")
	if strings.Contains(strings.ToUpper(text), "SECRET-KEY") || strings.Contains(text, "PRIVATE KEY") {
		return recipient{}, deploy.Hint(fmt.Errorf("%w: that is a private key; a recipient is the public one", deploy.ErrBadInput),
			"it is in the shell's history now: make another pair, and give its public key, which begins with age1 or ssh-")
	}
	r := recipient{name: name, text: text}
	var err error
	switch {
	case strings.HasPrefix(text, "age1pq1"), strings.HasPrefix(text, "age1tag"):
		err = errors.New("of a kind that age does not mix with others")
	case strings.HasPrefix(text, "ssh-"):
		fields := strings.Fields(text) // the comment is left out: it is somebody's address most often
		r.text = strings.Join(fields[:min(2, len(fields))], " ")
		r.key, err = agessh.ParseRecipient(r.text)
	default:
		r.key, err = age.ParseX25519Recipient(text)
	}
	if err != nil {
		return recipient{}, deploy.Hint(fmt.Errorf("%w: the key of %s is no public key of age (age1…) or ssh (ssh-ed25519, ssh-rsa)", deploy.ErrBadInput, name),
			"`age-keygen` makes one; `lotse secrets recipients` on another machine shows that machine's")
	}
	return r, nil
}

// ownName is what the key of this machine is called in listings.
const ownName = "this-machine"

// Recipients are all whose keys open the sealed files; the key of this machine is the first, where there is one.
func (v *Vault) Recipients(context.Context) (all []deploy.Recipient, err error) {
	_, missing := os.Lstat(v.keyFile())
	sealed, err := v.sealed()
	if err != nil {
		return nil, err
	}
	if nothing := errors.Is(missing, fs.ErrNotExist) && len(sealed) == 0; !nothing {
		keys, err := v.keys()
		if err != nil {
			return nil, err
		}
		all = append(all, deploy.Recipient{Name: ownName, Key: keys[0].Recipient().String(), Own: true})
	}
	team, err := v.team()
	for _, r := range team {
		all = append(all, deploy.Recipient{Name: r.name, Key: r.text})
	}
	return all, err
}

// AddRecipient seals every file for one more key; record as at Set. ErrBadInput for what is no public key, and for a name or a key that is
// there already.
func (v *Vault) AddRecipient(ctx context.Context, name, key string, record func() error) error {
	r, err := parseRecipient(name, key)
	if err != nil {
		return err
	}
	return v.changeTeam(ctx, record, func(team []recipient, own string) ([]recipient, error) {
		for _, o := range team {
			if o.name == r.name || o.text == r.text {
				return nil, deploy.Hint(fmt.Errorf("%w: %s is a recipient already, under the name %s", deploy.ErrBadInput, r.name, o.name), "`lotse secrets recipients rm "+o.name+"` takes that one away")
			}
		}
		switch {
		case r.text == own:
			return nil, fmt.Errorf("%w: that is the key of this machine, which is a recipient always", deploy.ErrBadInput)
		case len(team) >= maxTeam:
			return nil, fmt.Errorf("%w: there are %d recipients, and that is the most", deploy.ErrBadInput, maxTeam)
		}
		return append(team, r), nil
	})
}

// RemoveRecipient seals every file anew without one key; record as at Set. What that key could open until then it still opens in copies of
// the files. ErrNotFound for a name that is none.
func (v *Vault) RemoveRecipient(ctx context.Context, name string, record func() error) error {
	return v.changeTeam(ctx, record, func(team []recipient, _ string) ([]recipient, error) {
		var names []string
		for i, o := range team {
			if o.name == name {
				return slices.Delete(slices.Clone(team), i, i+1), nil
			}
			names = append(names, o.name)
		}
		hint := "there is none but this machine, whose key is one always"
		if len(names) > 0 {
			hint = "there are: " + strings.Join(names, ", ")
		}
		if near := deploy.Nearest(name, names); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		if !recipientName.MatchString(name) {
			name = "of that name"
		}
		return nil, deploy.Hint(fmt.Errorf("%w: no recipient %s", deploy.ErrNotFound, name), hint)
	})
}

func (v *Vault) changeTeam(ctx context.Context, record func() error, change func(team []recipient, own string) ([]recipient, error)) error {
	return v.resealing(ctx, func(keys []*age.X25519Identity) error {
		team, err := v.team()
		if err != nil {
			return err
		}
		if team, err = change(team, keys[0].Recipient().String()); err != nil {
			return err
		}
		var text strings.Builder
		text.WriteString("# who can open the sealed files beside this machine; `lotse secrets recipients` changes it and seals them anew\n")
		for _, r := range team {
			text.WriteString(r.name + " " + r.text + "\n")
		}
		if err := v.replace(v.resealFile(), nil, nil); err != nil {
			return err
		}
		return v.replace(v.teamFile(), []byte(text.String()), record)
	})
}

// RotateKey gives this machine a new key and seals every file for it. The old one is kept until that is done, and is gone then: it opens
// copies of the files from before and nothing else. record as at Set.
func (v *Vault) RotateKey(ctx context.Context, record func() error) error {
	return v.resealing(ctx, func(keys []*age.X25519Identity) error {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		if err := recorded(record); err != nil {
			return err
		}
		if err := v.replace(v.resealFile(), nil, nil); err != nil {
			return err
		}
		return v.keep([]*age.X25519Identity{identity, keys[0]})
	})
}

// resealing makes a change of who can open the files, and seals all of them anew. Nobody else writes meanwhile.
func (v *Vault) resealing(ctx context.Context, change func(keys []*age.X25519Identity) error) error {
	if err := os.MkdirAll(v.dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(v.dir, "write.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := v.reseal(); err != nil { // what a crash has left: there are never more than two keys
		return err
	}
	keys, err := v.keysOrNew()
	if err != nil {
		return err
	}
	if err := change(keys); err != nil {
		return err
	}
	return v.reseal()
}

// reseal goes on with sealing all files anew where that was begun. The caller holds the lock. A file that cannot be opened keeps it from
// ending; all others are sealed anew.
func (v *Vault) reseal() error {
	if _, err := os.Lstat(v.resealFile()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	sealed, err := v.sealed()
	if err != nil {
		return err
	}
	var failed []error
	for _, stage := range sealed {
		d, err := v.read(stage)
		if err == nil {
			err = v.write(stage, d, nil)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return deploy.Hint(fmt.Errorf("not everything could be sealed anew, and the key before is kept until it is: %w", err), deploy.HintOf(err))
	}
	keys, err := v.keysOrNew()
	if err == nil && len(keys) > 1 {
		err = v.keep(keys[:1])
	}
	if err != nil {
		return err
	}
	return v.remove(v.resealFile())
}

// sealed are the stages that have a file.
func (v *Vault) sealed() (all []deploy.StageRef, err error) {
	files, err := fs.Glob(os.DirFS(v.dir), "*/*.age")
	for _, file := range files {
		app, name, _ := strings.Cut(strings.TrimSuffix(file, ".age"), "/")
		if stage := (deploy.StageRef{App: app, Stage: name}); stage.Problem() == nil {
			all = append(all, stage)
		}
	}
	return all, err
}

// replace is replace of a file of the vault.
func (v *Vault) replace(file string, data []byte, before func() error) error {
	if err := recorded(v.moment); err != nil {
		return err
	}
	if err := replace(file, data, before); err != nil {
		return err
	}
	return recorded(v.moment)
}

func (v *Vault) remove(file string) error {
	if err := recorded(v.moment); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return err
	}
	return recorded(v.moment)
}
