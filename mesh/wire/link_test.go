package wire

import (
	"encoding/json"
	"testing"
)

func TestRelay(t *testing.T) {
	server, none := "turn:turn-1:3478", ""
	for _, tt := range []struct {
		name   string
		link   Link
		server string
		known  bool
	}{
		{"nothing said", Link{}, "", false},
		{"server given", Link{TURNServer: &server, Path: PathRelay}, server, true},
		{"server given without path", Link{TURNServer: &server}, server, true},
		{"known to use none", Link{TURNServer: &none}, "", true},
		{"contradiction", Link{TURNServer: &none, Path: PathRelay}, "", false},
		{"host", Link{Path: PathHost}, "", true},
		{"srflx", Link{Path: PathSrflx}, "", true},
		{"prflx", Link{Path: PathPrflx}, "", true},
		{"relay without server", Link{Path: PathRelay}, "", false},
		{"unknown path", Link{Path: "wire"}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, known := tt.link.Relay()
			if got != tt.server || known != tt.known {
				t.Errorf("got %q, %v, want %q, %v", got, known, tt.server, tt.known)
			}
		})
	}
}

func TestLinkOwn(t *testing.T) {
	for _, tt := range []struct {
		name string
		link Link
		want bool
	}{
		{"neither", Link{Local: "a", Peer: "b"}, false},
		{"local", Link{Local: "meshctl-1-1", Peer: "b"}, true},
		{"peer", Link{Local: "a", Peer: "meshctl-1-1"}, true},
		{"not said", Link{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.link.Own(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What is not known is not written, and a known zero is.
func TestLinkEncoding(t *testing.T) {
	zero, none := uint64(0), ""
	got, err := json.Marshal(Link{State: StateNew, BytesSent: &zero, TURNServer: &none})
	if want := `{"state":"new","turn_server":"","bytes_sent":0}`; err != nil || string(got) != want {
		t.Errorf("got %s, error %v, want %s", got, err, want)
	}
}
