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
}

const (
	format = 1
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
	sealed, err := os.ReadFile(v.file(stage))
	if errors.Is(err, fs.ErrNotExist) {
		return document{Format: format, App: stage.App, Stage: stage.Stage}, nil
	}
	if err != nil {
		return document{}, fmt.Errorf("the variables of %s: %w", stage, err)
	}
	identity, err := v.identity()
	if err != nil {
		return document{}, fmt.Errorf("the variables of %s: %w", stage, err)
	}
	return v.open(stage, sealed, identity)
}

// open undoes the sealing. What the decoder says is not passed on: it may quote what it has read.
func (v *Vault) open(stage deploy.StageRef, sealed []byte, identity *age.X25519Identity) (document, error) {
	damaged := func(what, hint string) (document, error) {
		return document{}, deploy.Hint(fmt.Errorf("%w: the variables of %s in %s: %s", deploy.ErrDamaged, stage, v.file(stage), what),
			hint+"; nothing was changed")
	}
	plain, err := unseal(sealed, identity)
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
	return d, nil
}

func unseal(sealed []byte, identity *age.X25519Identity) ([]byte, error) {
	opened, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(opened, 2*maxSealed))
}

// write puts a document in the place of the one before: aside first, on the disk, then renamed. record is called in between.
func (v *Vault) write(stage deploy.StageRef, d document, record func() error) error {
	plain, err := json.Marshal(d) //nolint:gosec // it is sealed below
	if err != nil {
		return err
	}
	if len(plain) > maxSealed {
		return fmt.Errorf("%w: the variables of %s together have more than %d bytes", deploy.ErrBadInput, stage, maxSealed)
	}
	identity, err := v.identityOrNew()
	if err != nil {
		return err
	}
	sealed, err := seal(plain, identity)
	if err != nil {
		return fmt.Errorf("the variables of %s: %w", stage, err)
	}
	if err := os.MkdirAll(filepath.Join(v.dir, stage.App), 0o700); err != nil {
		return err
	}
	if err := syncDir(v.dir); err != nil {
		return err
	}
	return replace(v.file(stage), sealed, record)
}

// seal seals what plain is, and opens it again to see: what it is to replace is gone afterwards.
func seal(plain []byte, identity *age.X25519Identity) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, identity.Recipient())
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if again, err := unseal(sealed.Bytes(), identity); err != nil || !bytes.Equal(again, plain) {
		return nil, fmt.Errorf("%w: what was sealed does not open again", deploy.ErrDamaged)
	}
	return sealed.Bytes(), nil
}
