package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/smallstep/truststore"
)

// trustStore is where a machine keeps the authorities that it trusts; tests have one of their own.
type trustStore interface {
	system(cert *x509.Certificate, add bool) error
	browsers(cert *x509.Certificate, add bool) (there bool, err error)
}

// Trust adds the authority to the stores of this machine and says what was done, one sentence each. Twice is fine. The
// system's store needs root or sudo; browsers have their own (NSS), which needs certutil.
func (a *Authority) Trust() ([]string, error) { return a.change(true) }

// Untrust takes it away again. Twice is fine.
func (a *Authority) Untrust() ([]string, error) { return a.change(false) }

func (a *Authority) change(add bool) ([]string, error) {
	verb := "taken out of"
	if add {
		verb = "added to"
	}
	var said []string
	systemErr := a.store.system(a.cert, add)
	if systemErr == nil {
		said = append(said, "the local authority was "+verb+" this machine's store")
	} else {
		systemErr = fmt.Errorf("this machine's store was not changed: %w", systemErr)
	}
	there, browserErr := a.store.browsers(a.cert, add)
	switch {
	case !there:
		said = append(said, "the browsers' own stores were left alone: certutil (libnss3-tools) or a profile is missing")
	case browserErr == nil:
		said = append(said, "the local authority was "+verb+" the browsers' stores")
	default:
		browserErr = fmt.Errorf("the browsers' stores were not changed: %w", browserErr)
	}
	return said, errors.Join(systemErr, browserErr)
}

// machineStore is the real one.
type machineStore struct{}

func (machineStore) system(cert *x509.Certificate, add bool) error {
	if add {
		return truststore.Install(cert)
	}
	return truststore.Uninstall(cert)
}

func (machineStore) browsers(cert *x509.Certificate, add bool) (bool, error) {
	nss, err := truststore.NewNSSTrust()
	if err != nil || nss.PreCheck() != nil {
		return false, nil //nolint:nilerr // without certutil there is nothing to change, which false says
	}
	if add {
		return true, truststore.Install(cert, truststore.WithNoSystem(), truststore.WithFirefox())
	}
	return true, truststore.Uninstall(cert, truststore.WithNoSystem(), truststore.WithFirefox())
}
