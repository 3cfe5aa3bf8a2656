package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manualDate is the date of all manual pages: they change with the text, not
// with the day on which they are made.
const manualDate = "2026-11-30"

func newManualCmd() *cobra.Command {
	return &cobra.Command{
		Use: "manual DIR", Short: "Write the manual pages", Hidden: true, Args: exactArgs(1, "a directory"),
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	}
}

// writeManual writes one page for every command and removes pages of commands
// that are no more.
func writeManual(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return usageError("manual: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "meshctl*.1"))
	if err != nil {
		return err
	}
	pages := manualPages(root)
	for _, path := range old {
		if _, kept := pages[filepath.Base(path)]; !kept {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, text := range pages {
		if err := renameio.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("manual: %w", err)
		}
	}
	return nil
}

func manualPages(cmd *cobra.Command) map[string]string {
	pages := map[string]string{pageName(cmd) + ".1": manualPage(cmd)}
	for _, sub := range cmd.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		maps.Copy(pages, manualPages(sub))
	}
	return pages
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// roff is a page in man(7).
type roff struct{ strings.Builder }

func (r *roff) section(name string) { fmt.Fprintf(&r.Builder, ".SH %s\n", name) }

// text escapes what roff would take for a request or a command.
func (r *roff) text(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "", "'", `\(aq`).Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}

// paragraphs writes text; a line that begins with two spaces stays as it is.
func (r *roff) paragraphs(text string) {
	literal, fresh, first := false, true, true
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		line = strings.ReplaceAll(line, "\t", "    ")
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !literal:
			r.paragraph(first)
			r.WriteString(".nf\n")
		case !indented && literal:
			r.WriteString(".fi\n")
			fresh = true
		}
		literal = indented
		if strings.TrimSpace(line) == "" {
			fresh = true
			continue
		}
		if fresh && !indented {
			r.paragraph(first)
		}
		fresh, first = false, false
		r.WriteString(r.text(line) + "\n")
	}
	if literal {
		r.WriteString(".fi\n")
	}
}

// paragraph begins one; after the title of a section it has begun.
func (r *roff) paragraph(first bool) {
	if !first {
		r.WriteString(".PP\n")
	}
}

func manualPage(cmd *cobra.Command) string {
	r := &roff{}
	name := pageName(cmd)
	fmt.Fprintf(&r.Builder, ".TH %s 1 %s meshctl \"Manual of meshctl\"\n", strings.ToUpper(r.text(name)), manualDate)
	r.section("NAME")
	fmt.Fprintf(&r.Builder, "%s \\- %s\n", r.text(name), r.text(cmd.Short))
	r.section("SYNOPSIS")
	fmt.Fprintf(&r.Builder, "\\fB%s\\fR %s\n", r.text(cmd.CommandPath()), r.text(usageRest(cmd)))
	r.section("DESCRIPTION")
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	r.paragraphs(text)
	r.commands(cmd)
	r.options("OPTIONS", cmd.NonInheritedFlags())
	r.options("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		r.section("EXAMPLES")
		r.paragraphs(cmd.Example)
	}
	if !cmd.HasParent() {
		r.general()
	}
	r.seeAlso(cmd)
	return r.String()
}

// usageRest is what follows the command's name.
func usageRest(cmd *cobra.Command) string {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		rest = "COMMAND"
	}
	if !strings.Contains(rest, "[--") && cmd.HasAvailableFlags() {
		rest += " [OPTIONS]"
	}
	return strings.TrimSpace(rest)
}

func (r *roff) commands(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	r.section("COMMANDS")
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(&r.Builder, ".TP\n\\fB%s\\fR(1)\n%s\n", r.text(pageName(sub)), r.text(sub.Short))
		}
	}
}

func (r *roff) options(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	r.section(`"` + title + `"`)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = `\fB` + r.text("-"+f.Shorthand) + `\fR, `
		}
		if value != "" {
			value = ` \fI` + r.text(value) + `\fR`
		}
		if zero := f.DefValue == "" || f.DefValue == "false" || f.DefValue == "0" || f.DefValue == "0s" || f.DefValue == "[]"; !zero {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&r.Builder, ".TP\n%s\\fB%s\\fR%s\n%s\n", short, r.text("--"+f.Name), value, r.text(usage))
	})
}

// general is what holds for all commands: exit codes, environment, files.
func (r *roff) general() {
	for _, s := range []struct {
		title string
		items [][2]string
	}{
		{"EXIT STATUS", [][2]string{
			{"0", "done, or healthy"}, {"1", "the program itself failed"}, {"2", "usage or configuration"}, {"3", "unhealthy: a check failed"},
			{"4", "could not be determined"}, {"5", "a precondition failed, nothing was changed"}, {"6", "failed, the changes are undone"},
			{"7", "failed, the changes are NOT undone: a human must look"}, {"8", "locked by somebody, or an unfinished run is in the way"},
			{"9", "done, but audit events are not delivered yet"}, {"10", "--dry-run --exit-code: there are changes to make"}, {"130", "interrupted; resumable"},
		}},
		{"ENVIRONMENT", [][2]string{
			{"MESHCTL_CONFIG", "the configuration file"}, {"MESHCTL_OPERATOR", "the name for the audit log"},
			{"MESHCTL_TURN_USERNAME, MESHCTL_TURN_PASSWORD", "credentials of the TURN servers"}, {"ADMIN_API_KEY", "key of the controller"},
			{"IF_WITNESS_API_KEY", "key of the witness"}, {"NO_COLOR", "no colours"},
		}},
		{"FILES", [][2]string{
			{"./meshctl.yaml, $XDG_CONFIG_HOME/meshctl/config.yaml", "the configuration; meshctl config init writes one"},
			{"$XDG_STATE_HOME/meshctl", "journals of runs and the lock, one directory a mesh"}, {"$XDG_CACHE_HOME/meshctl", "what completion remembers"},
		}},
	} {
		r.section(`"` + s.title + `"`)
		for _, item := range s.items {
			fmt.Fprintf(&r.Builder, ".TP\n\\fB%s\\fR\n%s\n", r.text(item[0]), r.text(item[1]))
		}
	}
}

func (r *roff) seeAlso(cmd *cobra.Command) {
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, fmt.Sprintf("\\fB%s\\fR(1)", r.text(pageName(cmd.Parent()))))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, fmt.Sprintf("\\fB%s\\fR(1)", r.text(pageName(sub))))
		}
	}
	if len(pages) > 0 {
		r.section(`"SEE ALSO"`)
		r.WriteString(strings.Join(pages, ",\n") + "\n")
	}
}
