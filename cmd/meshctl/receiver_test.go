package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiver NAME [STATUS] starts a webhook that answers with the status and
// appends what it gets to the file NAME, one body a line. The variable NAME is
// its address, whose path is a secret of the script.
func cmdReceiver(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0 && len(args) < 3 && !neg, "receiver NAME [STATUS]")
	status := http.StatusOK
	if len(args) > 1 {
		var err error
		status, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path, nil, 0o600))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what came is kept
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, _ = f.WriteString(strings.ReplaceAll(string(body), "\n", " ") + "\n") // its absence fails the script
			_ = f.Close()
		}
		w.WriteHeader(status)
	}))
	ts.Defer(server.Close)
	hidden := "CANARY-" + args[0] + "-path"
	of(ts).secrets = append(of(ts).secrets, hidden)
	ts.Setenv(args[0], server.URL+"/"+hidden)
}
