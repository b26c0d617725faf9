package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// configSSHCmd is "worktally config-ssh".
type configSSHCmd struct {
	connection
	File   string `name:"ssh-config-file" placeholder:"FILE" help:"OpenSSH's configuration, default ~/.ssh/config."`
	Prefix string `name:"prefix" default:"worktally." help:"Prefix of host names: <prefix>[owner--]workspace[--agent]."`
	DryRun bool   `name:"dry-run" short:"n" help:"Print the section and change nothing."`
}

// The lines between which the file is ours.
const (
	sectionStart = "# ------------START-WORKTALLY-----------"
	sectionEnd   = "# ------------END-WORKTALLY------------"
)

// Run writes a section into OpenSSH's configuration. The token stays out of it:
// the command in it reads it where this one does.
func (c configSSHCmd) Run(p *program) error {
	if c.URL == "" {
		return usagef("no server: want --url, $WORKTALLY_URL or $CODER_URL")
	}
	if c.Prefix == "" || strings.ContainsAny(c.Prefix, " \t\"'*?!%") {
		return usagef("--prefix: %q cannot begin host names", c.Prefix)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	for _, file := range []*string{&c.TokenFile, &c.TLSCA, &c.TLSCert, &c.TLSKey} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil { // OpenSSH runs the command wherever it is called
			return fmt.Errorf("find %s: %w", *file, err)
		}
	}
	section := c.section(self)
	if c.DryRun {
		_, err := fmt.Fprint(p.stdout, section)
		return err
	}
	file := c.File
	if file == "" {
		home := p.getenv("HOME")
		if home == "" {
			return errors.New("HOME is not set; name the file by --ssh-config-file")
		}
		file = filepath.Join(home, ".ssh", "config")
	}
	if err := writeSection(file, section); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s now has a section for hosts like %sNAME\n", file, c.Prefix)
	return err
}

func (c configSSHCmd) section(self string) string {
	command := []string{quote(self), "ssh", "--stdio", "--url", quote(c.URL)}
	for _, file := range [][2]string{
		{"--token-file", c.TokenFile}, {"--tls-ca-file", c.TLSCA}, {"--tls-client-cert-file", c.TLSCert}, {"--tls-client-key-file", c.TLSKey},
	} {
		if file[1] != "" {
			command = append(command, file[0], quote(file[1]))
		}
	}
	command = append(command, "--host-prefix", c.Prefix, "%h")
	return strings.Join([]string{
		sectionStart,
		"# Written by worktally config-ssh; what stands between the two lines is replaced by the next run.",
		"Host " + c.Prefix + "*",
		"    ConnectTimeout 0",
		"    StrictHostKeyChecking no",
		"    UserKnownHostsFile /dev/null",
		"    LogLevel ERROR",
		"    Ciphers aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com",
		"    ProxyCommand " + strings.Join(command, " "),
		sectionEnd, "",
	}, "\n")
}

// quote writes a word for the shell that OpenSSH runs the command with, after it
// has looked for its own % in it.
func quote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if !strings.ContainsAny(s, " \t\"'\\$`&|;<>()*?[]{}~#!") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// writeSection replaces our section of a file, or adds it at the end. What a link
// leads to is written, and the link stays.
func writeSection(path, section string) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	before, rest, ours := strings.Cut(string(text), sectionStart+"\n")
	if ours {
		_, after, closed := strings.Cut(rest, sectionEnd+"\n")
		if !closed {
			return errors.New("a section begins and does not end; repair it first")
		}
		before += section + after
	} else {
		if before != "" && !strings.HasSuffix(before, "\n\n") {
			before = strings.TrimRight(before, "\n") + "\n\n"
		}
		before += section
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".worktally"
	if err := os.WriteFile(temp, []byte(before), mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
