package targets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An edit changes the value and no other byte of the file.
func TestWithKeepsEveryOtherByte(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"plain", "TURN_SERVERS=turn:old\n", "TURN_SERVERS=turn:new\n"},
		{"double quotes", "TURN_SERVERS=\"turn:old, turn:b\"\n", "TURN_SERVERS=\"turn:new, turn:b\"\n"},
		{"single quotes", "TURN_SERVERS='turn:old'\n", "TURN_SERVERS='turn:new'\n"},
		{"comment that names it", "# TURN_SERVERS=turn:old\nTURN_SERVERS=turn:old\n", "# TURN_SERVERS=turn:old\nTURN_SERVERS=turn:new\n"},
		{"indented comment", "\t# TURN_SERVERS=turn:old\nTURN_SERVERS=turn:old\n", "\t# TURN_SERVERS=turn:old\nTURN_SERVERS=turn:new\n"},
		{"trailing comment", "TURN_SERVERS=turn:old # was old before\n", "TURN_SERVERS=turn:new # was old before\n"},
		{"trailing comment behind quotes", "TURN_SERVERS=\"turn:old\"\t# old\n", "TURN_SERVERS=\"turn:new\"\t# old\n"},
		{"trailing blanks", "TURN_SERVERS=turn:old  \n", "TURN_SERVERS=turn:new  \n"},
		{"CRLF", "A=1\r\nTURN_SERVERS=turn:old\r\nB=2\r\n", "A=1\r\nTURN_SERVERS=turn:new\r\nB=2\r\n"},
		{"CRLF and quotes", "TURN_SERVERS=\"turn:old\"\r\n", "TURN_SERVERS=\"turn:new\"\r\n"},
		{"no newline at the end", "A=1\nTURN_SERVERS=turn:old", "A=1\nTURN_SERVERS=turn:new"},
		{"no newline behind quotes", "TURN_SERVERS='turn:old'", "TURN_SERVERS='turn:new'"},
		{"blank lines", "\n\nTURN_SERVERS=turn:old\n\n\n", "\n\nTURN_SERVERS=turn:new\n\n\n"},
		{"duplicate keys", "TURN_SERVERS=turn:old1\nX=old\nTURN_SERVERS=turn:old2\n", "TURN_SERVERS=turn:new1\nX=old\nTURN_SERVERS=turn:new2\n"},
		{"export", "export TURN_SERVERS=turn:old\n", "export TURN_SERVERS=turn:new\n"},
		{"export and blanks", "  export   TURN_SERVERS=turn:old\n", "  export   TURN_SERVERS=turn:new\n"},
		{"export and a tab", "export\tTURN_SERVERS=turn:old\n", "export\tTURN_SERVERS=turn:new\n"},
		{"indented", " \tTURN_SERVERS=turn:old\n", " \tTURN_SERVERS=turn:new\n"},
		{"key that ends alike", "MY_TURN_SERVERS=turn:old\nTURN_SERVERS=turn:old\n", "MY_TURN_SERVERS=turn:old\nTURN_SERVERS=turn:new\n"},
		{"key that begins alike", "TURN_SERVERS_OLD=turn:old\nTURN_SERVERS=turn:old\n", "TURN_SERVERS_OLD=turn:old\nTURN_SERVERS=turn:new\n"},
		{"key in another value", "NOTE='TURN_SERVERS=turn:old'\nTURN_SERVERS=turn:old\n", "NOTE='TURN_SERVERS=turn:old'\nTURN_SERVERS=turn:new\n"},
		{"exporter is not export", "exporter TURN_SERVERS=turn:old\n", "exporter TURN_SERVERS=turn:old\n"},
		{"blank before the equals sign is no assignment", "TURN_SERVERS =turn:old\n", "TURN_SERVERS =turn:old\n"},
		{"another command on the line", "TURN_SERVERS=turn:old;export TURN_SERVERS\n", "TURN_SERVERS=turn:new;export TURN_SERVERS\n"},
		{"another command behind quotes", "TURN_SERVERS=\"turn:old\";export TURN_SERVERS\n", "TURN_SERVERS=\"turn:new\";export TURN_SERVERS\n"},
		{"hash inside the value", "TURN_SERVERS=turn:old#1\n", "TURN_SERVERS=turn:new#1\n"},
		{"empty value", "TURN_SERVERS=\nX=old\n", "TURN_SERVERS=\nX=old\n"},
		{"no such key", "X=turn:old\n", "X=turn:old\n"},
		{"bytes that are not UTF-8", "X=\xff\xfe old\nTURN_SERVERS=turn:old\n", "X=\xff\xfe old\nTURN_SERVERS=turn:new\n"},
		{"empty file", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := read(t, write(t, tt.before))
			edited, err := f.With("TURN_SERVERS", oldToNew)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(edited.data); got != tt.after {
				t.Errorf("got  %q\nwant %q", got, tt.after)
			}
			if string(f.data) != tt.before {
				t.Error("the original was changed too")
			}
			if (edited.Hash() == f.Hash()) != (tt.before == tt.after) {
				t.Error("the hash does not follow the content")
			}
		})
	}
}

