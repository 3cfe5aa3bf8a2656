package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// shell is a real one, as an operator's session begins.
type shell struct {
	name  string
	args  []string
	setup []string
	ready string // prints set-4up once the setup is done
}

func shells(completions string) []shell {
	return []shell{
		{"bash", []string{"--norc", "--noprofile", "-i"}, []string{
			". /usr/share/bash-completion/bash_completion", ". " + completions + "/meshctl.bash", "bind 'set enable-bracketed-paste off'",
		}, "echo set-$((2+2))up"},
		{"zsh", []string{"-f", "-i"}, []string{
			"fpath=(" + completions + " $fpath)", "autoload -U compinit", "compinit -u -D", "unsetopt zle_bracketed_paste 2>/dev/null; true",
		}, "echo set-$((2+2))up"},
		{"fish", []string{"--no-config", "-i"}, []string{"source " + completions + "/meshctl.fish"}, "echo set-(math 2+2)up"},
	}
}

// TAB works in real shells with the committed scripts and nothing answering:
// server names, finding codes, run ids, flags and values.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	completions, err := filepath.Abs(filepath.Join("..", "..", "completions"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env, run := shellMesh(t, dir)
	for _, sh := range shells(completions) {
		t.Run(sh.name, func(t *testing.T) {
			if _, err := exec.LookPath(sh.name); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s is not installed", sh.name)
				}
				t.Skipf("%s is not installed", sh.name)
			}
			s := programOnTerminal(t, env, sh.name, sh.args...)
			for _, line := range sh.setup {
				s.typed(t, line+"\r")
			}
			s.typed(t, sh.ready+"\r")
			s.await(t, "set-4up")
			for _, try := range []struct{ typed, want string }{
				{"meshctl turn recover --failed turn1", ".example:3478"},
				{"meshctl explain turn.auth.exp", "ired"},
				{"meshctl runs show " + run[:20], run[20:]},
				{"meshctl runs rep", "ort"},
				{"meshctl incident declare --scena", "rio"},
				{"meshctl validate --phase stab", "ility"},
			} {
				before := len(s.stdout.String())
				s.typed(t, try.typed+"\t")
				if !poll(func() bool { return strings.Contains(shown(s.stdout.String()[before:]), try.want) }) {
					t.Fatalf("%q and TAB gave %q, want %q in it", try.typed, shown(s.stdout.String()[before:]), try.want)
				}
				s.typed(t, "\x15") // take the line back
			}
			s.typed(t, "\rexit 7\r")
			s.ends(t, 7)
		})
	}
}

// shown leaves out what the terminal is told beside text.
func shown(stream string) string {
	var b strings.Builder
	escape := false
	for _, r := range stream {
		switch {
		case r == 0x1b:
			escape = true
		case escape:
			escape = !unicode.IsLetter(r) && r != '\\'
		case r >= ' ':
			b.WriteRune(r)
		}
	}
	return b.String()
}

// shellMesh is the environment of a mesh in which nothing answers, and a run.
func shellMesh(t *testing.T, dir string) (env []string, run string) {
	t.Helper()
	env = []string{"PATH=" + os.Getenv("PATH")}
	for key, value := range testEnv(dir) {
		env = append(env, key+"="+value)
	}
	writeDeadMesh(t, dir)
	env = append(env, "MESHCTL_CONFIG="+filepath.Join(dir, "meshctl.yaml"))
	onTerminal(t, env, "witness", "log", "--event", "x").ends(t, exitAuditPending)
	journals, err := filepath.Glob(filepath.Join(dir, "xdg-state", "meshctl", "infrafabric", "runs", "*.jsonl"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals: %v, %v", journals, err)
	}
	return env, strings.TrimSuffix(filepath.Base(journals[0]), ".jsonl")
}

// writeDeadMesh is the configuration of a mesh in which nothing answers.
func writeDeadMesh(t testing.TB, dir string) {
	t.Helper()
	for name, text := range map[string]string{
		"meshctl.yaml": "signaling: [{url: \"ws://127.0.0.1:1\"}]\ncontroller: {url: \"http://127.0.0.1:1\"}\nwitness: {url: \"http://127.0.0.1:1\"}\nturn: {env_file: mesh.env}\n",
		"mesh.env":     "TURN_SERVERS=turn:turn1.example:3478,turn:turn2.example:3478\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
