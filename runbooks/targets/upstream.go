package targets

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

const maxUpstreamFile = 4 << 20

// UpstreamServer is a server of an nginx upstream.
type UpstreamServer struct {
	Address string // HOST:PORT; the port is 80 where none is written
	Backup  bool   // only used when all others are down
	Down    bool   // never used
}

// ReadUpstream reads the servers of one upstream from an nginx configuration.
// Files that it includes are not followed.
func ReadUpstream(path, name string) ([]UpstreamServer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read nginx configuration %s: %w", path, cause(err))
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxUpstreamFile+1))
	if err != nil {
		return nil, fmt.Errorf("read nginx configuration %s: %w", path, cause(err))
	}
	if len(data) > maxUpstreamFile {
		return nil, fmt.Errorf("read nginx configuration %s: larger than 4 MiB", path)
	}
	servers, err := ParseUpstream(string(data), name)
	if err != nil {
		return nil, fmt.Errorf("read nginx configuration %s: %w", path, err)
	}
	return servers, nil
}

// ParseUpstream finds `upstream NAME { server ADDRESS [PARAMETER...]; }`.
func ParseUpstream(text, name string) ([]UpstreamServer, error) {
	tokens, err := nginxTokens(text)
	if err != nil {
		return nil, err
	}
	for i := range len(tokens) - 2 {
		starts := i == 0 || tokens[i-1] == ";" || tokens[i-1] == "{" || tokens[i-1] == "}"
		if starts && tokens[i] == "upstream" && tokens[i+1] == name && tokens[i+2] == "{" {
			return upstreamServers(tokens[i+3:])
		}
	}
	return nil, fmt.Errorf("no upstream %q", name)
}

// upstreamServers reads directives up to the closing brace.
func upstreamServers(tokens []string) ([]UpstreamServer, error) {
	servers, directive := []UpstreamServer{}, []string{}
	for _, token := range tokens {
		switch token {
		case "}":
			if len(directive) > 0 {
				return nil, errors.New("a directive of the upstream does not end with ;")
			}
			return servers, nil
		case "{":
			return nil, errors.New("a block within the upstream")
		case ";":
			if len(directive) > 1 && directive[0] == "server" {
				servers = append(servers, upstreamServer(directive[1:]))
			}
			directive = directive[:0]
		default:
			directive = append(directive, token)
		}
	}
	return nil, errors.New("the upstream does not end")
}

func upstreamServer(words []string) UpstreamServer {
	s := UpstreamServer{Address: words[0]}
	if _, _, err := net.SplitHostPort(s.Address); err != nil && !strings.HasPrefix(s.Address, "unix:") {
		s.Address = net.JoinHostPort(strings.Trim(s.Address, "[]"), "80")
	}
	for _, word := range words[1:] {
		s.Backup = s.Backup || word == "backup"
		s.Down = s.Down || word == "down"
	}
	return s
}

// nginxTokens are words, quoted ones without their quotes, and ; { } apart.
func nginxTokens(text string) ([]string, error) {
	var tokens []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case c == '#':
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return tokens, nil
			}
			i += end
		case c == ';' || c == '{' || c == '}':
			tokens = append(tokens, text[i:i+1])
			i++
		default:
			word, length, err := nginxWord(text[i:])
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, word)
			i += length
		}
	}
	return tokens, nil
}

// nginxWord reads one word and how many bytes it takes.
func nginxWord(text string) (word string, length int, err error) {
	quote := text[0]
	if quote != '"' && quote != '\'' {
		end := strings.IndexAny(text, " \t\r\n;{}")
		if end < 0 {
			end = len(text)
		}
		return text[:end], end, nil
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case quote:
			return text[1:i], i + 1, nil
		}
	}
	return "", 0, errors.New("a quoted word does not end")
}
