package probes

import "slices"

// The finding codes. They are stable: scripts, documents and alerts name them.
const (
	CodeTURNOK          = "turn.ok"
	CodeAuthRejected    = "turn.auth.rejected"
	CodeAuthExpired     = "turn.auth.expired"
	CodeAuthMissing     = "turn.auth.missing"
	CodeAuthUnusable    = "turn.auth.unusable"
	CodeTURNSilent      = "turn.silent"
	CodeTURNStalled     = "turn.stalled"
	CodeTURNDisabled    = "turn.disabled"
	CodeTURNClosed      = "turn.closed"
	CodeTURNUnreachable = "turn.unreachable"
	CodeTURNGarbled     = "turn.garbled"
	CodeTURNIntegrity   = "turn.integrity"
	CodeTURNRefused     = "turn.refused"
	CodeTURNRedirect    = "turn.300"
	CodePeerDenied      = "turn.403"
	CodeTupleInUse      = "turn.437.tuple"
	CodeQuotaReached    = "turn.cap.486"
	CodeNoCapacity      = "turn.cap.508"
	CodeNonceLoop       = "turn.lb.nonce"
	CodeTURNOpen        = "turn.open"
	CodeReleaseSilent   = "turn.release.unanswered"
	CodeTURNInterrupted = "turn.interrupted"
	CodeTURNUnsupported = "turn.transport.unsupported"

	CodeReturnBlocked   = "relay.return.blocked"
	CodeAddressMismatch = "relay.addr.mismatch"
	CodeHairpinOnly     = "relay.hairpin.only"
	CodeRelayUnproven   = "relay.unproven"

	CodeSTUNOK          = "stun.ok"
	CodeSTUNSilent      = "stun.silent"
	CodeSTUNClosed      = "stun.closed"
	CodeSTUNUnreachable = "stun.unreachable"
	CodeSTUNGarbled     = "stun.garbled"
	CodeSTUNRefused     = "stun.refused"
	CodeSTUNInterrupted = "stun.interrupted"
	CodeSTUNUnsupported = "stun.transport.unsupported"

	CodeCertMissing     = "tls.noCertificate"
	CodeCertExpired     = "tls.expired"
	CodeCertNotYetValid = "tls.notYetValid"
	CodeCertUrgent      = "tls.expiring.urgent"
	CodeCertExpiring    = "tls.expiring"
	CodeCertName        = "tls.name"
	CodeCertChain       = "tls.chain"
	CodeCertSelfSigned  = "tls.selfSigned"
	CodeCertUntrusted   = "tls.untrusted"
	CodeCertWeak        = "tls.weak"
	CodeCertUnfit       = "tls.unfit"

	CodeDNSFailed  = "dns.failed"
	CodeLocalFault = "probe.local"

	CodeProbeInterrupted = "probe.interrupted"
)

// Meaning is what a finding code says, whatever the target.
type Meaning struct {
	Code    string
	Verdict Verdict
	Summary string // one sentence, without full stop
	Hint    string // what to do about it
}

// Explain returns the meaning of a finding code.
func Explain(code string) (Meaning, bool) {
	i := slices.IndexFunc(meanings, func(m Meaning) bool { return m.Code == code })
	if i < 0 {
		return Meaning{}, false
	}
	return meanings[i], true
}

// Meanings lists every finding code, in the order of the documentation.
func Meanings() []Meaning { return slices.Clone(meanings) }

