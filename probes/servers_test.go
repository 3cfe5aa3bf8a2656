package probes_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/turn/v5"
	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm      = "mesh.test"
	user       = "probe"
	password   = "canary-5b1c" // must never be shown
	restSecret = "canary-rest-77ae"
)

var loopback = net.IPv4(127, 0, 0, 1)

func login(user, password string) probes.Credentials {
	return probes.Credentials{Username: user, Password: secret.New(password)}
}

func goodLogin() probes.Credentials { return login(user, password) }

// restLogin makes credentials of the TURN REST kind.
func restLogin(t testing.TB, life time.Duration) probes.Credentials {
	t.Helper()
	name, pass, err := turn.GenerateLongTermTURNRESTCredentials(restSecret, user, life)
	if err != nil {
		t.Fatal(err)
	}
	return login(name, pass)
}

func uri(addr netip.AddrPort) wire.ServerURI {
	return wire.ServerURI{Scheme: "turn", Host: addr.Addr().String(), Port: int(addr.Port())}
}

func overTCP(u wire.ServerURI) wire.ServerURI {
	return probes.Over(u, probes.TCP)[0]
}

func addrPort(a net.Addr) netip.AddrPort {
	udp := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(udp.Addr().Unmap(), udp.Port())
}

// listen opens a UDP socket on loopback that is closed with the test.
func listen(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// closedPort is an address where nothing listens, over UDP or TCP. It is below
// the range from which the kernel gives out ports, so that it stays closed
// while other tests run.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	for range 100 {
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(10000+rand.IntN(20000)))
		datagrams, errUDP := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if errUDP == nil {
			_ = datagrams.Close()
		}
		stream, errTCP := net.Listen("tcp", at.String())
		if errTCP == nil {
			_ = stream.Close()
		}
		if errUDP == nil && errTCP == nil {
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// pion starts a pion/turn server in this process. change edits its
// configuration, and tap, when not nil, sits in front of its socket.
func pion(t testing.TB, tap func(request *stun.Message, reply func([]byte)) (swallow bool), change func(*turn.ServerConfig)) (wire.ServerURI, *turn.Server) {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	conn := net.PacketConn(listen(t))
	if tap != nil {
		conn = &tapped{PacketConn: conn, tap: tap}
	}
	config := turn.ServerConfig{
		Realm:         realm,
		LoggerFactory: quiet,
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(user, a.Realm, password), a.Username == user
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: loopback, Address: "127.0.0.1"},
		}},
	}
	if change != nil {
		change(&config)
	}
	server, err := turn.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return uri(addrPort(conn.LocalAddr())), server
}

// tapped shows a server's incoming datagrams to tap, which may answer them
// itself or swallow them. Of one that is not STUN only Raw is set.
type tapped struct {
	net.PacketConn
	tap func(request *stun.Message, reply func([]byte)) (swallow bool)
}

func (c *tapped) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		m := stun.New()
		_ = stun.Decode(b[:n], m)
		if !c.tap(m, func(reply []byte) { _, _ = c.WriteTo(reply, from) }) {
			return n, from, nil
		}
	}
}

// delayed holds back what comes in, as a long path does. Order is kept.
type delayed struct {
	net.PacketConn
	delay time.Duration
	start sync.Once
	queue chan held
}

type held struct {
	b    []byte
	from net.Addr
	due  time.Time
	err  error
}

func (c *delayed) ReadFrom(b []byte) (int, net.Addr, error) {
	c.start.Do(func() {
		c.queue = make(chan held, 1024)
		go func() {
			for {
				buffer := make([]byte, 2048)
				n, from, err := c.PacketConn.ReadFrom(buffer)
				c.queue <- held{buffer[:n], from, time.Now().Add(c.delay), err}
				if err != nil {
					return
				}
			}
		}()
	})
	h := <-c.queue
	if h.err == nil {
		<-time.After(time.Until(h.due))
	}
	return copy(b, h.b), h.from, h.err
}

// delayingProxy passes datagrams both ways, each later by oneWay, in order.
func delayingProxy(t testing.TB, target wire.ServerURI, oneWay time.Duration) wire.ServerURI {
	t.Helper()
	front := &delayed{PacketConn: listen(t), delay: oneWay}
	server := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target.Address()))
	go func() {
		upstreams := map[string]*delayed{}
		defer func() {
			for _, up := range upstreams {
				_ = up.Close()
			}
		}()
		b := make([]byte, 4096)
		for {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				return
			}
			up := upstreams[from.String()]
			if up == nil {
				conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback})
				if err != nil {
					return
				}
				up = &delayed{PacketConn: conn, delay: oneWay}
				upstreams[from.String()] = up
				go func() {
					b := make([]byte, 4096)
					for {
						n, _, err := up.ReadFrom(b)
						if err != nil {
							return
						}
						_, _ = front.WriteTo(b[:n], from)
					}
				}()
			}
			_, _ = up.WriteTo(b[:n], server)
		}
	}()
	return uri(addrPort(front.LocalAddr()))
}

