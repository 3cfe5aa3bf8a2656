package mesh

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// proxy forwards UDP between one client per port and a server, and can drop
// what clients send.
type proxy struct {
	front  *net.UDPConn
	uri    wire.ServerURI
	server string
	deaf   atomic.Bool
}

func newProxy(t *testing.T, server wire.ServerURI) *proxy {
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{front: front, server: server.Address()}
	p.uri = parseList(t, "turn:"+front.LocalAddr().String())[0]
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run()
	}()
	t.Cleanup(func() {
		_ = front.Close()
		<-done
	})
	return p
}

func (p *proxy) run() {
	backs := map[string]net.Conn{}
	ended := make(chan struct{})
	defer func() {
		for _, back := range backs {
			_ = back.Close()
			<-ended
		}
	}()
	buffer := make([]byte, 2048)
	for {
		n, client, err := p.front.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		back := backs[client.String()]
		if back == nil {
			if back, err = net.Dial("udp4", p.server); err != nil {
				return
			}
			backs[client.String()] = back
			go func() {
				p.answer(back, client)
				ended <- struct{}{}
			}()
		}
		if !p.deaf.Load() {
			_, _ = back.Write(buffer[:n])
		}
	}
}

func (p *proxy) answer(back net.Conn, client *net.UDPAddr) {
	buffer := make([]byte, 2048)
	for {
		n, err := back.Read(buffer)
		if err != nil {
			return
		}
		_, _ = p.front.WriteToUDP(buffer[:n], client)
	}
}

// TestOneWayLoss: a1 hears everything and nobody hears a1. ICE alone never
// notices on a1's side, and a2 is made too patient to.
func TestOneWayLoss(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	lossy := newProxy(t, first.uri)
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) {
		o.RelayOnly, o.TURNServers, o.Check = true, []wire.ServerURI{lossy.uri, second.uri}, allocate
	})
	m.add("a2", func(o *AgentOptions) {
		o.RelayOnly, o.TURNServers, o.Check = true, uris(second), allocate
		o.Timing.Disconnected, o.Timing.Heartbeat = time.Hour, LabTiming().Keepalive // a1 hears it all the while
	})
	m.connectAll()
	lossy.deaf.Store(true)
	m.onServer(second.uri)
	e := m.events.named("turn_fallback_initiated")[0]
	if e.AgentID != "a1" || e.Metadata["turn_server"] != lossy.uri.String() || e.Metadata["reason"] != "the peer does not hear us" {
		t.Errorf("the fallback began at %s: %v, want a1, which is not heard by %s", e.AgentID, e.Metadata, lossy.uri)
	}
}
