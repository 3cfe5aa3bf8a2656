package probes_test

import (
	"crypto/rand"
	"encoding/json"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/probes"
)

// brief keeps tests of silence short; every send of it arrives on loopback.
var brief = probes.Schedule{First: 20 * time.Millisecond, Sends: 3, GiveUp: 300 * time.Millisecond}

// answer is what a scripted server says to an Allocate; nil is silence.
type answer func(m *stun.Message, from netip.AddrPort) []byte

func refuseWith(code stun.ErrorCode) answer {
	return func(m *stun.Message, _ netip.AddrPort) []byte { return refuse(m, code) }
}

// challenge asks for credentials first.
func challenge(then func(*stun.Message) []byte) answer {
	return func(m *stun.Message, _ netip.AddrPort) []byte {
		if !isSigned(m) {
			return refuse(m, stun.CodeUnauthorized)
		}
		return then(m)
	}
}

// relayedAddress is an attribute as an Allocate success response has it.
func relayedAddress(request *stun.Message) stun.Setter {
	m := stun.MustBuild(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: loopback, Port: 4000})
	mapped, _ := m.Attributes.Get(stun.AttrXORMappedAddress)
	return stun.RawAttribute{Type: stun.AttrXORRelayedAddress, Value: mapped.Value}
}

type oddAnswer struct {
	name   string
	answer answer
	want   string
	fact   string // name=value
}

// refusals are answers that a client understands.
func refusals() []oddAnswer {
	key := stun.NewLongTermIntegrity(user, realm, password)
	return []oddAnswer{
		{"438 again and again", challenge(func(m *stun.Message) []byte { return refuse(m, stun.CodeStaleNonce) }), probes.CodeNonceLoop, "stun_code=438"},
		{"401 again", refuseWith(stun.CodeUnauthorized), probes.CodeAuthRejected, "stun_code=401"},
		{"401 without nonce", func(m *stun.Message, _ netip.AddrPort) []byte {
			return response(m, stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: 401})
		}, probes.CodeTURNRefused, "stun_code=401"},
		{"437 on every port", refuseWith(stun.CodeAllocMismatch), probes.CodeTupleInUse, "new_port_after_437=yes"},
		{"300", func(m *stun.Message, _ netip.AddrPort) []byte {
			return refuse(m, stun.CodeTryAlternate, &stun.AlternateServer{IP: loopback, Port: 3999})
		}, probes.CodeTURNRedirect, "alternate=127.0.0.1:3999"},
		{"400", refuseWith(stun.CodeBadRequest), probes.CodeTURNRefused, "stun_code=400"},
		{"403 when signed, without signature", challenge(func(m *stun.Message) []byte { return refuse(m, stun.CodeForbidden) }), probes.CodeTURNRefused, "stun_code=403"},
		{"486", challenge(func(m *stun.Message) []byte { return refuse(m, stun.CodeAllocQuotaReached) }), probes.CodeQuotaReached, "stun_code=486"},
		{"508", challenge(func(m *stun.Message) []byte { return refuse(m, stun.CodeInsufficientCapacity) }), probes.CodeNoCapacity, "stun_code=508"},
		{"silence once signed", challenge(func(*stun.Message) []byte { return nil }), probes.CodeTURNStalled, "step=Allocate"},
		{"success of another password", challenge(func(m *stun.Message) []byte {
			return response(m, stun.ClassSuccessResponse, relayedAddress(m), stun.NewLongTermIntegrity(user, realm, "other"))
		}), probes.CodeTURNIntegrity, "step=Allocate"},
		{"success without signature", challenge(func(m *stun.Message) []byte {
			return response(m, stun.ClassSuccessResponse, relayedAddress(m))
		}), probes.CodeTURNIntegrity, "step=Allocate"},
		{"success without relayed address", challenge(func(m *stun.Message) []byte {
			return response(m, stun.ClassSuccessResponse, key)
		}), probes.CodeTURNGarbled, "step=Allocate"},
	}
}

