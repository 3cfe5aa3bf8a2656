package probes_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// zone is what the test's name server knows: "A name", "AAAA name" or
// "SRV name" to "address" or "priority weight port target".
type zone map[string][]string

// resolver starts a name server on loopback. Questions of a type in ignore are
// never answered.
func (z zone) resolver(t *testing.T, ignore string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := []net.Conn{}
	t.Cleanup(func() { // ends the lookups that nobody waits for any more
		mu.Lock()
		defer mu.Unlock()
		_ = conn.Close()
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
	})
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := z.answer(buffer[:n], ignore); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if open == nil {
			return nil, net.ErrClosed
		}
		c, err := (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
		if err == nil {
			open = append(open, c)
		}
		return c, err
	}}
}

func (z zone) answer(query []byte, ignore string) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	kind := strings.TrimPrefix(q.Type.String(), "Type")
	if ignore == kind {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	name := strings.TrimSuffix(q.Name.String(), ".")
	for _, value := range z[kind+" "+name] {
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: record(kind, value)})
	}
	if len(m.Answers) == 0 && !slices.ContainsFunc([]string{"A ", "AAAA ", "SRV "}, func(k string) bool { return z[k+name] != nil }) {
		m.RCode = dnsmessage.RCodeNameError
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func record(kind, value string) dnsmessage.ResourceBody {
	switch kind {
	case "A":
		return &dnsmessage.AResource{A: netip.MustParseAddr(value).As4()}
	case "AAAA":
		return &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(value).As16()}
	}
	var r dnsmessage.SRVResource
	var target string
	if _, err := fmt.Sscan(value, &r.Priority, &r.Weight, &r.Port, &target); err != nil {
		panic(err)
	}
	r.Target = dnsmessage.MustNewName(target)
	return &r
}

func TestEndpoints(t *testing.T) {
	z := zone{
		"SRV _turn._udp.a.test":  {"20 0 3500 t2.a.test.", "10 0 3479 t1.a.test."},
		"SRV _turn._tcp.a.test":  {"0 0 443 t1.a.test."},
		"SRV _turns._tcp.a.test": {"0 0 5350 t1.a.test."},
		"SRV _stun._udp.a.test":  {"0 0 3481 t1.a.test."},
		"A a.test":               {"192.0.2.9"},
		"A t1.a.test":            {"192.0.2.1", "192.0.2.3"}, "A t2.a.test": {"192.0.2.2"},
		"SRV _turn._udp.off.test": {"0 0 0 ."}, "A off.test": {"192.0.2.9"},
		"SRV _turn._udp.lost.test": {"0 0 1 gone.lost.test."},
		"A plain.test":             {"192.0.2.4"}, "AAAA plain.test": {"2001:db8::4"},
	}
	for _, tt := range []struct {
		uri, ignore string
		want        string // addresses, or the error after the name of the step
	}{
		{"turn:a.test", "", "192.0.2.1:3479 192.0.2.3:3479 192.0.2.2:3500"},
		{"turn:a.test?transport=tcp", "", "192.0.2.1:443 192.0.2.3:443"},
		{"turns:a.test", "", "192.0.2.1:5350 192.0.2.3:5350"},
		{"stun:a.test", "", "192.0.2.1:3481 192.0.2.3:3481"},
		{"turn:a.test:3478", "", "192.0.2.9:3478"},
		{"stuns:a.test", "", "192.0.2.9:5349"},
		{"turn:off.test", "", `its SRV record "." says that it offers no such service`},
		{"turn:lost.test", "", "no such name"},
		{"turn:none.test", "", "no such name"},
		{"turn:none.test:3478", "", "no such name"},
		{"turn:plain.test", "SRV", "192.0.2.4:3478 [2001:db8::4]:3478"},
		{"turn:192.0.2.7", "", "192.0.2.7:3478"},
		{"turns:[2001:db8::7]", "", "[2001:db8::7]:5349"},
	} {
		t.Run(tt.uri, func(t *testing.T) {
			t.Parallel()
			uri, err := wire.ParseServerURI(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			found, err := probes.Endpoints(t.Context(), z.resolver(t, tt.ignore), uri)
			if err != nil {
				if !strings.Contains(err.Error(), "probe "+tt.uri+": resolve "+uri.Host+": "+tt.want+" after ") &&
					!strings.HasSuffix(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			var got []string
			for _, e := range found {
				got = append(got, e.String())
			}
			if strings.Contains(tt.want, "[2001:db8::4]") { // which family comes first depends on this host
				slices.Sort(got)
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

// silent is a resolver that never answers.
type silent struct{}

func (silent) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
}

func (silent) LookupSRV(ctx context.Context, _, _, name string) (string, []*net.SRV, error) {
	<-ctx.Done()
	return "", nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
}

func TestEndpointsWhenTheResolverIsSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := probes.Endpoints(ctx, silent{}, wire.ServerURI{Scheme: "turn", Host: "a.test"})
	var refusal *probes.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "resolve a.test: no answer after ") {
		t.Errorf("got %v", err)
	}
}
