package main

import (
	_ "embed" // the commented configuration
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

//go:embed meshctl.yaml
var commentedConfig string

func newConfigCmd(a *app) *cobra.Command {
	return group("config", "The configuration of this mesh: init, show, check", newConfigInitCmd(a), newConfigShowCmd(a), newConfigCheckCmd(a))
}

func newConfigInitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "init [FILE]", Short: "Write a commented configuration to begin with",
		Long: `init writes a configuration with the mesh's own default addresses and every other key
as a comment, to FILE (default --outfile, else meshctl.yaml). It never replaces a
file. FILE - is standard output.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.runConfigInit(args) },
	}
}

func (a *app) runConfigInit(args []string) error {
	path := "meshctl.yaml"
	if a.outfile != "" {
		path, a.outfile = a.outfile, ""
	}
	if len(args) > 0 {
		path = args[0]
	}
	doc := map[string]any{"path": path, "config": commentedConfig}
	if path == "-" {
		return a.show(doc, func(p *page) { p.text.WriteString(commentedConfig) })
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &exitError{code: exitUsage, err: usageError("config init: %s is there already", path), hints: []string{"it is never replaced: give another name, or - to see one"}}
	}
	if err != nil {
		return usageError("config init: %s: %w", path, bareError(err))
	}
	_, err = f.WriteString(commentedConfig)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path) // half a configuration would be read as a whole one
		return usageError("config init: %s: %w", path, bareError(err))
	}
	return a.show(doc, func(p *page) {
		p.line("wrote %s", path)
		p.line("next: edit it, then meshctl config check --config %s", path)
	})
}
