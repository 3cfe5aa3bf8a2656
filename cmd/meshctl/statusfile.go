package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/infrafabric/meshctl/runbooks"
)

const maxStatusFile = 64 << 20

// saveStatus writes the document of --output json, so that either can be
// compared with later.
func (a *app) saveStatus(path string, s runbooks.Status) error {
	var b bytes.Buffer
	if err := a.writeJSON(&b, s); err != nil {
		return fmt.Errorf("save status: %w", err)
	}
	if err := renameio.WriteFile(path, b.Bytes(), 0o644, renameio.WithExistingPermissions()); err != nil {
		return usageError("--save %s: %w", path, plainPathError(err))
	}
	return nil
}

// readStatus reads a saved status; anything else is refused before the mesh is
// asked.
func readStatus(path string) (*runbooks.Status, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError("--diff %s: %w", path, plainPathError(err))
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxStatusFile+1))
	if err != nil {
		return nil, usageError("--diff %s: %w", path, plainPathError(err))
	}
	if len(data) > maxStatusFile {
		return nil, usageError("--diff %s: larger than 64 MiB", path)
	}
	var saved struct {
		SchemaVersion int    `json:"schema_version"`
		Command       string `json:"command"`
		runbooks.Status
	}
	switch err := json.Unmarshal(data, &saved); {
	case err != nil:
		return nil, usageError("--diff %s: not a saved status: %w", path, err)
	case saved.Command != "status" || len(saved.Parts) == 0:
		return nil, usageError("--diff %s: not a saved status; meshctl status --save writes one", path)
	case saved.SchemaVersion != schemaVersion:
		return nil, usageError("--diff %s: schema version %d, and this meshctl reads %d", path, saved.SchemaVersion, schemaVersion)
	}
	return &saved.Status, nil
}

// plainPathError drops the operation and the path, which the caller names.
func plainPathError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
