package webserve

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// tlsConfig is the part of a web config file about TLS. What may stand in the file
// or in another one is in at most one of the two.
type tlsConfig struct {
	Cert             string   `yaml:"cert"`
	CertFile         string   `yaml:"cert_file"`
	Key              string   `yaml:"key"`
	KeyFile          string   `yaml:"key_file"`
	ClientCA         string   `yaml:"client_ca"`
	ClientCAFile     string   `yaml:"client_ca_file"`
	ClientAuth       string   `yaml:"client_auth_type"`
	ClientNames      []string `yaml:"client_allowed_sans"`
	MinVersion       string   `yaml:"min_version"`
	MaxVersion       string   `yaml:"max_version"`
	CipherSuites     []string `yaml:"cipher_suites"`
	Curves           []string `yaml:"curve_preferences"`
	PreferServerSide bool     `yaml:"prefer_server_cipher_suites"` // accepted, without effect in Go
}

// enabled says whether the file asks for TLS.
func (c tlsConfig) enabled() bool {
	return cmp.Or(c.Cert, c.CertFile, c.Key, c.KeyFile, c.ClientCA, c.ClientCAFile, c.ClientAuth) != ""
}

// build reads the certificates. Errors name the field.
func (c tlsConfig) build() (*tls.Config, error) {
	certPEM, err := inlineOrFile("cert", c.Cert, c.CertFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := inlineOrFile("key", c.Key, c.KeyFile)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("cert and key: %w", err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{certificate}}
	if err := c.algorithms(t); err != nil {
		return nil, err
	}
	return t, c.clients(t)
}

func inlineOrFile(field, text, file string) ([]byte, error) {
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s_file: %w", field, err)
		}
		return content, nil
	}
	if text == "" {
		return nil, fmt.Errorf("tls_server_config: one of %s and %s_file is missing", field, field)
	}
	return []byte(text), nil
}

// clients sets what is asked of the certificates of clients.
func (c tlsConfig) clients(t *tls.Config) error {
	switch c.ClientAuth {
	case "", "NoClientCert":
	case "RequestClientCert":
		t.ClientAuth = tls.RequestClientCert
	case "RequireAnyClientCert", "RequireClientCert":
		t.ClientAuth = tls.RequireAnyClientCert
	case "VerifyClientCertIfGiven":
		t.ClientAuth = tls.VerifyClientCertIfGiven
	case "RequireAndVerifyClientCert":
		t.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return fmt.Errorf("client_auth_type: %q is unknown", c.ClientAuth)
	}
	if c.ClientCA != "" || c.ClientCAFile != "" {
		if t.ClientAuth == tls.NoClientCert {
			return errors.New("client_ca without a client_auth_type that asks for certificates")
		}
		pem, err := inlineOrFile("client_ca", c.ClientCA, c.ClientCAFile)
		if err != nil {
			return err
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New("client_ca: there is no certificate in it")
		}
	}
	if len(c.ClientNames) > 0 {
		t.VerifyConnection = c.verifyName
	}
	return nil
}

// verifyName accepts a client one of whose names is allowed.
func (c tlsConfig) verifyName(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return nil // whether that is enough is for the kind of authentication to say
	}
	cert := s.PeerCertificates[0]
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	if slices.ContainsFunc(names, func(name string) bool { return slices.Contains(c.ClientNames, name) }) {
		return nil
	}
	return fmt.Errorf("no name of the client is allowed: %q", names)
}

// algorithms sets versions, cipher suites and curves.
func (c tlsConfig) algorithms(t *tls.Config) (err error) {
	if t.MinVersion, err = version("min_version", c.MinVersion, tls.VersionTLS12); err != nil {
		return err
	}
	if t.MaxVersion, err = version("max_version", c.MaxVersion, tls.VersionTLS13); err != nil {
		return err
	}
	for _, name := range c.CipherSuites {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("cipher_suites: %q is unknown", name)
		}
		t.CipherSuites = append(t.CipherSuites, tls.CipherSuites()[i].ID)
	}
	for _, name := range c.Curves {
		known := map[string]tls.CurveID{"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521, "X25519": tls.X25519}
		if known[name] == 0 {
			return fmt.Errorf("curve_preferences: %q is unknown", name)
		}
		t.CurvePreferences = append(t.CurvePreferences, known[name])
	}
	return nil
}

func version(field, name string, otherwise uint16) (uint16, error) {
	switch name {
	case "":
		return otherwise, nil
	case "TLS10":
		return tls.VersionTLS10, nil
	case "TLS11":
		return tls.VersionTLS11, nil
	case "TLS12":
		return tls.VersionTLS12, nil
	case "TLS13":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("%s: %q is none of TLS10, TLS11, TLS12, TLS13", field, name)
}
