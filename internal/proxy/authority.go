package proxy

import (
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
	"strings"
	"sync"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 90 * 24 * time.Hour
	leafRenew     = 30 * 24 * time.Hour // before its end
	leavesMost    = 1024
	backdate      = time.Hour // for clocks that are a little behind
	certFile      = "authority.pem"
	keyFile       = "authority.key"
)

// Authority signs certificates for localhost and *.localhost on this machine, and can sign nothing else: its certificate
// carries critical name constraints (RFC 5280 §4.2.1.10) and is for servers only. Safe for concurrent use.
type Authority struct {
	dir   string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	clock func() time.Time
	store trustStore

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// OpenAuthority opens the authority in dir, or makes it (ECDSA P-256, 10 years, key 0600, dir 0700). It makes a new one
// when the old one has less than a leaf's life left; that must be trusted anew. Not for two processes at the same time in
// an empty dir. clock nil is time.Now.
func OpenAuthority(dir string, clock func() time.Time) (*Authority, error) {
	if clock == nil {
		clock = time.Now
	}
	a := &Authority{dir: dir, clock: clock, leaves: map[string]*tls.Certificate{}, store: machineStore{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	err := a.load()
	if errors.Is(err, fs.ErrNotExist) || err == nil && clock().Add(leafLife).After(a.cert.NotAfter) {
		err = a.create()
	}
	if err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	return a, nil
}

func (a *Authority) load() error {
	certPEM, err := os.ReadFile(a.CertPath())
	if err != nil {
		return err
	}
	keyPEM, err := os.ReadFile(filepath.Join(a.dir, keyFile))
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the key is not one of ours")
	}
	a.cert, a.key = pair.Leaf, key
	return nil
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := a.clock()
	template := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{CommonName: "Lotse local authority", Organization: []string{"Lotse, this machine only"}},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(authorityLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost"}, // and, by RFC 5280, every name under it
		// A constraint binds only the kinds of names that it mentions; so addresses are mentioned.
		ExcludedIPRanges: []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	return a.save(der)
}

// save writes the key first: a certificate without its key would be trusted and useless.
func (a *Authority) save(der []byte) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := writeSynced(filepath.Join(a.dir, keyFile), keyPEM); err != nil { // 0600, as os.CreateTemp makes it
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := writeSynced(a.CertPath(), certPEM); err != nil {
		return err
	}
	return os.Chmod(a.CertPath(), 0o644)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// CertPath is the PEM file with the authority's certificate, for clients that take one (NODE_EXTRA_CA_CERTS, curl --cacert).
func (a *Authority) CertPath() string { return filepath.Join(a.dir, certFile) }

// Pool holds the authority's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// GetCertificate signs for localhost and *.localhost on demand; leaves last 90 days and are renewed 30 days before. A
// client that names no server gets the one for localhost.
func (a *Authority) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if name == "" {
		name = "localhost"
	}
	if !isLocalhost(name) || !isHost(name) {
		return nil, fmt.Errorf("the local authority signs only for *.localhost")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf := a.leaves[name]; leaf != nil && a.clock().Add(leafRenew).Before(leaf.Leaf.NotAfter) {
		return leaf, nil
	}
	leaf, err := a.sign(name)
	if err != nil {
		return nil, fmt.Errorf("local authority: %w", err)
	}
	if len(a.leaves) >= leavesMost {
		clear(a.leaves) // names are free of charge: somebody asks for ever new ones
	}
	a.leaves[name] = leaf
	return leaf, nil
}

func (a *Authority) sign(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := a.clock()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Lotse, this machine only"}},
		DNSNames:     []string{name},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(leafLife - backdate),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
