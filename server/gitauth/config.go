package gitauth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxConfig bounds the configuration file, maxSecret a secret, in bytes.
	maxConfig, maxSecret = 256 << 10, 4 << 10
	// maxProviders bounds the providers: each has series of its own.
	maxProviders = 64
)

// The types of providers.
const (
	GitHub  = "github"
	GitLab  = "gitlab"
	Generic = "generic"
)

// Secret is a text that is never shown.
type Secret string

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret.
func (Secret) GoString() string { return "(secret)" }

// Config is the file that names providers, in YAML or JSON.
type Config struct {
	Providers []ProviderConfig `yaml:"providers"`
}

// ProviderConfig is one provider. The URLs and the hosts of a github or gitlab
// have defaults: those of the public service.
type ProviderConfig struct {
	// ID is its name in URLs, metrics and the database.
	ID   string `yaml:"id"`
	Type string `yaml:"type"`
	// DisplayName is what people see; "" means the id.
	DisplayName string `yaml:"display_name"`
	ClientID    string `yaml:"client_id"`
	// ClientSecretFile has the secret, relative to the directory of the
	// configuration; "" means none, which providers allow with PKCE.
	ClientSecretFile string `yaml:"client_secret_file"`
	AuthURL          string `yaml:"auth_url"`
	TokenURL         string `yaml:"token_url"`
	// ValidateURL is asked whether a token is still good; "" means that all are.
	ValidateURL string `yaml:"validate_url"`
	// DeviceURL starts a login without a browser on the same machine; "" means that
	// there is none.
	DeviceURL string   `yaml:"device_url"`
	Scopes    []string `yaml:"scopes"`
	// HostRegex says which hosts, with a port if there is one, get the token. It has
	// to match all of the host.
	HostRegex string `yaml:"host_regex"`
	// PKCE protects the code on its way; nil means true.
	PKCE *bool `yaml:"pkce"`
	// AuthStyle says how the client's secret travels: params or header; "" means
	// params.
	AuthStyle string `yaml:"auth_style"`
}

// idPattern is what a provider may be called.
var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// ReadConfig reads a configuration file and the secrets that it names.
func ReadConfig(path string) ([]*Provider, error) {
	text, err := readBounded(path, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("read git providers: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("git providers in %s: %w", path, err)
	}
	secret := func(name string) (Secret, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		text, err := readBounded(name, maxSecret)
		return Secret(strings.TrimSpace(string(text))), err
	}
	providers, err := c.providers(secret)
	if err != nil {
		return nil, fmt.Errorf("git providers in %s: %w", path, err)
	}
	return providers, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, err
}

// ParseConfig reads the text of a configuration, strictly: what it does not know
// is an error.
func ParseConfig(text []byte) (c Config, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if dec.Decode(new(any)) != io.EOF {
		return Config{}, errors.New("something follows the document")
	}
	return c, nil
}

// providers checks all of it at once.
func (c Config) providers(secret func(file string) (Secret, error)) ([]*Provider, error) {
	if len(c.Providers) > maxProviders {
		return nil, fmt.Errorf("%d providers; at most %d", len(c.Providers), maxProviders)
	}
	var list []*Provider
	var errs []error
	seen := make(map[string]bool)
	for i, pc := range c.Providers {
		p, err := pc.provider(secret)
		if err == nil && seen[pc.ID] {
			err = errors.New("the id is taken")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("provider %d (%q): %w", i+1, pc.ID, err))
			continue
		}
		seen[pc.ID] = true
		list = append(list, p)
	}
	return list, errors.Join(errs...)
}

// withDefaults fills in the public services.
func (pc ProviderConfig) withDefaults() ProviderConfig {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&pc.DisplayName, pc.ID)
	fill(&pc.AuthStyle, "params")
	switch pc.Type {
	case GitHub:
		fill(&pc.AuthURL, "https://github.com/login/oauth/authorize")
		fill(&pc.TokenURL, "https://github.com/login/oauth/access_token")
		fill(&pc.ValidateURL, "https://api.github.com/user")
		fill(&pc.DeviceURL, "https://github.com/login/device/code")
		fill(&pc.HostRegex, `github\.com`)
	case GitLab:
		fill(&pc.AuthURL, "https://gitlab.com/oauth/authorize")
		fill(&pc.TokenURL, "https://gitlab.com/oauth/token")
		fill(&pc.ValidateURL, "https://gitlab.com/oauth/token/info")
		fill(&pc.DeviceURL, "https://gitlab.com/oauth/authorize_device")
		fill(&pc.HostRegex, `gitlab\.com`)
	}
	return pc
}

func (pc ProviderConfig) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !idPattern.MatchString(pc.ID) {
		bad("id: want up to 32 small letters, digits, - and _")
	}
	if pc.Type != GitHub && pc.Type != GitLab && pc.Type != Generic {
		bad("type: %q is none of github, gitlab and generic", pc.Type)
	}
	if pc.ClientID == "" {
		bad("client_id is missing")
	}
	if pc.AuthStyle != "params" && pc.AuthStyle != "header" {
		bad("auth_style: %q is neither params nor header", pc.AuthStyle)
	}
	if pc.HostRegex == "" {
		bad("host_regex is missing")
	}
	for name, value := range map[string]string{"auth_url": pc.AuthURL, "token_url": pc.TokenURL, "validate_url": pc.ValidateURL, "device_url": pc.DeviceURL} {
		optional := name == "validate_url" || name == "device_url"
		u, err := url.Parse(value)
		if value == "" && optional {
			continue
		}
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			bad("%s: want an http or https URL without a password", name)
		}
	}
	return errors.Join(errs...)
}
