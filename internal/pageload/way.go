package pageload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// way is where the browser finds the stage's hosts.
type way struct {
	hosts  []string
	addr   string
	pin    string // SHA-256 of the certificate's public key, as Chromium's flag wants it
	server *http.Server
}

// listen opens a listener on the loopback that answers for the stage's hosts. The loopback is no wall between users of this machine; nor
// is it for the instances, which listen there, too.
func listen(v deploy.Visit) (*way, error) {
	certificate, pin, err := certify(v.Hosts)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &way{hosts: v.Hosts, addr: listener.Addr().String(), pin: pin}
	w.server = &http.Server{Handler: v.Site, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}}
	go func() { _ = w.server.ServeTLS(listener, "", "") }() // ends with close
	return w, nil
}

func (w *way) close() { _ = w.server.Close() }

// certify makes a key and a certificate that are good for a day and lie nowhere.
func certify(hosts []string) (certificate tls.Certificate, pin string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate, "", err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Lotse, for one visit"}, DNSNames: hosts,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return certificate, "", err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return certificate, "", err
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, base64.StdEncoding.EncodeToString(sum[:]), nil
}
