package proxy

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"github.com/lotse-eu/lotse/internal/secret"
)

const (
	keyBytes = 32

	// verifierCost makes one look at a password cost about 50 ms and 4 KiB. Argon2id would want 7 MiB for as much, a third of what
	// the whole proxy has.
	verifierCost     = 10
	verifierCostMost = 14 // about 1 s: more than a table may ask of the proxy
)

// Private says who may see a site: who has its password, which is not in here and cannot be found from it but by trying. What
// prints a Private prints neither part. Two with the same parts are the same lock; a new Key ends every sign-in.
type Private struct {
	Verifier string `json:"verifier"` // bcrypt of the password's keyed digest
	Key      []byte `json:"key"`      // 32 random bytes: of that digest, and of the cookies of who has signed in
}

// NewPrivate makes a lock for a password, with a new key. cost is of bcrypt; 0: what a look ought to cost. An empty password is
// ErrInvalid.
func NewPrivate(password secret.Text, cost int) (*Private, error) {
	if password.Empty() {
		return nil, fmt.Errorf("%w: the password is empty", ErrInvalid)
	}
	p := &Private{Key: make([]byte, keyBytes)}
	_, _ = rand.Read(p.Key) // never fails
	verifier, err := bcrypt.GenerateFromPassword(p.stretched(password.Reveal()), cmp.Or(cost, verifierCost))
	if err != nil {
		return nil, fmt.Errorf("a verifier of the password: %w", err)
	}
	p.Verifier = string(verifier)
	return p, nil
}

// Opens reports whether it is the lock's password. It takes about 50 ms at the usual cost, whatever the answer.
func (p *Private) Opens(password secret.Text) bool { return p.opens(password.Reveal()) }

func (p *Private) opens(password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(p.Verifier), p.stretched(password)) == nil
}

// stretched is of one length, since bcrypt sees 72 bytes and ends at a zero, and keyed, so that a digest of the same password
// stolen elsewhere opens nothing here.
func (p *Private) stretched(password string) []byte {
	mac := hmac.New(sha512.New384, p.Key)
	mac.Write([]byte("lotse password\x00" + password))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

func (p *Private) same(other *Private) bool {
	return p.Verifier == other.Verifier && bytes.Equal(p.Key, other.Key)
}

func (p *Private) check(bad func(string, ...any)) {
	if p == nil {
		return
	}
	if len(p.Key) != keyBytes {
		bad("the key of a private site has %d bytes, not %d", len(p.Key), keyBytes)
	}
	if cost, err := bcrypt.Cost([]byte(p.Verifier)); err != nil || cost > verifierCostMost {
		bad("the verifier of a private site cannot be used")
	}
}

// String shows nothing.
func (Private) String() string { return secret.Shown }

// GoString shows nothing.
func (Private) GoString() string { return secret.Shown }

// sum is a keyed digest, for what is compared often.
func sum(key []byte, parts ...string) (digest [sha256.Size]byte) {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write([]byte(p))
		mac.Write([]byte{0})
	}
	mac.Sum(digest[:0])
	return digest
}
