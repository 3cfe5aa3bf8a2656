package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A hint is worth nothing when the command that it names does not exist. Every
// text in the program that begins with a command line, and every command line
// in the documentation, is looked up.
func TestNamedCommandsExist(t *testing.T) {
	root, seen := filepath.Join("..", ".."), 0
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		var lines []string
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			lines = commandTexts(t, path)
		case strings.HasSuffix(path, ".md"):
			lines = commandExamples(t, path)
		}
		for _, line := range lines {
			seen++
			if word := unknownCommand(line); word != "" {
				t.Errorf("%s: %q: no command %q", path, line, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 40 {
		t.Errorf("only %d command lines found", seen)
	}
}

// commandTexts are the string constants of a source file that are command lines.
func commandTexts(t *testing.T, path string) (lines []string) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil && strings.HasPrefix(text, "meshctl ") && !strings.Contains(text, "\n") {
				lines = append(lines, text)
			}
		}
		return true
	})
	return lines
}

var exampleLine = regexp.MustCompile("(?m)^(?:    (?:\\$ )?|\\$ )(meshctl .*)$|`(meshctl [^`]*)`")

func commandExamples(t *testing.T, path string) (lines []string) {
	text, err := os.ReadFile(path) //nolint:gosec // of this project
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range exampleLine.FindAllSubmatch(text, -1) {
		lines = append(lines, string(found[1])+string(found[2]))
	}
	return lines
}

var commandWord = regexp.MustCompile(`^[a-z][a-z-]*$`)

// unknownCommand is the word of a command line that should name a command and
// does not.
func unknownCommand(line string) string {
	cmd := manualRoot()
words:
	for _, word := range strings.Fields(line)[1:] {
		word = strings.TrimRight(word, ",.;:")
		if !cmd.HasSubCommands() || !commandWord.MatchString(word) {
			return ""
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() == word {
				cmd = sub
				continue words
			}
		}
		return word
	}
	return ""
}
