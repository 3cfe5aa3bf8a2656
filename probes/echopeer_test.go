package probes_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

func TestGivenPeer(t *testing.T) {
	peer := servePeer(t)
	nobody := addrPort(listen(t).LocalAddr())
	denied := []string{"-E", "127.0.0.1", "--lt-cred-mech", "-u", user + ":" + password}
	tests := []struct {
		name  string
		begin start
		peer  netip.AddrPort
		want  string
	}{
		{"reachable, coturn", onCoturn(userFlags()...), peer, probes.CodeTURNOK},
		{"reachable, pion", onPion(nil), peer, probes.CodeTURNOK},
		{"unreachable", onCoturn(userFlags()...), nobody, probes.CodePeerUnreachable},
		{"denied", onCoturn(denied...), peer, probes.CodePeerDenied},
		{"wrong external address", onCoturn(userFlags("-X", "203.0.113.9")...), peer, probes.CodeAddressMismatch}, // though its answers come back
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := probes.TURN{Target: test.begin(t), Credentials: goodLogin(), Peer: test.peer, Count: 5, Rate: 100}
			r := p.Run(t.Context())
			wantReport(t, r, test.want)
			if healthy := test.want == probes.CodeTURNOK; healthy != (r.Quality != nil && r.Quality.Received == 5) && healthy {
				t.Errorf("quality %+v", r.Quality)
			}
			if got := r.Findings[0].Fact("peer"); got == "" {
				t.Errorf("no fact of the peer in %+v", r.Findings)
			}
		})
	}
}

// TestEchoPeerCannotBeAbused sends it what must have no answer, or none longer
// than the request.
func TestEchoPeerCannotBeAbused(t *testing.T) {
	to := net.UDPAddrFromAddrPort(servePeer(t))
	conn := listen(t)
	request := append([]byte("\xf5mecho1\x01"), make([]byte, 56)...)
	reply := bytes.Clone(request)
	reply[7] = 0x81
	for _, b := range [][]byte{nil, []byte("x"), request[:63], reply, append([]byte("\xf5mecho1\x04"), make([]byte, 56)...), request} {
		if _, err := conn.WriteTo(b, to); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 4096)
	n, _, err := conn.ReadFrom(b) // loopback keeps the order: this answers the last one
	if err != nil || n != len(request) || b[7] != 0x81 {
		t.Fatalf("answer of %d bytes, %x, %v", n, b[:n], err)
	}
	if mapped := netip.AddrFrom16([16]byte(b[24:40])).Unmap(); mapped.String() != "127.0.0.1" {
		t.Errorf("source %s in the answer", mapped)
	}
	if _, err := conn.WriteTo(b[:n], to); err != nil { // its own answer
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(append(request, make([]byte, 100)...), to); err != nil {
		t.Fatal(err)
	}
	if n, _, err = conn.ReadFrom(b); err != nil || n != len(request)+100 {
		t.Errorf("answer of %d bytes, %v, want as many as were sent", n, err)
	}
}

func TestEchoPeerRefusesAForeignAddress(t *testing.T) {
	if _, err := probes.ListenPeer(netip.MustParseAddrPort("203.0.113.9:0")); err == nil {
		t.Error("no error")
	}
}
