// Package password keeps passwords so that a stolen table does not give them away:
// argon2id, with OWASP's parameters (19 MiB, two passes), in the PHC string form.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	memoryKiB = 19 * 1024
	passes    = 2
	lanes     = 1
	keyBytes  = 32
	saltBytes = 16
)

// A Keeper hashes and checks, a few at a time: each takes 19 MiB and some 20 ms of a
// core, and a crowd that signs in must wait in line rather than take the machine down.
type Keeper struct {
	turns chan struct{}
	dummy string
}

// NewKeeper returns a Keeper that works on at most atOnce passwords at a time.
func NewKeeper(atOnce int) *Keeper {
	k := &Keeper{turns: make(chan struct{}, atOnce)}
	k.dummy = encode(make([]byte, saltBytes), make([]byte, keyBytes))
	return k
}

// Hash returns what to keep of a password.
func (k *Keeper) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	key, err := k.derive(ctx, password, salt)
	return encode(salt, key), err
}

// Matches reports whether hash is of this password. An empty hash is of none, and takes
// as long to say so: whether there is an account must not show in the time.
func (k *Keeper) Matches(ctx context.Context, password, hash string) (bool, error) {
	known := hash != ""
	if !known {
		hash = k.dummy
	}
	salt, want, err := decode(hash)
	if err != nil {
		return false, err
	}
	key, err := k.derive(ctx, password, salt)
	return err == nil && known && subtle.ConstantTimeCompare(key, want) == 1, err
}

func (k *Keeper) derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case k.turns <- struct{}{}:
		defer func() { <-k.turns }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, passes, memoryKiB, lanes, keyBytes), nil
}

// The parameters are fixed; to change them, read them from the string first.
var form = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$", argon2.Version, memoryKiB, passes, lanes)

func encode(salt, key []byte) string {
	return form + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(key)
}

func decode(hash string) (salt, key []byte, err error) {
	rest, ok := strings.CutPrefix(hash, form)
	s, k, two := strings.Cut(rest, "$")
	if !ok || !two {
		return nil, nil, errors.New("password: not a hash of this form")
	}
	if salt, err = base64.RawStdEncoding.DecodeString(s); err == nil {
		key, err = base64.RawStdEncoding.DecodeString(k)
	}
	return salt, key, err
}