// garbage is what no TURN server should say.
func garbage(t *testing.T) []oddAnswer {
	elsewhere := listen(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	return []oddAnswer{
		{"answer to another method", func(m *stun.Message, _ netip.AddrPort) []byte {
			return stun.MustBuild(m, stun.BindingError, stun.ErrorCodeAttribute{Code: 403}).Raw
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"an indication", func(m *stun.Message, _ netip.AddrPort) []byte {
			return response(m, stun.ClassIndication)
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"its own request", func(m *stun.Message, _ netip.AddrPort) []byte { return m.Raw }, probes.CodeTURNGarbled, "step=Allocate"},
		{"random bytes", func(*stun.Message, netip.AddrPort) []byte {
			b := make([]byte, 100)
			_, _ = rand.Read(b)
			return b
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"half a message", func(m *stun.Message, _ netip.AddrPort) []byte {
			return refuse(m, stun.CodeUnauthorized)[:30]
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"another transaction", func(m *stun.Message, _ netip.AddrPort) []byte {
			other := stun.MustBuild(stun.TransactionID, m.Type)
			return refuse(other, stun.CodeUnauthorized)
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"a reply from elsewhere", func(m *stun.Message, from netip.AddrPort) []byte {
			_, _ = elsewhere.WriteToUDPAddrPort(refuse(m, stun.CodeForbidden), from)
			return nil
		}, probes.CodeTURNSilent, "step=Allocate"},
		{"a huge realm", func(m *stun.Message, _ netip.AddrPort) []byte {
			return response(m, stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: 401}, stun.NewNonce("n"),
				stun.RawAttribute{Type: stun.AttrRealm, Value: []byte(long(3000))})
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"a message larger than a packet", func(m *stun.Message, _ netip.AddrPort) []byte {
			return response(m, stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: 401},
				stun.RawAttribute{Type: stun.AttrSoftware, Value: []byte(long(60000))})
		}, probes.CodeTURNGarbled, "step=Allocate"},
		{"a name that upsets a terminal", func(m *stun.Message, _ netip.AddrPort) []byte {
			return refuse(m, 500, stun.NewSoftware("\x1b[2J"+long(600)+"\n"))
		}, probes.CodeTURNRefused, "software=?[2J" + long(76) + "..."},
		{"an error without code", func(m *stun.Message, _ netip.AddrPort) []byte {
			return response(m, stun.ClassErrorResponse)
		}, probes.CodeTURNGarbled, "step=Allocate"},
	}
}

// TestRunReadsAnyAnswer lets a server answer Allocate in every odd way, and
// nothing else.
func TestRunReadsAnyAnswer(t *testing.T) {
	for _, test := range append(refusals(), garbage(t)...) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := scripted(t, func(m *stun.Message, from netip.AddrPort) [][]byte {
				if !isAllocate(m) {
					return nil
				}
				return [][]byte{test.answer(m, from)}
			})
			r := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: brief, Timeout: time.Second}.Run(t.Context())
			if len(r.Findings) == 2 && r.Findings[1].Code == probes.CodeReleaseSilent { // this server releases nothing
				r.Findings = r.Findings[:1]
			}
			wantReport(t, r, test.want)
			name, want, _ := strings.Cut(test.fact, "=")
			if got := r.Findings[0].Fact(name); got != want {
				t.Errorf("fact %s = %q, want %q", name, got, want)
			}
		})
	}
}

// TestRunTellsDisabledFromSilent needs the Binding that runs beside. An answer
// to it from elsewhere is not the server's.
func TestRunTellsDisabledFromSilent(t *testing.T) {
	elsewhere := listen(t)
	for _, test := range []struct {
		name   string
		answer func(reply []byte, to netip.AddrPort) [][]byte
		want   string
	}{
		{"Binding answered", func(reply []byte, _ netip.AddrPort) [][]byte { return [][]byte{reply} }, probes.CodeTURNDisabled},
		{"Binding answered from elsewhere", func(reply []byte, to netip.AddrPort) [][]byte {
			_, _ = elsewhere.WriteToUDPAddrPort(reply, to)
			return nil
		}, probes.CodeAsymmetric},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := scripted(t, func(m *stun.Message, from netip.AddrPort) [][]byte {
				if isAllocate(m) {
					return nil
				}
				return test.answer(response(m, stun.ClassSuccessResponse, &stun.XORMappedAddress{IP: loopback, Port: int(from.Port())}), from)
			})
			r := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: brief}.Run(t.Context())
			wantReport(t, r, test.want)
		})
	}
}

