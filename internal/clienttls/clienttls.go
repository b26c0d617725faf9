// Package clienttls makes the TLS settings of a client from files: an authority
// that is trusted beside the system's, and a certificate of the client's own.
package clienttls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// Files are PEM files, all of them optional.
type Files struct {
	// CA has the certificates of authorities. It is read once.
	CA string
	// Cert and Key are the client's own; both or none. They are read for every
	// connection, so that they can be renewed.
	Cert, Key string
}

// Absolute makes the paths mean the same in every directory.
func (f Files) Absolute() (Files, error) {
	for _, path := range []*string{&f.CA, &f.Cert, &f.Key} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return f, err
		}
		*path = abs
	}
	return f, nil
}

// Config returns the settings, nil if no file is named. Every file must be there
// and be what it should; errors name the file, never what is in it.
func (f Files) Config() (*tls.Config, error) {
	if f == (Files{}) {
		return nil, nil
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a client certificate and its key go together")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the authorities: there is no certificate in %s", f.CA)
		}
	}
	if f.Cert == "" {
		return c, nil
	}
	if _, err := f.certificate(nil); err != nil {
		return nil, err
	}
	c.GetClientCertificate = f.certificate
	return c, nil
}

// certificate reads the client's certificate.
func (f Files) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read the client certificate %s and its key: %w", f.Cert, err)
	}
	return &c, nil
}

// Transport returns a transport like the default one with these settings.
func (f Files) Transport() (*http.Transport, error) {
	c, err := f.Config()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c != nil {
		t.TLSClientConfig = c
	}
	return t, nil
}

// ConfigOf returns the settings of the transport of a client, nil if it has none.
func ConfigOf(c *http.Client) *tls.Config {
	if c == nil {
		return nil
	}
	if t, ok := c.Transport.(*http.Transport); ok && t != nil {
		return t.Clone().TLSClientConfig // a transport changes its own at its first request
	}
	return nil
}
