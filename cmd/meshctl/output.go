package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

// outputs are all formats that --output knows; which of them a command has is
// its own matter.
var outputs = []string{"text", "json", "jsonl", "junit", "prom"}

// formatsKey is the annotation of a command that has more than text and JSON.
const formatsKey = "formats"

// offer gives a command formats beside text and JSON.
func offer(cmd *cobra.Command, formats ...string) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[formatsKey] = strings.Join(formats, ",")
}

// formatsOf lists what --output of a command may be.
func formatsOf(cmd *cobra.Command) []string {
	formats := []string{"text", "json"}
	if more := cmd.Annotations[formatsKey]; more != "" {
		formats = append(formats, strings.Split(more, ",")...)
	}
	return formats
}

// checkOutput refuses a format that the command does not have.
func (a *app) checkOutput(cmd *cobra.Command) error {
	formats := formatsOf(cmd)
	if slices.Contains(formats, a.output) {
		return nil
	}
	refused := a.output
	a.output = "text"
	return usageError("--output %s: not %s", refused, orList(formats))
}

// checkOutfile finds out before anything is done whether the result can be
// written: a rename must not replace a device or a directory.
func (a *app) checkOutfile() error {
	if a.outfile == "" {
		return nil
	}
	if target, err := filepath.EvalSymlinks(a.outfile); err == nil {
		a.outfile = target
	}
	info, err := os.Stat(a.outfile)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return a.refuseOutfile(errors.New("not a regular file"))
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return a.refuseOutfile(err)
	}
	if parent, err := os.Stat(filepath.Dir(a.outfile)); err != nil || !parent.IsDir() {
		return a.refuseOutfile(errors.New("no such directory"))
	}
	return nil
}

func (a *app) refuseOutfile(err error) error {
	refused := a.outfile
	a.outfile = ""
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return usageError("--outfile %s: %w", refused, err)
}

// wantedOutput looks for --output in a command line that was not parsed to its
// end: who reads a format gets a document of it all the same.
func wantedOutput(args []string) string {
	wanted := "text"
	for i, arg := range args {
		value, found := "", false
		for _, prefix := range []string{"--output=", "-o=", "-o"} {
			if value, found = strings.CutPrefix(arg, prefix); found {
				break
			}
		}
		if arg == "-o" || arg == "--output" {
			value, found = strings.Join(args[min(i+1, len(args)):min(i+2, len(args))], ""), true
		}
		if found && slices.Contains(outputs, value) {
			wanted = value
		}
	}
	return wanted
}

// results is one outcome in every format that its command has.
type results struct {
	doc   any // of --output json
	text  func(*page)
	lines []any        // of --output jsonl: one document a line
	suite func() suite // of --output junit
	prom  func() []family
	code  int // the exit code, for formats that carry it
}

// show writes a result once, as text or as one JSON document. The document
// gets the schema version and the command.
func (a *app) show(doc any, text func(*page)) error {
	return a.showResults(results{doc: doc, text: text})
}

// showResults writes the result in the wanted format, to --outfile at once or
// not at all.
func (a *app) showResults(r results) error {
	var b bytes.Buffer
	if err := a.format(&b, r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if a.outfile == "" {
		_, err := a.out.Write(b.Bytes())
		return err
	}
	err := renameio.WriteFile(a.outfile, b.Bytes(), 0o644, renameio.WithExistingPermissions())
	if err != nil {
		return fmt.Errorf("write result to %s: %w", a.outfile, err)
	}
	return nil
}

func (a *app) format(out io.Writer, r results) error {
	switch a.output {
	case "json":
		return a.writeJSON(out, r.doc)
	case "jsonl":
		for _, line := range r.lines {
			if err := a.writeJSON(out, line); err != nil {
				return err
			}
		}
		return nil
	case "junit":
		return writeJUnit(out, r.suite())
	case "prom":
		return writeProm(out, append(r.prom(), a.ended(r.code)...))
	}
	p := a.page(a.out)
	if a.outfile != "" {
		p = a.page(io.Discard) // a file is not a terminal
	}
	p.out = out
	r.text(p)
	return p.flush()
}

// writeJSON writes a document on one line.
func (a *app) writeJSON(out io.Writer, doc any) error {
	fields, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	head, err := json.Marshal(map[string]any{"schema_version": schemaVersion, "command": a.command})
	if err != nil {
		return err
	}
	joined := string(head[:len(head)-1])
	if len(fields) > 2 {
		joined += "," + string(fields[1:])
	} else {
		joined += "}"
	}
	_, err = fmt.Fprintln(out, joined)
	return err
}
