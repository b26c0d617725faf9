package webserve

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// config is a web config file, in the form that Prometheus and its exporters
// share.
type config struct {
	TLS       tlsConfig         `yaml:"tls_server_config"`
	HTTP      httpConfig        `yaml:"http_server_config"`
	RateLimit rateLimit         `yaml:"rate_limit"`
	Users     map[string]string `yaml:"basic_auth_users"` // bcrypt hashes
}

type httpConfig struct {
	HTTP2   bool              `yaml:"http2"`
	Headers map[string]string `yaml:"headers"`
}

type rateLimit struct {
	Burst    int      `yaml:"burst"`
	Interval duration `yaml:"interval"`
}

// duration is a time such as 1s, or a number of nanoseconds.
type duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	var ns int64
	if n.Decode(&ns) == nil {
		*d = duration(ns)
		return nil
	}
	return n.Decode((*time.Duration)(d))
}

// load reads and checks a web config file, but not the certificates it names.
func load(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parse(text)
	if err != nil {
		return nil, err
	}
	for _, file := range []*string{&c.TLS.CertFile, &c.TLS.KeyFile, &c.TLS.ClientCAFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	return c, nil
}

func parse(text []byte) (*config, error) {
	c := &config{HTTP: httpConfig{HTTP2: true}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for name, hash := range c.Users {
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("basic_auth_users: %q has no bcrypt hash: %w", name, err)
		}
	}
	if c.RateLimit.Interval < 0 || c.RateLimit.Burst < 0 {
		return nil, errors.New("rate_limit: a negative limit")
	}
	if err := checkHeaders(c.HTTP.Headers); err != nil {
		return nil, err
	}
	if err := c.TLS.algorithms(new(tls.Config)); err != nil {
		return nil, err
	}
	return c, nil
}

// checkHeaders accepts the headers that the format allows.
func checkHeaders(headers map[string]string) error {
	for name, value := range headers {
		var allowed []string
		switch name {
		case "Strict-Transport-Security", "X-XSS-Protection", "Content-Security-Policy":
			continue
		case "X-Content-Type-Options":
			allowed = []string{"nosniff"}
		case "X-Frame-Options":
			allowed = []string{"deny", "sameorigin"}
		default:
			return fmt.Errorf("http_server_config: the header %q cannot be set", name)
		}
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("http_server_config: %s is none of %q", name, allowed)
		}
	}
	return nil
}
