package main

import (
	"fmt"
	"net/http"

	"github.com/worktally/worktally/internal/clienttls"
)

// The variables by which the helpers of git learn how the agent trusts its server.
const (
	caVariable   = "WORKTALLY_AGENT_TLS_CA_FILE"
	certVariable = "WORKTALLY_AGENT_TLS_CLIENT_CERT_FILE"
	keyVariable  = "WORKTALLY_AGENT_TLS_CLIENT_KEY_FILE"
)

// tlsFiles are those that the flags name. Children have other directories.
func (f flags) tlsFiles() (clienttls.Files, error) {
	return clienttls.Files{CA: f.TLSCA, Cert: f.TLSCert, Key: f.TLSKey}.Absolute()
}

// checkTLS reads the files once, so that a mistake in them is known at the start.
func (f flags) checkTLS() error {
	files, err := f.tlsFiles()
	if err == nil {
		_, err = files.Config()
	}
	if err != nil {
		return fmt.Errorf("--tls-ca-file (%s), --tls-client-cert-file (%s), --tls-client-key-file (%s): %w", caVariable, certVariable, keyVariable, err)
	}
	return nil
}

// helperClient makes the requests of the helpers.
func helperClient(getenv func(string) string) *http.Client {
	t, err := clienttls.Files{CA: getenv(caVariable), Cert: getenv(certVariable), Key: getenv(keyVariable)}.Transport()
	if err != nil {
		return &http.Client{Transport: broken{err}}
	}
	return &http.Client{Transport: t}
}

// broken fails every request, so that the helper says why in its own words.
type broken struct{ err error }

// RoundTrip implements http.RoundTripper.
func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }
