package probes

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

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

func TestExpiry(t *testing.T) {
	tests := []struct {
		name, username string
		want           int64 // 0 = none
	}{
		{"REST with user", "1700000000:alice", 1700000000},
		{"REST without user", "1700000000", 1700000000},
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
