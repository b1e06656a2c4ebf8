package postgres

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Whoever checks the server's certificate does so against the authority alone, which signs nothing else. The authority is made
// anew with the key that it has, so that a client which has read the old file goes on believing the server.
const (
	authorityLife  = 20 * 365 * 24 * time.Hour
	authorityRenew = 3 * 365 * 24 * time.Hour // before its end: longer than what it signs lives
	serverLife     = 2 * 365 * 24 * time.Hour
	serverRenew    = serverLife / 2 // before its end: a controller may be away for long
	backdate       = time.Hour      // for clocks that are a little behind

	authorityCert = "authority.pem"
	authorityKey  = "authority.key"
	serverCert    = "server.crt" // with the key behind it in one file: they cannot be of two kinds after a crash
)

// AuthorityPath is the PEM file by which clients know the server. It is no secret, and everybody may read it.
func (c Cluster) AuthorityPath() string { return filepath.Join(c.Dir, authorityCert) }

func (c Cluster) now() time.Time {
	if c.Clock == nil {
		return time.Now()
	}
	return c.Clock()
}

// Renew gives the server a new certificate where the one it has nears its end, also while it runs: connections that are open stay
// open, and clients need not be told. It reports whether there was something to do. ErrNotMade before Init.
func (c Cluster) Renew(ctx context.Context) (renewed bool, err error) {
	if c.Port == 0 {
		return false, nil
	}
	owner, err := c.owner()
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(c.data()); err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrNotMade, c.Dir, err)
	}
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock"))
	if err != nil {
		return false, err
	}
	defer unlock()
	renewed, err = c.certify(owner)
	if err != nil {
		return renewed, fmt.Errorf("renew the certificate of the cluster in %s: %w", c.Dir, err)
	}
	return renewed, c.reload(renewed)
}

// reload makes a running server read its files again.
func (c Cluster) reload(needed bool) error {
	pid, err := c.PID()
	if !needed || errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGHUP)
	}
	return err
}

// certify makes the authority and the server's certificate where they are not there or near their end. The caller holds the lock.
func (c Cluster) certify(owner User) (changed bool, err error) {
	if c.Port == 0 {
		return false, nil
	}
	authority, key, err := c.authority()
	if err != nil {
		return false, err
	}
	old, err := os.ReadFile(filepath.Join(c.data(), serverCert))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if c.fresh(old, authority) {
		return false, nil
	}
	text, err := c.sign(authority, key)
	if err != nil {
		return false, err
	}
	return true, writeFile(c.data(), serverCert, text, 0o600, owner)
}

// fresh reports whether the server's file holds what clients accept, for long enough.
func (c Cluster) fresh(file []byte, authority *x509.Certificate) bool {
	pair, err := tls.X509KeyPair(file, file)
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	for _, name := range []string{"127.0.0.1", "localhost"} {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: c.now()})
		if err != nil {
			return false
		}
	}
	return c.now().Add(serverRenew).Before(pair.Leaf.NotAfter)
}

// authority returns the cluster's authority, which is made where it is not there.
func (c Cluster) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := c.authorityKey()
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(c.AuthorityPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if cert := parseCert(text); cert != nil && key.PublicKey.Equal(cert.PublicKey) && c.now().Add(authorityRenew).Before(cert.NotAfter) {
		return cert, key, nil
	}
	der, err := c.issue(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "Lotse, the PostgreSQL of one stage"},
		NotAfter:              c.now().Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, nil, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	me := User{uint32(os.Geteuid()), uint32(os.Getegid())}
	return cert, key, writeFile(c.Dir, authorityCert, encode("CERTIFICATE", der), 0o644, me)
}

func parseCert(text []byte) *x509.Certificate {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil // as if there were none: another is made
	}
	return cert
}

// authorityKey reads the key, or makes it where there is none. A damaged one is an error: with another key, clients would have to
// read the authority's certificate again.
func (c Cluster) authorityKey() (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(filepath.Join(c.Dir, authorityKey))
	if err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, c.damagedKey()
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if ours, ok := key.(*ecdsa.PrivateKey); err == nil && ok {
			return ours, nil
		}
		return nil, c.damagedKey()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	me := User{uint32(os.Geteuid()), uint32(os.Getegid())}
	return key, writeFile(c.Dir, authorityKey, encode("PRIVATE KEY", der), 0o600, me)
}

func (c Cluster) damagedKey() error {
	path := filepath.Join(c.Dir, authorityKey)
	return &hinted{fmt.Errorf("%s is damaged", path), "remove the file: another authority is made, which programs read when they are started again"}
}

// sign makes the server's certificate and its key. Its names are those by which it is reached: an address for those who compare
// addresses (libpq from 15 on, Go), and both as names for those who know nothing but names (older libpq, Node where the host is an
// address).
func (c Cluster) sign(authority *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := c.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "127.0.0.1"},
		NotAfter:    c.now().Add(serverLife),
		DNSNames:    []string{"localhost", "127.0.0.1"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, &key.PublicKey, by)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)}, nil), nil
}

// issue signs; parent nil: by itself.
func (c Cluster) issue(template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = c.now().Add(-backdate)
	if parent == nil {
		parent = template
	}
	return x509.CreateCertificate(rand.Reader, template, parent, public, by)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
