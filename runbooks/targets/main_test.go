package targets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write makes an env file in a directory of its own.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.env")
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) EnvFile {
	t.Helper()
	f, err := ReadEnvFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// only makes an edit that is the same for every value.
func only(value string) func(string) string { return func(string) string { return value } }

// oldToNew is the edit of a recovery, roughly.
func oldToNew(value string) string { return strings.ReplaceAll(value, "old", "new") }

func edit(t *testing.T, f EnvFile) EnvFile {
	t.Helper()
	edited, err := f.With("TURN_SERVERS", oldToNew)
	if err != nil {
		t.Fatal(err)
	}
	return edited
}
