package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// document is what is sealed for one stage. It says itself whose it is, so that a file that was copied over another stage's is not
// taken for that one's.
type document struct {
	Format    int     `json:"format"`
	App       string  `json:"app"`
	Stage     string  `json:"stage"`
	Variables []entry `json:"variables,omitempty"` // in the order of names, each once
	Old       []entry `json:"old,omitempty"`       // their versions before, also of names that were taken away; in the order of names and numbers
	Password  string  `json:"password,omitempty"`  // of a private stage

	Home  deploy.Home `json:"home,omitzero"`   // where its secrets rest; the zero Home: among Variables
	Noted []string    `json:"noted,omitempty"` // names of secrets that were brought there, since a listing there comes late
}

type entry struct {
	Name  string              `json:"name"`
	Kind  deploy.VariableKind `json:"kind"`
	Value string              `json:"value"`
	Since time.Time           `json:"since"`
	By    string              `json:"by"` // opaque id

	Version int    `json:"version,omitempty"` // counts the changes of the name; files of format 1 have none
	Mark    string `json:"mark,omitempty"`    // tells it from a version of the same number, where a copy of the file was put back
	Gone    string `json:"gone,omitempty"`    // of an old one: why its value can be had no more; it has none then
}

const (
	format = 2 // 1 had no versions
	// maxSealed is what one stage may have, in bytes: as much as a program can be given at all (execve(2): 6 MiB for arguments and
	// environment with the usual limit of the stack) leaves this far behind, and more is a mistake.
	maxSealed = 1 << 20
)

func (v *Vault) file(stage deploy.StageRef) string {
	return filepath.Join(v.dir, stage.App, stage.Stage+".age")
}

// read opens what is kept for a stage; nothing is an empty document.
func (v *Vault) read(stage deploy.StageRef) (document, error) {
	if err := stage.Problem(); err != nil {
		return document{}, err
	}
	var before []byte
	for {
		sealed, err := os.ReadFile(v.file(stage))
		if errors.Is(err, fs.ErrNotExist) {
			return document{Format: format, App: stage.App, Stage: stage.Stage}, nil
		}
		if err != nil {
			return document{}, fmt.Errorf("the variables of %s: %w", stage, err)
		}
		keys, err := v.keys()
		if err != nil {
			return document{}, fmt.Errorf("the variables of %s: %w", stage, err)
		}
		d, err := v.open(stage, sealed, keys)
		if err == nil || bytes.Equal(sealed, before) {
			return d, err
		}
		before = sealed // it may have been sealed anew between the two readings
	}
}

// open undoes the sealing. What the decoder says is not passed on: it may quote what it has read.
func (v *Vault) open(stage deploy.StageRef, sealed []byte, keys []*age.X25519Identity) (document, error) {
	damaged := func(what, hint string) (document, error) {
		return document{}, deploy.Hint(fmt.Errorf("%w: the variables of %s in %s: %s", deploy.ErrDamaged, stage, v.file(stage), what),
			hint+"; nothing was changed")
	}
	plain, err := unseal(sealed, keys)
	if wrong, is := errors.AsType[*age.NoIdentityMatchError](err); is && wrong != nil {
		return damaged("they are sealed for another key than "+v.keyFile(), "put back the key that belongs to it")
	}
	const back = "put the last good copy of the file back, or move it away and set the variables again"
	if err != nil {
		return damaged("they cannot be opened ("+err.Error()+")", back)
	}
	var d document
	switch err := json.Unmarshal(plain, &d); {
	case err != nil:
		return damaged("what was sealed cannot be read", back)
	case d.Format > format:
		return document{}, deploy.Hint(fmt.Errorf("%w: the variables of %s were written by a newer version of Lotse", deploy.ErrUnsupported, stage), "use that version")
	case d.App != stage.App || d.Stage != stage.Stage:
		return damaged(fmt.Sprintf("they are those of %s/%s", d.App, d.Stage), back)
	}
	for i := range d.Variables {
		d.Variables[i].Version = max(1, d.Variables[i].Version) // of format 1
	}
	d.Format = format
	return d, nil
}

func unseal(sealed []byte, keys []*age.X25519Identity) ([]byte, error) {
	identities := make([]age.Identity, len(keys))
	for i, k := range keys {
		identities[i] = k
	}
	opened, err := age.Decrypt(bytes.NewReader(sealed), identities...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(opened, 2*maxSealed))
}

// write puts a document in the place of the one before: aside first, on the disk, then renamed. record is called in between.
func (v *Vault) write(stage deploy.StageRef, d document, record func() error) error {
	plain, err := d.fitting(v.neededOf(stage))
	if err != nil {
		return fmt.Errorf("the variables of %s: %w", stage, err)
	}
	keys, err := v.keysOrNew()
	if err != nil {
		return err
	}
	team, err := v.team()
	if err != nil {
		return err
	}
	sealed, err := seal(plain, keys, team)
	if err != nil {
		return fmt.Errorf("the variables of %s: %w", stage, err)
	}
	if err := os.MkdirAll(filepath.Join(v.dir, stage.App), 0o700); err != nil {
		return err
	}
	if err := syncDir(v.dir); err != nil {
		return err
	}
	return v.replace(v.file(stage), sealed, record)
}

// seal seals what plain is for the newest key of this machine and for the team, and opens it again to see: what it is to replace is gone
// afterwards.
func seal(plain []byte, keys []*age.X25519Identity, team []recipient) ([]byte, error) {
	recipients := []age.Recipient{keys[0].Recipient()}
	for _, r := range team {
		recipients = append(recipients, r.key)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if again, err := unseal(sealed.Bytes(), keys[:1]); err != nil || !bytes.Equal(again, plain) {
		return nil, fmt.Errorf("%w: what was sealed does not open again", deploy.ErrDamaged)
	}
	return sealed.Bytes(), nil
}
