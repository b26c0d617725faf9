// Package agentauth gets an agent's token from the server by proving on which
// cloud instance it runs (contract agent-api.md section 3.2).
package agentauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The methods.
const (
	Google = "google-instance-identity"
	AWS    = "aws-instance-identity"
	Azure  = "azure-instance-identity"
)

const (
	requestTimeout = 30 * time.Second
	maxDocument    = 256 << 10
)

// Options of a Source.
type Options struct {
	// Method is one of the methods above. Required.
	Method string
	// URL is the server. Required.
	URL *url.URL
	// Client asks the server, and the instance's metadata service. Required.
	Client *http.Client
	// Header returns extra headers for the server; nil means none.
	Header func(context.Context) (http.Header, error)
	// MetadataURL takes the place of the cloud's metadata service; "" means the
	// usual address.
	MetadataURL string
}

// Source hands out the token.
type Source struct {
	o Options

	mu    sync.Mutex
	token string
}

// New returns a source. Nothing is asked before Token.
func New(o Options) (*Source, error) {
	if o.MetadataURL == "" {
		switch o.Method {
		case Google:
			o.MetadataURL = "http://metadata.google.internal"
		case AWS, Azure:
			o.MetadataURL = "http://169.254.169.254"
		}
	}
	switch o.Method {
	case Google, AWS, Azure:
		return &Source{o: o}, nil
	}
	return nil, fmt.Errorf("unknown way to authenticate %q", o.Method)
}

// Token returns the token, which is asked for once. It is safe for concurrent
// use.
func (s *Source) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" {
		return s.token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	proof, err := s.proof(ctx)
	if err != nil {
		return "", fmt.Errorf("identity of the instance: %w", err)
	}
	token, err := s.exchange(ctx, proof)
	if err != nil {
		return "", fmt.Errorf("exchange the identity of the instance for a token: %w", err)
	}
	s.token = token
	return token, nil
}

// proof asks the metadata service for what the server wants to see.
func (s *Source) proof(ctx context.Context) (any, error) {
	base := s.o.MetadataURL
	switch s.o.Method {
	case Google:
		jwt, err := s.metadata(ctx, http.MethodGet, base+"/computeMetadata/v1/instance/service-accounts/default/identity?audience=coder&format=full",
			"Metadata-Flavor", "Google")
		return map[string]string{"json_web_token": string(jwt)}, err
	case AWS:
		return s.proofAWS(ctx, base)
	}
	var document struct {
		Signature string `json:"signature"`
		Encoding  string `json:"encoding"`
	}
	text, err := s.metadata(ctx, http.MethodGet, base+"/metadata/attested/document?api-version=2020-09-01", "Metadata", "true")
	if err == nil {
		err = json.Unmarshal(text, &document)
	}
	return document, err
}

func (s *Source) proofAWS(ctx context.Context, base string) (any, error) {
	session, err := s.metadata(ctx, http.MethodPut, base+"/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
	if err != nil {
		return nil, err
	}
	proof := make(map[string]string)
	for key, path := range map[string]string{"signature": "signature", "document": "document"} {
		text, err := s.metadata(ctx, http.MethodGet, base+"/latest/dynamic/instance-identity/"+path, "X-Aws-Ec2-Metadata-Token", string(session))
		if err != nil {
			return nil, err
		}
		proof[key] = string(text)
	}
	return proof, nil
}

func (s *Source) metadata(ctx context.Context, method, url, header, value string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(header, value)
	return s.do(req)
}

func (s *Source) exchange(ctx context.Context, proof any) (string, error) {
	body, err := json.Marshal(proof)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL.JoinPath("/api/v2/workspaceagents", s.o.Method).String(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if s.o.Header != nil {
		if req.Header, err = s.o.Header(ctx); err != nil {
			return "", err
		}
	}
	req.Header.Set("Content-Type", "application/json")
	text, err := s.do(req)
	if err != nil {
		return "", err
	}
	var answer struct {
		SessionToken string `json:"session_token"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	if _, err := uuid.Parse(answer.SessionToken); err != nil {
		return "", fmt.Errorf("the server answered no token")
	}
	return answer.SessionToken, nil
}

// do makes a request and returns the body of a successful answer. Bodies are not
// part of errors: they may be secrets.
func (s *Source) do(req *http.Request) ([]byte, error) {
	resp, err := s.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s", req.Method, req.URL.Path, resp.Status)
	}
	return text, nil
}
