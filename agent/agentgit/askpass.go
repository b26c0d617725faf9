package agentgit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/retry"
)

const (
	// requestTimeout bounds a question that needs nobody's help.
	requestTimeout = 30 * time.Second
	// linkTimeout bounds the wait for the user to link an account.
	linkTimeout = 30 * time.Minute
	// The pauses between questions while the user does so.
	minPause, maxPause = 250 * time.Millisecond, 10 * time.Second
)

// IsAskpass says whether the program was started by git as GIT_ASKPASS: with
// nothing but a prompt, and with GIT_PREFIX in its environment. git sets that in
// every command, and most of the time to nothing; hence the whole environment,
// as os.Environ returns it, and not a lookup that cannot tell the two apart.
func IsAskpass(args, environ []string) bool {
	if len(args) != 1 || !strings.HasPrefix(args[0], "Username ") && !strings.HasPrefix(args[0], "Password ") {
		return false
	}
	for _, kv := range environ {
		if strings.HasPrefix(kv, "GIT_PREFIX=") {
			return true
		}
	}
	return false
}

// prompt is a question of git.
type prompt struct {
	// host is the provider, with a port if the URL has one.
	host     string
	password bool
}

// parsePrompt reads "Username for 'https://host': " and
// "Password for 'https://user@host': ".
func parsePrompt(text string) (prompt, error) {
	words := strings.Fields(text)
	if len(words) < 3 {
		return prompt{}, fmt.Errorf("prompt %q names no URL", text)
	}
	u, err := url.Parse(strings.Trim(words[2], "':"))
	if err != nil || u.Host == "" {
		return prompt{}, fmt.Errorf("prompt %q names no URL", text)
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return prompt{}, fmt.Errorf("prompt %q is for %s; only http and https are known", text, u.Scheme)
	}
	return prompt{host: u.Host, password: words[0] == "Password"}, nil
}

// Askpass answers git's prompt on stdout. When the user has not linked an
// account it says on stderr where to do so and waits for it. Any exit code but 0
// lets git go on and ask the user itself.
func Askpass(ctx context.Context, args []string, getenv func(string) string, client *http.Client, stdout, stderr io.Writer) int {
	answer, err := askpass(ctx, args, getenv, client, stderr)
	if errors.Is(err, errNotFound) {
		fmt.Fprintln(stderr, "warning: the server knows no provider for this host")
		return 1
	}
	if err != nil {
		fmt.Fprintf(stderr, "askpass: %v\n", err)
		return 1
	}
	fmt.Fprintln(stdout, answer)
	return 0
}

func askpass(ctx context.Context, args []string, getenv func(string) string, client *http.Client, stderr io.Writer) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("want one prompt, got %d arguments", len(args))
	}
	p, err := parsePrompt(args[0])
	if err != nil {
		return "", err
	}
	a, err := newAPI(getenv, client)
	if err != nil {
		return "", err
	}
	query := url.Values{"match": {p.host}}
	c, err := a.credentials(ctx, query)
	if err != nil {
		return "", err
	}
	if c.URL != "" {
		fmt.Fprintf(stderr, "Open this address to let git use your account at %s:\n\n\t%s\n\n", p.host, c.URL)
		if c, err = a.awaitLink(ctx, query); err != nil {
			return "", err
		}
	}
	username := c.Username
	if username == "" {
		username = c.AccessToken
	}
	// A token often travels as the user's name; then any password will do.
	if p.password && c.Password != "" {
		return c.Password, nil
	}
	return username, nil
}

func (a *api) credentials(ctx context.Context, query url.Values) (credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var c credentials
	err := a.get(ctx, "external-auth", query, &c)
	return c, err
}

// awaitLink asks until the account is linked; the server holds each question back
// as long as it can.
func (a *api) awaitLink(ctx context.Context, query url.Values) (credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	query.Set("listen", "true")
	pause := retry.New(minPause, maxPause)
	for {
		var c credentials
		last := a.get(ctx, "external-auth", query, &c)
		if last == nil && c.URL == "" {
			return c, nil
		}
		if errors.Is(last, errNotFound) {
			return c, last
		}
		if err := pause.Wait(ctx); err != nil {
			return c, errors.Join(fmt.Errorf("the account was not linked: %w", err), last)
		}
	}
}

// AccessToken is the command "external-auth access-token ID": it prints the
// user's token for a provider, or where to link an account, and then fails.
func AccessToken(ctx context.Context, args []string, getenv func(string) string, client *http.Client, stdout, stderr io.Writer) int {
	if len(args) != 1 || args[0] == "" {
		fmt.Fprintln(stderr, "usage: external-auth access-token ID")
		return 2
	}
	a, err := newAPI(getenv, client)
	var c credentials
	if err == nil {
		c, err = a.credentials(ctx, url.Values{"id": {args[0]}})
	}
	if err != nil {
		fmt.Fprintf(stderr, "external-auth: %v\n", err)
		return 1
	}
	if c.URL != "" {
		fmt.Fprintln(stdout, c.URL)
		return 1
	}
	fmt.Fprintln(stdout, c.AccessToken)
	return 0
}