// meanings is read only.
var meanings = []Meaning{
	{CodeTURNOK, Pass, "the relay passes data both ways", ""},
	{CodeAuthRejected, Fail, "the server rejects the user name or the password",
		"compare the shared secret, or user and password, on the server and where the credentials are made"},
	{CodeAuthExpired, Fail, "the credentials have expired",
		"fetch new credentials; check their lifetime and the clock where they are made"},
	{CodeAuthMissing, Unknown, "the server wants credentials and none were given",
		"configure the TURN user name and password, then probe again"},
	{CodeAuthUnusable, Fail, "the credentials do not fit into a request",
		"a user name has at most 513 bytes"},
	{CodeTURNSilent, Fail, "nothing answers",
		"the server is down, or a firewall drops UDP on this path; try from another network and over tcp"},
	{CodeTURNStalled, Fail, "the server answers the first request and then falls silent",
		"look for a dead user database, a request rate limit or heavy packet loss"},
	{CodeTURNDisabled, Fail, "STUN answers but TURN does not",
		"relaying is switched off: remove stun-only and configure users or a shared secret"},
	{CodeTURNClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the TURN server or correct the port"},
	{CodeTURNUnreachable, Fail, "the host cannot be reached",
		"a router or the local network says so: check the address, the host and the route"},
	{CodeTURNGarbled, Fail, "something answers that is not a TURN server",
		"check which service listens on this port"},
	{CodeTURNIntegrity, Fail, "the answers do not prove knowledge of the password",
		"another server or a middlebox answers in place of the TURN server"},
	{CodeTURNRefused, Fail, "the server refuses the request",
		"look up the STUN error code and read the server's log"},
	{CodeTURNRedirect, Fail, "the server redirects to another one",
		"many clients cannot follow: list the other server directly"},
	{CodePeerDenied, Unknown, "the server refuses to relay to the addresses that were tried",
		"this can be its policy (denied-peer-ip, loopback peers): probe with a peer it allows"},
	{CodeTupleInUse, Fail, "the server holds stale allocations for two local ports in a row",
		"wait a minute; if it stays, compare the realm with the one the credentials were made for"},
	{CodeQuotaReached, Fail, "this user may not have more allocations",
		"raise user-quota, or find the clients that do not release their allocations"},
	{CodeNoCapacity, Fail, "the server has no relay port left",
		"widen its range of relay ports or add a server"},
	{CodeNonceLoop, Fail, "the server calls its own fresh nonce stale",
		"several servers behind one address: balance UDP by client address and port, or share the nonce secret"},
	{CodeTURNOpen, Fail, "the server relays for anybody without credentials",
		"remove no-auth: an open relay is abused within hours"},
	{CodeReleaseSilent, Warn, "the server did not confirm that the allocation was released",
		"it stays until its lifetime ends, and counts against the quota until then"},
	{CodeTURNInterrupted, Unknown, "the probe was stopped before it had an answer", ""},
	{CodeTURNUnsupported, Unknown, "the target was not probed",
		"probe turn: over udp"},

	{CodeReturnBlocked, Fail, "data leaves the relay but nothing comes back through it",
		"open the relay's UDP port range for inbound traffic, also in the cloud's security group; " +
			"or let this host send to those ports"},
	{CodeAddressMismatch, Fail, "the relay sends from another address than it announces",
		"set external-ip to the public address that the relay really has"},
	{CodeHairpinOnly, Warn, "the relay passes data between two allocations, but none to or from this host",
		"a firewall closes the relay's port range to the outside, or this host's network blocks it"},
	{CodeRelayUnproven, Unknown, "the allocation works; whether the relay passes data could not be found out",
		"probe again from a host that the relay can reach"},

	{CodeSTUNOK, Pass, "STUN answers", ""},
	{CodeSTUNSilent, Fail, "nothing answers",
		"the server is down, or a firewall drops UDP on this path; try from another network"},
	{CodeSTUNClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the STUN server or correct the port"},
	{CodeSTUNUnreachable, Fail, "the host cannot be reached",
		"a router or the local network says so: check the address, the host and the route"},
	{CodeSTUNGarbled, Fail, "something answers that is not a STUN server",
		"check which service listens on this port"},
	{CodeSTUNRefused, Fail, "the server refuses the request",
		"look up the STUN error code and read the server's log"},
	{CodeSTUNInterrupted, Unknown, "the probe was stopped before it had an answer", ""},
	{CodeSTUNUnsupported, Unknown, "the target was not probed", "probe stun: over udp"},

	{CodeCertMissing, Fail, "the server presents no certificate",
		"configure a certificate and its key, and reload the server"},
	{CodeCertExpired, Fail, "the certificate has expired",
		"renew it, then make the server load it: nginx -s reload; kill -USR2 for coturn"},
	{CodeCertNotYetValid, Fail, "the certificate is not valid yet",
		"compare the clocks of this host, the server and the certificate authority"},
	{CodeCertUrgent, Fail, "the certificate expires within a sixth of its life or a day",
		"renew it now and find out why it was not renewed; then make the server load it"},
	{CodeCertExpiring, Warn, "the certificate expires within a third of its life or a week",
		"look whether its renewal runs, and whether the server loads the new one"},
	{CodeCertName, Fail, "the certificate is for another name",
		"issue it with this name, or IP address, as subject alternative name"},
	{CodeCertChain, Fail, "the server does not send its whole chain",
		"serve the full chain (fullchain.pem), not the certificate alone; a private root belongs into ca_file"},
	{CodeCertSelfSigned, Fail, "the certificate is self-signed and not trusted",
		"use a certificate of an authority that clients trust; browsers refuse this one"},
	{CodeCertUntrusted, Fail, "the certificate comes from an authority that is not trusted",
		"name the root of a private authority in ca_file; clients must have it too"},
	{CodeCertWeak, Fail, "a key or signature in the chain is too weak",
		"issue it again with ECDSA P-256 or RSA 2048 and SHA-256"},
	{CodeCertUnfit, Fail, "the certificate is not fit for a server",
		"it needs the extended key usage serverAuth, and a chain of certificate authorities above it"},

	{CodeDNSFailed, Fail, "the server's name does not resolve",
		"check the spelling, the DNS record and this host's resolver"},
	{CodeProbeInterrupted, Unknown, "the probe was stopped before it had an answer", ""},
	{CodeLocalFault, Unknown, "this host could not ask",
		"check the local network, its firewall and the limit of open files"},
}
