package agentexec

import (
	"errors"
	"strings"
)

// splitWords splits a line as a shell would split it into words: blanks
// separate, single quotes keep everything, double quotes keep everything but a
// backslash before one of $ ` " \ , a backslash outside keeps the next character.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune // 0, ' or "
	inWord, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("$`\"\\", r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\r' || r == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("unfinished quote")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// shellQuote returns s so that a shell reads it back as one word. A plain path
// stays as it is, because people look at it.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
