package agentgit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sshFailed is ssh's exit code for a failure of its own.
const sshFailed = 255

// GitSSH runs ssh with the given arguments (a leading -- is skipped) and, after
// the user's own keys, the key that the server keeps; with a server that keeps
// none it is plain ssh. It returns ssh's exit code.
func GitSSH(ctx context.Context, args []string, getenv func(string) string, client *http.Client, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(stderr, "usage: gitssh -- SSH-ARGUMENTS")
		return 2
	}
	key, err := fetchKey(ctx, getenv, client)
	if err != nil && !errors.Is(err, errNotFound) {
		fmt.Fprintf(stderr, "gitssh: %v\n", err)
		return 1
	}
	flags, forget, err := identityFlags(ctx, key, args)
	if err != nil {
		fmt.Fprintf(stderr, "gitssh: write the key: %v\n", err)
		return 1
	}
	defer forget()
	cmd := exec.CommandContext(ctx, "ssh", append(flags, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	// git's end of the pipes may stay open after ssh has ended.
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		fmt.Fprintf(stderr, "gitssh: run ssh: %v\n", err)
		return 1
	case exit.ExitCode() == sshFailed && key.PublicKey != "":
		fmt.Fprintf(stderr, "\nIf the key was refused: this is the public key of your workspaces. Add it to your account at the git provider.\n\n%s\n\n", strings.TrimSpace(key.PublicKey))
	case exit.ExitCode() < 0:
		return 1
	}
	return exit.ExitCode()
}

func fetchKey(ctx context.Context, getenv func(string) string, client *http.Client) (keyPair, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	a, err := newAPI(getenv, client)
	if err != nil {
		return keyPair{}, err
	}
	var key keyPair
	if err := a.get(ctx, "gitsshkey", nil, &key); err != nil {
		return keyPair{}, fmt.Errorf("get the git ssh key: %w", err)
	}
	if key.PrivateKey == "" {
		return keyPair{}, errors.New("get the git ssh key: the server sent none")
	}
	return key, nil
}

// identityFlags returns the flags that name the user's own keys and the given
// one, none at all without a given one. forget removes the file they name.
func identityFlags(ctx context.Context, key keyPair, args []string) (flags []string, forget func(), err error) {
	if key.PrivateKey == "" {
		return nil, func() {}, nil
	}
	path, err := writeKey(key.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	for _, own := range ownIdentities(ctx, args) {
		flags = append(flags, "-i", own)
	}
	return append(flags, "-i", path), func() { os.Remove(path) }, nil
}

// writeKey writes the key where ssh accepts it: readable by the user alone, and
// with a line end at its end.
func writeKey(private string) (path string, err error) {
	f, err := os.CreateTemp("", "coder-gitsshkey-*")
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(f, strings.TrimRight(private, "\n")+"\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// ownIdentities asks ssh which keys it would use for these arguments and returns
// the files that exist: with -i given once ssh would leave its defaults out. An
// ssh that cannot say is about to complain by itself.
func ownIdentities(ctx context.Context, args []string) []string {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ssh", append([]string{"-G"}, args...)...).Output()
	if err != nil {
		return nil
	}
	home, _ := os.UserHomeDir()
	var existing []string
	for _, path := range identityFiles(out, home) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			existing = append(existing, path)
		}
	}
	return existing
}

// identityFiles reads the identityfile lines of "ssh -G".
func identityFiles(config []byte, home string) []string {
	var files []string
	for line := range bytes.Lines(config) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok || name != "identityfile" {
			continue
		}
		if rest, inHome := strings.CutPrefix(value, "~/"); inHome {
			value = filepath.Join(home, rest)
		}
		files = append(files, value)
	}
	return files
}