// scripted starts a server that answers each STUN request with what answer
// returns.
func scripted(t testing.TB, answer func(request *stun.Message, from netip.AddrPort) [][]byte) wire.ServerURI {
	t.Helper()
	conn := listen(t)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			m := stun.New()
			if stun.Decode(buffer[:n], m) != nil {
				continue
			}
			for _, reply := range answer(m, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())) {
				if reply != nil {
					_, _ = conn.WriteToUDPAddrPort(reply, from)
				}
			}
		}
	}()
	return uri(addrPort(conn.LocalAddr()))
}

// response builds an answer to a request.
func response(request *stun.Message, class stun.MessageClass, attributes ...stun.Setter) []byte {
	setters := append([]stun.Setter{request, stun.NewType(request.Type.Method, class)}, attributes...)
	return stun.MustBuild(setters...).Raw
}

// refuse answers with an error code, and with realm and nonce where a client
// needs them.
func refuse(request *stun.Message, code stun.ErrorCode, attributes ...stun.Setter) []byte {
	setters := []stun.Setter{stun.ErrorCodeAttribute{Code: code}}
	if code == stun.CodeUnauthorized || code == stun.CodeStaleNonce {
		setters = append(setters, stun.NewRealm(realm), stun.NewNonce("nonce"))
	}
	return response(request, stun.ClassErrorResponse, append(setters, attributes...)...)
}

func isAllocate(m *stun.Message) bool { return m.Type.Method == stun.MethodAllocate }

func isSigned(m *stun.Message) bool { return m.Contains(stun.AttrMessageIntegrity) }

// coturn starts Debian's turnserver on loopback, over UDP only, and waits until
// it answers.
func coturn(t testing.TB, flags ...string) wire.ServerURI {
	t.Helper()
	return startedCoturn(t, append([]string{"--no-cli", "--no-tcp", "--no-tls", "--no-dtls"}, flags...), probes.UDP)
}

// startedCoturn waits until the server answers over the given transports: one
// that finds a port taken goes on without it.
func startedCoturn(t testing.TB, flags []string, over ...probes.Transport) wire.ServerURI {
	t.Helper()
	binary, err := exec.LookPath("turnserver")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("coturn is not installed: ", err)
		}
		t.Skip("coturn is not installed")
	}
	for range 3 { // another process can take the free port first
		if target, ok := startCoturn(t, binary, flags, over); ok {
			return target
		}
	}
	t.Fatal("coturn does not start")
	return wire.ServerURI{}
}

func startCoturn(t testing.TB, binary string, flags []string, over []probes.Transport) (wire.ServerURI, bool) {
	dir := t.TempDir()
	target := uri(closedPort(t))
	if i := slices.Index(flags, "-p"); i >= 0 {
		target.Port, _ = strconv.Atoi(flags[i+1])
	}
	args := append([]string{
		"-n", "--no-rfc5780", "-L", "127.0.0.1", "-p", strconv.Itoa(target.Port), "-r", realm,
		"--userdb", filepath.Join(dir, "db"), "--pidfile", filepath.Join(dir, "pid"),
		"--log-file", filepath.Join(dir, "log"), "--simple-log", "--no-stdout-log",
	}, flags...)
	command := exec.CommandContext(t.Context(), binary, args...)
	command.SysProcAttr = diesWithParent()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { defer close(exited); _ = command.Wait() }()
	stop := func() { _ = command.Process.Kill(); <-exited }
	ready := poll(t, 10*time.Second, func() bool {
		select {
		case <-exited:
			return true
		default:
			return answers(t, target, over)
		}
	})
	select {
	case <-exited:
		return target, false
	default:
	}
	if !ready {
		stop()
		return target, false
	}
	t.Cleanup(stop)
	return target, true
}

// answers tells whether a server takes part in STUN over all transports, by
// whatever certificate.
func answers(t testing.TB, target wire.ServerURI, over []probes.Transport) bool {
	for _, asked := range probes.Over(wire.ServerURI{Scheme: "stun", Host: target.Host, Port: target.Port}, over...) {
		r := probes.STUN{Target: asked, Timeout: time.Second}.Run(t.Context())
		if r.Findings[0].Code != probes.CodeSTUNOK {
			return false
		}
	}
	return true
}

// poll asks until the answer is yes or the time is over.
func poll(t testing.TB, limit time.Duration, ask func() bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ask() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// userFlags are those of a coturn with one user that may relay on loopback.
func userFlags(more ...string) []string {
	return append([]string{"-E", "127.0.0.1", "--lt-cred-mech", "-u", user + ":" + password, "--allow-loopback-peers"}, more...)
}
