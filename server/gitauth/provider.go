package gitauth

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/oauth2"
)

// Provider is one external git provider. It is immutable.
type Provider struct {
	ProviderConfig
	secret Secret
	hosts  *regexp.Regexp
}

// String is the id: the secret is nobody's business.
func (p Provider) String() string { return p.ID }

// GoString is the id.
func (p Provider) GoString() string { return p.ID }

// provider checks a configuration and reads its secret.
func (pc ProviderConfig) provider(secret func(file string) (Secret, error)) (*Provider, error) {
	pc = pc.withDefaults()
	if err := pc.check(); err != nil {
		return nil, err
	}
	// Anchored: the token of one host must not go to another that only begins, or
	// ends, like it.
	hosts, err := regexp.Compile(`\A(?i:` + pc.HostRegex + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("host_regex: %w", err)
	}
	p := &Provider{ProviderConfig: pc, hosts: hosts}
	if pc.ClientSecretFile != "" {
		if p.secret, err = secret(pc.ClientSecretFile); err != nil {
			return nil, fmt.Errorf("client_secret_file: %w", err)
		}
		if p.secret == "" {
			return nil, fmt.Errorf("client_secret_file: %s is empty", pc.ClientSecretFile)
		}
	}
	return p, nil
}

// usesPKCE says whether the code is protected on its way.
func (p *Provider) usesPKCE() bool { return p.PKCE == nil || *p.PKCE }

// matches says whether the provider is that of a URL, or of a bare host.
func (p *Provider) matches(asked string) bool {
	host := hostOf(asked)
	return host != "" && p.hosts.MatchString(host)
}

// hostOf returns the host, with a port if there is one, of a URL or of what is
// one without its scheme. "" means that there is none.
func hostOf(asked string) string {
	if !strings.Contains(asked, "://") {
		asked = "https://" + asked
	}
	u, err := url.Parse(asked)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Host
}

// oauth is the provider as the library knows it.
func (p *Provider) oauth(redirect string) *oauth2.Config {
	style := oauth2.AuthStyleInParams // never guessed: a guess can use up a code
	if p.AuthStyle == "header" {
		style = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: string(p.secret), Scopes: p.Scopes, RedirectURL: redirect,
		Endpoint: oauth2.Endpoint{AuthURL: p.AuthURL, TokenURL: p.TokenURL, DeviceAuthURL: p.DeviceURL, AuthStyle: style},
	}
}

// GitUsername is the name under which git shows a token as a password.
func (p *Provider) GitUsername() string {
	if p.Type == GitHub {
		return "x-access-token"
	}
	return "oauth2"
}
