package vault

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"filippo.io/age"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (v *Vault) keyFile() string { return filepath.Join(v.dir, "age.key") }

// keys reads what opens sealed files: the key of this machine and, while all files are sealed anew, behind it the one before. They are
// read each time, so that a key that was put back, or closed to others, counts at once.
func (v *Vault) keys() (keys []*age.X25519Identity, err error) {
	text, err := readPrivate(v.keyFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, deploy.Hint(fmt.Errorf("%w: %s is missing, and without it nothing that was sealed can be opened", deploy.ErrDamaged, v.keyFile()),
			"put it back from a copy; if there is none, move "+v.dir+" away and set the variables again; nothing was changed")
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		identity, err := age.ParseX25519Identity(line)
		if err != nil {
			keys = nil
			break
		}
		keys = append(keys, identity)
	}
	if len(keys) > 0 {
		return keys, nil
	}
	return nil, deploy.Hint(fmt.Errorf("%w: %s holds no key of age", deploy.ErrDamaged, v.keyFile()), "put it back from a copy; nothing was changed")
}

// keysOrNew is keys, or a new one where nothing was sealed yet. The caller holds the lock.
func (v *Vault) keysOrNew() ([]*age.X25519Identity, error) {
	_, err := os.Lstat(v.keyFile())
	if !errors.Is(err, fs.ErrNotExist) {
		return v.keys()
	}
	sealed, err := fs.Glob(os.DirFS(v.dir), "*/*.age")
	if err != nil || len(sealed) > 0 {
		_, missing := v.keys()
		return nil, errors.Join(missing, err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	keys := []*age.X25519Identity{identity}
	return keys, v.keep(keys)
}

// keep writes the keys down, in the form that age has for them.
func (v *Vault) keep(keys []*age.X25519Identity) error {
	var text strings.Builder
	text.WriteString("# opens the variables of all stages; keep a copy apart from theirs\n")
	for i, k := range keys {
		if i > 0 {
			text.WriteString("# the one before, until everything is sealed anew\n")
		}
		fmt.Fprintf(&text, "# public key: %s\n%s\n", k.Recipient(), k)
	}
	return v.replace(v.keyFile(), []byte(text.String()), nil)
}

// maxKey is more than a file of one key has, in bytes.
const maxKey = 64 << 10

// readPrivate reads a file that is its owner's alone, as ssh does with keys: who else could read it must be known before it is used.
func readPrivate(file string) (string, error) {
	for _, path := range []string{filepath.Dir(file), file} {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		mode := info.Mode().Perm()
		if mode&0o077 != 0 {
			want := "600"
			if info.IsDir() {
				want = "700"
			}
			return "", deploy.Hint(fmt.Errorf("%w: %s is open to others on this machine (mode %04o)", deploy.ErrBadInput, path, mode),
				"`chmod "+want+" "+path+"`, and change the secrets if others use this machine")
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
			return "", deploy.Hint(fmt.Errorf("%w: %s belongs to another user", deploy.ErrBadInput, path), "run this as that user, or `chown` it to yours")
		}
		if path == file && (!info.Mode().IsRegular() || info.Size() > maxKey) {
			return "", fmt.Errorf("%w: %s is not a file with a key", deploy.ErrDamaged, path)
		}
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// versionKey reads the key under which versions of settings are named, or makes it.
func versionKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, sha256.Size)
		rand.Read(key) // never fails, by its documentation
		err = os.WriteFile(file, key, 0o600)
	}
	if err == nil && len(key) < sha256.Size {
		err = deploy.Hint(fmt.Errorf("%w: %s holds %d bytes", deploy.ErrDamaged, file, len(key)),
			"delete it: a new one is made, and every stage counts as changed once")
	}
	return key, err
}

// letters are those that nobody takes for another: no i, l, o, 0, 1. There are 31 of them, 4.95 bits each.
const letters = "abcdefghjkmnpqrstuvwxyz23456789"

// newPassword is four groups of five letters, 99 bits of chance: more than anybody tries out, and still to be read to somebody.
func newPassword() string {
	var text strings.Builder
	for b := make([]byte, 1); text.Len() < 4*5+3; {
		if rand.Read(b); int(b[0]) >= 256/len(letters)*len(letters) {
			continue // or the first letters would come more often
		}
		text.WriteByte(letters[int(b[0])%len(letters)])
		if text.Len() < 4*5+3 && text.Len()%6 == 5 {
			text.WriteByte('-')
		}
	}
	return text.String()
}
