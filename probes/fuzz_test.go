package probes

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jxskiss/base62"
	"github.com/pion/stun/v3"
)

// FuzzReply lets anything arrive on a socket that waits for the reply to an
// Allocate, and follows it as far as an attacker can push it.
func FuzzReply(f *testing.F) {
	key := stun.NewLongTermIntegrity("user", "realm", "password")
	request := stun.MustBuild(stun.NewTransactionIDSetter(transactionID{1, 2, 3}), stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	answer := func(class stun.MessageClass, attributes ...stun.Setter) []byte {
		return stun.MustBuild(append([]stun.Setter{request, stun.NewType(stun.MethodAllocate, class)}, attributes...)...).Raw
	}
	f.Add(answer(stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: 401, Reason: []byte("no\x1b")}, stun.NewRealm("realm"), stun.NewNonce("nonce")))
	f.Add(answer(stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: 300}, &stun.AlternateServer{IP: []byte{127, 0, 0, 1}, Port: 1}))
	f.Add(answer(stun.ClassSuccessResponse, stun.RawAttribute{Type: stun.AttrXORRelayedAddress, Value: []byte{0, 1, 9, 9, 1, 2, 3, 4}}, key, stun.Fingerprint))
	f.Add(answer(stun.ClassSuccessResponse, stun.RawAttribute{Type: stun.AttrMessageIntegrity, Value: nil}))
	f.Add(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodData, stun.ClassIndication),
		peerAddress(netip.MustParseAddrPort("[::1]:9")), attribute(stun.AttrData, 'x')).Raw)
	f.Add(channelData(hairpinChannel, []byte("payload")))
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	server := netip.MustParseAddrPort("127.0.0.1:3478")

	f.Fuzz(func(t *testing.T, b []byte) {
		s := &socket{service: "turn", transport: UDP, server: server, data: make(chan datagram, 1), waiting: map[transactionID]chan arrival{}}
		inbox := s.register(request.TransactionID)
		s.receive(b, server, time.Now())
		select {
		case d := <-s.data:
			if !bytes.Contains(b, d.payload) {
				t.Errorf("payload %x was not in %x", d.payload, b)
			}
		case a := <-inbox:
			checkReply(t, &transaction{socket: s, request: request, key: key}, a.reply)
		default:
			if s.garbage != nil && strings.ContainsFunc(s.garbage.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q is not fit to print", s.garbage)
			}
			if s.garbage == nil && !stun.IsMessage(b) {
				t.Errorf("%x was neither taken nor noted as garbage", b)
			}
		}
	})
}

func checkReply(t *testing.T, tx *transaction, r reply) {
	if !tx.accepts(r) {
		return
	}
	if success := r.message.Type.Class == stun.ClassSuccessResponse; success != (r.code == 0) {
		t.Errorf("class %s with code %d", r.message.Type.Class, r.code)
	}
	c := client{socket: tx.socket, key: tx.key, software: r.software, realm: r.realm, nonce: r.nonce, relayed: r.relayed}
	refusal := c.refused(tx, r)
	for _, fact := range append(c.facts(), Fact{"error", refusal.Error()}) {
		unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
		if len(fact.Value) > 1000 || strings.ContainsFunc(fact.Value, unprintable) {
			t.Errorf("fact %s = %q is not fit to print", fact.Name, fact.Value)
		}
	}
	for _, a := range []netip.AddrPort{r.mapped, r.relayed, r.alternate} {
		if a.IsValid() && a.Port() == 0 {
			t.Errorf("address %s without port", a)
		}
	}
	if _, err := c.build(stun.MethodAllocate); err != nil {
		t.Errorf("no request with realm %q and nonce %q: %v", r.realm, r.nonce, err)
	}
}

// FuzzStream reads anything as a stream: whole messages come out, as they went
// in, or an error does.
func FuzzStream(f *testing.F) {
	message := stun.MustBuild(stun.TransactionID, stun.BindingSuccess, stun.NewSoftware("server")).Raw
	f.Add(message)
	f.Add(append(append([]byte{0x40, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0}, message...), 0x40, 1, 0, 0))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add([]byte{0x01, 0x01, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &stream{in: bufio.NewReaderSize(bytes.NewReader(b), maxDatagram)}
		buffer, rest := make([]byte, maxDatagram), b
		for {
			n, _, err := s.read(buffer)
			if err != nil {
				return
			}
			if n < 4 || !bytes.HasPrefix(rest, buffer[:n]) {
				t.Fatalf("%x is not what came next in %x", buffer[:n], rest)
			}
			_, isData := parseChannelData(buffer[:n])
			if !isData && !stun.IsMessage(buffer[:n]) {
				t.Errorf("%x is neither STUN nor ChannelData", buffer[:n])
			}
			rest = rest[min((n+3)&^3, len(rest)):]
		}
	})
}

// FuzzEcho asks an echo peer anything: no answer is longer than its request,
// none is answered, and what is read is what was written.
func FuzzEcho(f *testing.F) {
	f.Add(echoMessage{kind: askEcho, session: 1, number: 2}.encode())
	f.Add(echoMessage{kind: askCross | isReply, session: 1, count: 9, source: netip.MustParseAddrPort("[::1]:9")}.encode())
	f.Add([]byte(echoMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseEcho(b)
		if !ok {
			return
		}
		length := len(b)
		again, ok := parseEcho(m.fill(bytes.Clone(b)))
		if !ok || again.kind != m.kind || again.session != m.session || again.number != m.number || len(b) != length {
			t.Errorf("%+v became %+v", m, again)
		}
		if m.source.IsValid() && m.source.Port() != 0 && again.source != m.source {
			t.Errorf("source %s became %s", m.source, again.source)
		}
	})
}

func FuzzNonceSkew(f *testing.F) {
	f.Add("000001970000000000")
	f.Add("6840f8c05c5c5c5c5c5c5c5c5c")
	f.Add("0ZZZZZZZZZZZZZZZZZZZZZZZ")
	f.Fuzz(func(t *testing.T, nonce string) {
		skew, precision, known := nonceSkew(nonce, time.Now())
		if known && (skew.Abs() > maxSkew || precision <= 0) {
			t.Errorf("nonce %q: skew %v to %v", nonce, skew, precision)
		}
	})
}

func TestExpiry(t *testing.T) {
	tests := []struct {
		name, username string
		want           int64 // 0 = none
	}{
		{"REST with user", "1700000000:alice", 1700000000},
		{"REST without user", "1700000000", 1700000000},
		{"LiveKit", base62.EncodeToString([]byte("APIkey|PA_abc|1700000000")), 1700000000},
		{"LiveKit without a time", base62.EncodeToString([]byte("APIkey|PA_abc")), 0},
		{"plain name", "alice", 0},
		{"number that is no time", "42:alice", 0},
		{"negative", "-170000000:alice", 0},
		{"empty", "", 0},
		{"user first", "alice:1700000000", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			at, known := Credentials{Username: test.username}.Expiry()
			if known != (test.want != 0) || known && at.Unix() != test.want {
				t.Errorf("Expiry() = %v, %v, want %d", at, known, test.want)
			}
		})
	}
}