// A value that a shell would make something else of is refused with its line.
func TestWithRefusesShellQuoting(t *testing.T) {
	for _, tt := range []struct{ name, line string }{
		{"variable", `TURN_SERVERS=turn:$HOST`},
		{"variable in quotes", `TURN_SERVERS="turn:${HOST}:3478"`},
		{"command", "TURN_SERVERS=`hosts`"},
		{"command in parentheses", `TURN_SERVERS=$(hosts)`},
		{"backslash", `TURN_SERVERS=turn:a\,turn:b`},
		{"continued line", `TURN_SERVERS=turn:a,\`},
		{"quote that is not closed", `TURN_SERVERS="turn:a,`},
		{"quoted and joined", `TURN_SERVERS="turn:a",turn:b`},
		{"quoted twice", `TURN_SERVERS="turn:a"",turn:b"`},
		{"unquoted and joined", `TURN_SERVERS=turn:a",turn:b"`},
		{"appended to", `TURN_SERVERS+=,turn:b`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := read(t, write(t, "# first line\nA=1\n"+tt.line+"\nB=2\n"))
			_, err := f.With("TURN_SERVERS", only("turn:x"))
			if err == nil || !strings.Contains(err.Error(), "mesh.env line 3: TURN_SERVERS uses shell quoting that cannot be edited safely") {
				t.Errorf("got error %v", err)
			}
			if _, err := f.With("A", only("2")); err != nil {
				t.Errorf("another key: %v", err)
			}
		})
	}
}

func TestValue(t *testing.T) {
	for _, tt := range []struct {
		name, content, want string
		ok                  bool
	}{
		{"last assignment wins", "K=a\nK=b\n", "b", true},
		{"without its quotes", "K='a b'\n", "a b", true},
		{"ends at a blank", "K=a b\n", "a", true},
		{"ends at a line end", "K=a\r\n", "a", true},
		{"command behind", "K='a';export K\n", "a", true},
		{"blank behind the equals sign", "K= a\n", "", true},
		{"only in a comment", "#K=a\n", "", false},
		{"none", "", "", false},
		// What a shell would join must not be read as the part of it that
		// looks harmless: the rest may name a server too.
		{"joined behind quotes is given whole", "K=\"a\",b\n", "\"a\",b", true},
		{"joined before quotes is given whole", "K=a\",b\"\n", "a\",b\"", true},
		{"open quote is given whole", "K=\"a,b\n", "\"a,b", true},
		{"append is given whole", "K=a\nK+=,b\n", "+=,b", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := read(t, write(t, tt.content)).Value("K")
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %q, %v, want %q, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestReadEnvFileRefuses(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxEnvFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "missing"), "no such file or directory"},
		{"directory", dir, "not a regular file"},
		{"pipe that nobody writes to", pipe, "not a regular file"},
		{"too large", large, "larger than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadEnvFile(tt.path)
			if err == nil || err.Error() != "read env file "+tt.path+": "+tt.want {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestReadEnvFileTakesTheLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "full")
	if err := os.WriteFile(path, make([]byte, maxEnvFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(read(t, path).data); n != maxEnvFile {
		t.Errorf("read %d bytes", n)
	}
}

func TestReadEnvFileKeepsTheCause(t *testing.T) {
	_, err := ReadEnvFile(filepath.Join(t.TempDir(), "missing"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v", err)
	}
}
