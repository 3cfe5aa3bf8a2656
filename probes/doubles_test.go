package probes_test

import (
	"crypto/md5"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// xorAddress is an address attribute as responses have it.
func xorAddress(request *stun.Message, as stun.AttrType, a string) stun.Setter {
	to := netip.MustParseAddrPort(a)
	m := stun.MustBuild(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: to.Addr().AsSlice(), Port: int(to.Port())})
	mapped, _ := m.Attributes.Get(stun.AttrXORMappedAddress)
	return stun.RawAttribute{Type: as, Value: mapped.Value}
}

// gatewayed grants everything, and sees a gateway in place of its clients. It
// relays nothing.
func gatewayed(t *testing.T) wire.ServerURI {
	key := stun.NewLongTermIntegrity(user, realm, password)
	return scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
		mapped := xorAddress(m, stun.AttrXORMappedAddress, "10.0.0.1:4000")
		switch {
		case m.Type.Method == stun.MethodBinding:
			return [][]byte{response(m, stun.ClassSuccessResponse, mapped)}
		case !isSigned(m):
			return [][]byte{refuse(m, stun.CodeUnauthorized)}
		case isAllocate(m):
			return [][]byte{response(m, stun.ClassSuccessResponse, mapped, xorAddress(m, stun.AttrXORRelayedAddress, "9.9.9.9:5000"), key)}
		}
		return [][]byte{response(m, stun.ClassSuccessResponse, key)}
	})
}

// clockAhead rejects everybody, with nonces of a clock that is ahead, as those
// of coturn with --stateless-nonce are.
func clockAhead(by time.Duration) start {
	return func(t *testing.T) wire.ServerURI {
		return scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
			nonce := fmt.Sprintf("%08x%s", time.Now().Add(by).Unix(), strings.Repeat("5c", 16))
			return [][]byte{response(m, stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: stun.CodeUnauthorized}, stun.NewRealm(realm), stun.NewNonce(nonce))}
		})
	}
}

// ofRealm knows the user by a key that was made for another realm.
func ofRealm(other string) start {
	return func(t *testing.T) wire.ServerURI {
		key := md5.Sum([]byte(user + ":" + other + ":" + password))
		return coturn(t, "-E", "127.0.0.1", "--lt-cred-mech", "-u", user+":0x"+hex.EncodeToString(key[:]), "--allow-loopback-peers")
	}
}

// unbalanced sends the requests of a client to two servers in turn.
func unbalanced(t *testing.T) wire.ServerURI {
	servers := []wire.ServerURI{coturn(t, userFlags()...), coturn(t, userFlags()...)}
	var allocates atomic.Int32
	return through(t, func(b []byte) wire.ServerURI {
		m := stun.New()
		if stun.Decode(b, m) == nil && isAllocate(m) {
			return servers[allocates.Add(1)%2]
		}
		return servers[0]
	})
}

func staleForEver(t *testing.T) wire.ServerURI {
	return scripted(t, func(m *stun.Message, from netip.AddrPort) [][]byte {
		return [][]byte{challenge(func(m *stun.Message) []byte { return refuse(m, stun.CodeStaleNonce) })(m, from)}
	})
}

func mismatched(t *testing.T) wire.ServerURI {
	return scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
		return [][]byte{refuse(m, stun.CodeAllocMismatch)}
	})
}

// fromElsewhere answers from another port.
func fromElsewhere(t *testing.T) wire.ServerURI {
	elsewhere := listen(t)
	return scripted(t, func(m *stun.Message, from netip.AddrPort) [][]byte {
		b := refuse(m, stun.CodeUnauthorized)
		if !isAllocate(m) {
			b = response(m, stun.ClassSuccessResponse, &stun.XORMappedAddress{IP: loopback, Port: int(from.Port())})
		}
		_, _ = elsewhere.WriteToUDPAddrPort(b, from)
		return nil
	})
}

// udpBlocked has a server that listens on TCP, and a UDP port that swallows.
func udpBlocked(t *testing.T) []probes.Report {
	hole, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(closedPort(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hole.Close() })
	port := strconv.Itoa(int(addrPort(hole.LocalAddr()).Port()))
	target := startedCoturn(t, userFlags("--no-cli", "--no-udp", "--no-tls", "--no-dtls", "-p", port), probes.TCP)
	return probes.Matrix{
		TURN: probes.TURN{Credentials: goodLogin()}, Targets: probes.Over(target, probes.UDP, probes.TCP),
	}.Run(t.Context())
}

// certified probes a coturn over TLS whose certificate has this life and chain.
func certified(from, until time.Duration, certificates int) func(*testing.T) []probes.Report {
	return func(t *testing.T) []probes.Report {
		id := identify(t, from, until, certificates)
		target := probes.Over(coturnEverywhere(t, id, userFlags()...), probes.TLS)[0]
		return one(probes.TURN{Target: target, Credentials: goodLogin(), Roots: id.roots})(t)
	}
}

// unreadableKey has a coturn that starts without the key that it should have.
func unreadableKey(t *testing.T) []probes.Report {
	id := goodIdentity(t)
	if err := os.Remove(id.key); err != nil {
		t.Fatal(err)
	}
	port := int(closedPort(t).Port())
	plain := startedCoturn(t, userFlags("--no-cli", "--tls-listening-port", strconv.Itoa(port), "--cert", id.cert, "--pkey", id.key), probes.UDP)
	secured := wire.ServerURI{Scheme: "turns", Host: plain.Host, Port: port}
	return probes.Matrix{
		TURN: probes.TURN{Credentials: goodLogin(), Roots: id.roots}, Targets: []wire.ServerURI{secured, plain},
	}.Run(t.Context())
}

// webServer is where TURN over TLS should be.
func webServer(t *testing.T) []probes.Report {
	id := goodIdentity(t)
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.TLS = &tls.Config{Certificates: []tls.Certificate{id.tls()}}
	web.Config.ErrorLog = silentLog()
	web.StartTLS()
	t.Cleanup(web.Close)
	at := web.Listener.Addr().(*net.TCPAddr)
	return one(probes.TURN{
		Target:      wire.ServerURI{Scheme: "turns", Host: "127.0.0.1", Port: at.Port},
		Credentials: goodLogin(), Roots: id.roots,
	})(t)
}

// redirecting sends its clients to a healthy server.
func redirecting(t *testing.T) wire.ServerURI {
	healthy := coturn(t, userFlags()...)
	return coturn(t, userFlags("--alternate-server", healthy.Address())...)
}

// lossy loses every fourth packet of relayed data.
func lossy(t *testing.T) wire.ServerURI {
	target := coturn(t, userFlags()...)
	var data atomic.Int32
	nowhere := uri(addrPort(listen(t).LocalAddr()))
	return through(t, func(b []byte) wire.ServerURI {
		if len(b) > 0 && b[0]>>4 == 4 && data.Add(1)%4 == 0 {
			return nowhere
		}
		return target
	})
}
