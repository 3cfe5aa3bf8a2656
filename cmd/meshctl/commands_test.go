package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"
)

const (
	patience     = time.Minute // for a fact that a script waits for
	pollInterval = 50 * time.Millisecond
)

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

// poll calls f until it is true or patience ends.
func poll(f func() bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// usage stops the script when a command of ours is written wrong.
func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func wantedCode(ts *testscript.TestScript, args []string) int {
	usage(ts, len(args) > 1, "exits|waitfor CODE COMMAND [ARGS...]")
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	return code
}

// exits CODE COMMAND [ARGS...] runs a command that must end with that code.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want := wantedCode(ts, args)
	usage(ts, !neg, "exits without !")
	if got := of(ts).run(ts, args[1:]); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitfor CODE COMMAND [ARGS...] repeats a command until it ends with that code.
func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	want, got := wantedCode(ts, args), 0
	usage(ts, !neg, "waitfor without !")
	if !poll(func() bool { got = of(ts).run(ts, args[1:]); return got == want }) {
		ts.Fatalf("exit code still %d after %s, want %d", got, patience, want)
	}
}

// run gives the exit code of a command, whose output is then there for stdout
// and stderr.
func (s *script) run(ts *testscript.TestScript, args []string) int {
	code := 0
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	s.check(ts, args, code, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	return code
}

// check holds what is true of every command: no output has a secret in it, and
// with --output json there is exactly one document, which knows the exit code.
func (s *script) check(ts *testscript.TestScript, args []string, code int, stdout, stderr string) {
	for _, secret := range s.secrets {
		if strings.Contains(stdout+stderr, secret) {
			ts.Fatalf("a secret was shown")
		}
	}
	if args[0] != "meshctl" || wantedOutput(args) != "json" || code < 0 {
		return
	}
	doc := gjson.Parse(stdout)
	if !gjson.Valid(stdout) || !doc.IsObject() || strings.Count(stdout, "\n") != 1 {
		ts.Fatalf("stdout is not one JSON document on one line:\n%s", stdout)
	}
	if doc.Get("schema_version").Raw != strconv.Itoa(schemaVersion) || !doc.Get("command").Exists() {
		ts.Fatalf("the document lacks schema_version or command:\n%s", stdout)
	}
	if given := doc.Get("exit_code"); given.Exists() && given.Raw != strconv.Itoa(code) {
		ts.Fatalf("the document says exit_code %s, and it was %d", given.Raw, code)
	}
}

// json PATH == VALUE | != VALUE | ~ REGEXP | < NUMBER | > NUMBER | is TYPE | as VARIABLE
// looks at the JSON on stdout.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 3 && !neg, "json PATH ==|!=|~|<|>|is|as VALUE")
	at, value := gjson.Get(ts.ReadFile("stdout"), args[0]), args[2]
	if args[1] != "is" && !at.Exists() {
		ts.Fatalf("no %s in the document", args[0])
	}
	ok := false
	switch args[1] {
	case "==":
		ok = at.String() == value
	case "!=":
		ok = at.String() != value
	case "~":
		ok = regexp.MustCompile(value).MatchString(at.String())
	case "<", ">":
		limit, err := strconv.ParseFloat(value, 64)
		ts.Check(err)
		ok = at.Type == gjson.Number && ((args[1] == "<" && at.Num < limit) || (args[1] == ">" && at.Num > limit))
	case "is":
		ok = jsonType(at) == value
	case "as":
		ts.Setenv(value, at.String())
		ok = true
	}
	if !ok {
		ts.Fatalf("%s = %s (%s), want %s %s", args[0], at.Raw, jsonType(at), args[1], value)
	}
}

func jsonType(at gjson.Result) string {
	switch {
	case !at.Exists():
		return "missing"
	case at.IsArray():
		return "array"
	case at.IsObject():
		return "object"
	case at.IsBool():
		return "bool"
	}
	return strings.ToLower(at.Type.String())
}

// interrupt CODE stderr|GLOB REGEXP COMMAND [ARGS...] runs a command, waits
// until its standard error or a file matches, and interrupts it. It must end
// with the code and leave no process behind.
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 3 && !neg, "interrupt CODE stderr|GLOB REGEXP COMMAND [ARGS...]")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	s, when := of(ts), regexp.MustCompile(args[2])
	p, err := startProcess(s.environ(ts), ts.MkAbs("."), args[3:]...)
	ts.Check(err)
	seen := poll(func() bool { return p.exited() || when.MatchString(p.look(ts.MkAbs(args[1]), args[1])) })
	early := p.exited()
	code := p.interrupt()
	stdout, stderr := p.stdout.String(), p.stderr.String()
	_, _ = ts.Stdout().Write([]byte(stdout)) // a strings.Builder
	_, _ = ts.Stderr().Write([]byte(stderr))
	s.check(ts, args[3:], code, stdout, stderr)
	switch {
	case early:
		ts.Fatalf("it ended by itself with exit code %d", code)
	case !seen:
		ts.Fatalf("%s did not match %s", args[1], args[2])
	case code != want:
		ts.Fatalf("exit code %d, want %d", code, want)
	case p.left():
		ts.Fatalf("a process is left")
	}
}

// killed GLOB REGEXP COMMAND [ARGS...] runs a command, waits until a file matches,
// and kills it as a power cut would.
func cmdKilled(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 2 && !neg, "killed GLOB REGEXP COMMAND [ARGS...]")
	when := regexp.MustCompile(args[1])
	p, err := startProcess(of(ts).environ(ts), ts.MkAbs("."), args[2:]...)
	ts.Check(err)
	seen := poll(func() bool { return p.exited() || when.MatchString(p.look(ts.MkAbs(args[0]), args[0])) })
	early := p.exited()
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
	if early || !seen {
		ts.Fatalf("ended by itself: %v, matched: %v\n%s%s", early, seen, p.stdout.String(), p.stderr.String())
	}
}

// edit FILE OLD NEW replaces the only OLD in a file; \n is a line end.
func cmdEdit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 3 && !neg, "edit FILE OLD NEW")
	text, lines := ts.ReadFile(args[0]), strings.NewReplacer(`\n`, "\n")
	if n := strings.Count(text, lines.Replace(args[1])); n != 1 {
		ts.Fatalf("%d times %q in %s", n, args[1], args[0])
	}
	text = strings.Replace(text, lines.Replace(args[1]), lines.Replace(args[2]), 1)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// secret VALUE... must not be shown by any later command.
func cmdSecret(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0 && !neg, "secret VALUE...")
	of(ts).secrets = append(of(ts).secrets, args...)
}

// clean DIR... has files, and none of them has a secret in it.
func cmdClean(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0 && !neg && len(of(ts).secrets) > 0, "clean DIR..., after secret VALUE...")
	for _, dir := range args {
		read := 0
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			read++
			data, err := os.ReadFile(path)
			if slices.ContainsFunc(of(ts).secrets, func(secret string) bool { return strings.Contains(string(data), secret) }) {
				ts.Fatalf("a secret is in %s", path)
			}
			return err
		}))
		if read == 0 {
			ts.Fatalf("no files in %s", dir)
		}
	}
}
