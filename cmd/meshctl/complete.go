package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/infrafabric/meshctl/runbooks"
)

// Completion reads the configuration, the state directory and a cache, and
// never the network: TAB answers at once, most of all when the mesh is down.

// fileFlags are those whose value is the name of a file, which shells know.
var fileFlags = []string{"config", "outfile", "secret-file", "password-file", "dir", "save", "diff", "from-alert", "ca-file"}

// completeFlags offers the values of the shared flags, and nothing for a value
// that only the operator knows: a list of files would be a wrong answer.
func completeFlags(root *cobra.Command) {
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return formatsOf(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	completeRest(root)
}

func completeRest(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		_, known := cmd.GetFlagCompletionFunc(f.Name)
		if !known && f.Value.Type() != "bool" && !slices.Contains(fileFlags, f.Name) {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	})
	if cmd.ValidArgsFunction == nil && cmd.Name() != "init" {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		completeRest(sub)
	}
}

// completeServers offers the TURN servers of the env file.
func (a *app) completeServers(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return runbooks.ServerNames(c.TURN.EnvFile), cobra.ShellCompDirectiveNoFileComp
}

// completeRuns offers the runs of the state directory, newest first. The
// description of a journal that has not changed comes from the cache; of those
// that have, a few are read and the others offered without.
func (a *app) completeRuns(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	c, err := a.loadConfig()
	if err != nil {
		return nil, directive
	}
	dir := runbooks.RunsDir(c.stateDir())
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, directive
	}
	cache := readRunCache(a.cacheFile(c))
	var ids []string
	for _, f := range slices.Backward(files) {
		run, isJournal := strings.CutSuffix(f.Name(), ".jsonl")
		if info, err := f.Info(); isJournal && err == nil {
			ids = append(ids, cobra.CompletionWithDesc(run, cache.describe(dir, f.Name(), info)))
		}
	}
	cache.write()
	return ids, directive
}

// completeScenarios offers every scenario of the mesh's procedures.
func completeScenarios(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	for _, s := range runbooks.Scenarios() {
		ids = append(ids, cobra.CompletionWithDesc(s.ID, s.Name))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// completeRunbookScenarios offers the scenarios that there is a runbook for.
func completeRunbookScenarios(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	for _, rb := range runbooks.All() {
		ids = append(ids, cobra.CompletionWithDesc(rb.Scenario, rb.Summary))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// maxReads bounds the journals that one TAB reads.
const maxReads = 12

// runCache has a description for each journal as it was when it was read.
type runCache struct {
	path  string
	old   map[string]cachedRun
	now   map[string]cachedRun
	reads int
}

type cachedRun struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Text     string    `json:"text"`
}

// readRunCache takes a cache that is damaged or not there for an empty one.
func readRunCache(path string) *runCache {
	c := &runCache{path: path, old: map[string]cachedRun{}, now: map[string]cachedRun{}}
	if data, err := readSmall(path, maxRunCache); err == nil && json.Unmarshal(data, &c.old) != nil {
		c.old = map[string]cachedRun{}
	}
	return c
}

const maxRunCache = 4 << 20

func (c *runCache) describe(dir, name string, info os.FileInfo) string {
	entry, cached := c.old[name]
	if !cached || entry.Size != info.Size() || !entry.Modified.Equal(info.ModTime()) {
		if c.reads >= maxReads {
			return ""
		}
		c.reads++
		r := runbooks.SummarizeRun(filepath.Join(dir, name))
		entry = cachedRun{info.Size(), info.ModTime(), oneLine(r.Runbook + " " + r.State())}
	}
	c.now[name] = entry
	return entry.Text
}

// write keeps what was learned; without a place for it TAB is slower, and no
// less right.
func (c *runCache) write() {
	data, err := json.Marshal(c.now)
	if err != nil || c.reads == 0 || c.path == "" || os.MkdirAll(filepath.Dir(c.path), 0o700) != nil {
		return
	}
	_ = renameio.WriteFile(c.path, data, 0o600)
}

func (a *app) cacheFile(c config) string {
	dir := a.getenv("XDG_CACHE_HOME")
	if dir == "" {
		home := a.getenv("HOME")
		if home == "" {
			return "" // not into the working directory
		}
		dir = filepath.Join(home, ".cache")
	}
	return filepath.Join(dir, "meshctl", c.Mesh+".runs.json")
}