// TestRunSendsLostDataAgain has no timer that could do it: the answer to
// ChannelBind must.
func TestRunSendsLostDataAgain(t *testing.T) {
	var lost atomic.Bool
	target, _ := pion(t, func(m *stun.Message, _ func([]byte)) bool {
		return m.Raw[0]>>4 == 4 && !lost.Swap(true)
	}, nil)
	once := probes.Schedule{First: time.Hour, Sends: 1, GiveUp: 3 * time.Second}
	r := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: once}.Run(t.Context())
	wantReport(t, r, probes.CodeTURNOK)
	if got := r.Findings[0].Fact("reflexive"); !lost.Load() || got != "data both ways" {
		t.Errorf("reflexive: %q, data lost: %v", got, lost.Load())
	}
}

// TestRunRetries puts trouble in front of a real server.
func TestRunRetries(t *testing.T) {
	type tap func(m *stun.Message, reply func([]byte)) bool
	once := func(when func(*stun.Message) bool, do func(m *stun.Message, reply func([]byte))) tap {
		var done atomic.Bool
		return func(m *stun.Message, reply func([]byte)) bool {
			if !when(m) || done.Swap(true) {
				return false
			}
			do(m, reply)
			return true
		}
	}
	lose := func(*stun.Message, func([]byte)) {}
	stale := func(m *stun.Message, reply func([]byte)) { // with a nonce that the server knows: its own
		var nonce stun.Nonce
		_ = nonce.GetFrom(m)
		reply(response(m, stun.ClassErrorResponse, stun.ErrorCodeAttribute{Code: stun.CodeStaleNonce}, nonce, stun.NewRealm(realm)))
	}
	mismatch := func(m *stun.Message, reply func([]byte)) { reply(refuse(m, stun.CodeAllocMismatch)) }
	is := func(method stun.Method, signed bool) func(*stun.Message) bool {
		return func(m *stun.Message) bool { return m.Type.Method == method && isSigned(m) == signed }
	}
	tests := []struct {
		name string
		tap  tap
		fact string // name=value
	}{
		{"stale port, anonymous", once(is(stun.MethodAllocate, false), mismatch), "new_port_after_437=yes"},
		{"stale port, signed", once(is(stun.MethodAllocate, true), mismatch), "new_port_after_437=yes"},
		{"stale nonce at Allocate", once(is(stun.MethodAllocate, true), stale), "reflexive=data both ways"},
		{"stale nonce at ChannelBind", once(is(stun.MethodChannelBind, true), stale), "reflexive=data both ways"},
		{"no Binding at all", func(m *stun.Message, _ func([]byte)) bool { return m.Type.Method == stun.MethodBinding }, "reflexive=data both ways"},
		{"lost Binding", once(is(stun.MethodBinding, false), lose), ""},
		{"lost anonymous Allocate", once(is(stun.MethodAllocate, false), lose), "resent=1"},
		{"lost Allocate", once(is(stun.MethodAllocate, true), lose), "resent=1"},
		{"stale nonce before any", once(is(stun.MethodAllocate, false), func(m *stun.Message, reply func([]byte)) {
			reply(refuse(m, stun.CodeStaleNonce))
		}), "reflexive=data both ways"},
		{"lost ChannelBind", once(is(stun.MethodChannelBind, true), lose), "resent=1"},
		{"lost Refresh", once(is(stun.MethodRefresh, true), lose), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target, server := pion(t, test.tap, nil)
			r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
			wantReport(t, r, probes.CodeTURNOK)
			name, want, _ := strings.Cut(test.fact, "=")
			if got := r.Findings[0].Fact(name); got != want {
				t.Errorf("fact %s = %q, want %q", name, got, want)
			}
			if n := server.AllocationCount(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
		})
	}
}

func TestRunShowsNoSecret(t *testing.T) {
	target, _ := pion(t, nil, nil)
	shown := ""
	for _, credentials := range []probes.Credentials{goodLogin(), login("nobody", password)} {
		r := probes.TURN{Target: target, Credentials: credentials}.Run(t.Context())
		encoded, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = probes.TURN{Target: target, Credentials: credentials}.Check(t.Context())
		shown += string(encoded)
		if err != nil {
			shown += err.Error()
		}
	}
	if strings.Contains(shown, password) {
		t.Errorf("password shown: %s", shown)
	}
	if !strings.Contains(shown, probes.CodeAuthRejected) {
		t.Errorf("no refusal in %s", shown)
	}
}
