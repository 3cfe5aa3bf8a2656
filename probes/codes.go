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
	CodeTURNHangup      = "turn.hangup"
	CodeTURNGarbled     = "turn.garbled"
	CodeTURNIntegrity   = "turn.integrity"
	CodeTURNRefused     = "turn.refused"
	CodeAllocateFailed  = "turn.alloc.failed"
	CodeRealm           = "turn.realm"
	CodeClockSkew       = "turn.clock.skew"
	CodeSessionsOutlive = "turn.sessions.outlive"
	CodeFamilyRelay     = "turn.440"
	CodeFamilyPeer      = "turn.443"
	CodeTURNRedirect    = "turn.300"
	CodePeerDenied      = "turn.403"
	CodeTupleInUse      = "turn.437.tuple"
	CodeQuotaReached    = "turn.cap.486"
	CodeNoCapacity      = "turn.cap.508"
	CodeNonceLoop       = "turn.lb.nonce"
	CodeTURNOpen        = "turn.open"
	CodeReleaseSilent   = "turn.release.unanswered"
	CodeTURNInterrupted = "turn.interrupted"
	CodeTURNUnsupported = "turn.unsupported"

	CodeAsymmetric    = "stun.asymmetric"
	CodeMappedGateway = "stun.mapped.gateway"
	CodeUDPBlocked    = "path.udp.blocked"

	CodeInboundClosed   = "relay.inbound.closed"
	CodeReturnBlocked   = "relay.return.blocked"
	CodeEgressBlocked   = "relay.egress.blocked"
	CodeAddressPrivate  = "relay.addr.private"
	CodePeerUnreachable = "relay.peer.unreachable"
	CodeRelayLoss       = "relay.loss"
	CodeAddressMismatch = "relay.addr.mismatch"
	CodeHairpinOnly     = "relay.hairpin.only"
	CodeRelayUnproven   = "relay.unproven"

	CodeSTUNOK          = "stun.ok"
	CodeSTUNSilent      = "stun.silent"
	CodeSTUNClosed      = "stun.closed"
	CodeSTUNUnreachable = "stun.unreachable"
	CodeSTUNHangup      = "stun.hangup"
	CodeSTUNStalled     = "stun.stalled"
	CodeSTUNGarbled     = "stun.garbled"
	CodeSTUNRefused     = "stun.refused"
	CodeSTUNInterrupted = "stun.interrupted"

	CodeTLSOK          = "tls.ok"
	CodeTLSSilent      = "tls.silent"
	CodeTLSClosed      = "tls.closed"
	CodeTLSUnreachable = "tls.unreachable"
	CodeTLSInterrupted = "tls.interrupted"
	CodeTLSNoListener  = "tls.noListener"
	CodeTLSHandshake   = "tls.handshake"
	CodeTLSNotTURN     = "tls.notTurn"

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

	CodeSignalingOK          = "signaling.ok"
	CodeSignalingBalancer    = "signaling.ok.balancer"
	CodeSignalingClosed      = "signaling.closed"
	CodeSignalingSilent      = "signaling.silent"
	CodeSignalingUnreachable = "signaling.unreachable"
	CodeSignalingStalled     = "signaling.upgrade.silent"
	CodeSignalingHangs       = "signaling.register.silent"
	CodeSignalingAuth        = "signaling.auth.rejected"
	CodeSignalingRefused     = "signaling.refused"
	CodeSignalingProtocol    = "signaling.protocol"
	CodeSignalingHangup      = "signaling.hangup"
	CodeSignalingGarbled     = "signaling.garbled"
	CodeSignalingError       = "signaling.error"

	CodeRegistryShared   = "registry.shared"
	CodeRegistrySeparate = "registry.separate"
	CodeRegistryUnproven = "registry.unproven"

	CodeHTTPSilent      = "http.silent"
	CodeHTTPClosed      = "http.closed"
	CodeHTTPUnreachable = "http.unreachable"
	CodeHTTPAuth        = "http.auth.rejected"
	CodeHTTPAuthMissing = "http.auth.missing"
	CodeHTTPRefused     = "http.refused"
	CodeHTTPNotOffered  = "http.notOffered"
	CodeHTTPGarbled     = "http.garbled"
	CodeClockDiffers    = "clock.differs"

	CodeWitnessOK       = "witness.ok"
	CodeControllerOK    = "controller.ok"
	CodePrometheusOK    = "prometheus.ok"
	CodePrometheusDown  = "prometheus.targets.down"
	CodePrometheusEmpty = "prometheus.targets.none"

	CodeDNSFailed  = "dns.failed"
	CodeLocalFault = "probe.local"

	CodeProbeInterrupted = "probe.interrupted"
	CodeNoRoute          = "probe.noRoute"
	CodeTargetsUnread    = "probe.targets.unread"
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
		"the server is down, or a firewall drops packets on this path; try from another network and over another transport"},
	{CodeTURNStalled, Fail, "the server answers the first request and then falls silent",
		"look for a dead user database, a request rate limit or heavy packet loss"},
	{CodeTURNDisabled, Fail, "STUN answers but TURN does not",
		"relaying is switched off: remove stun-only and configure users or a shared secret"},
	{CodeTURNClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the TURN server or correct the port"},
	{CodeTURNUnreachable, Fail, "the host cannot be reached",
		"a router or the local network says so: check the address, the host and the route"},
	{CodeTURNHangup, Fail, "the server takes the connection and closes it",
		"check which service listens on this port, and its log"},
	{CodeTURNGarbled, Fail, "something answers that is not a TURN server",
		"check which service listens on this port"},
	{CodeTURNIntegrity, Fail, "the answers do not prove knowledge of the password",
		"another server or a middlebox answers in place of the TURN server"},
	{CodeTURNRefused, Fail, "the server refuses the request",
		"look up the STUN error code and read the server's log"},
	{CodeAllocateFailed, Fail, "STUN answers and the server refuses to allocate",
		"a check of STUN alone calls this server healthy: look up the STUN error code and read the server's log"},
	{CodeRealm, Fail, "the server's realm is not the one that the credentials were made for",
		"set realm on the server, or make the credentials for its realm"},
	{CodeClockSkew, Fail, "the server rejects credentials that its clock, which is not ours, takes for expired",
		"set the clocks by NTP, on the server first"},
	{CodeSessionsOutlive, Skip, "expired or rotated credentials do not end what they began",
		"servers look at credentials when an allocation is made: restart the server or delete its sessions to cut them off"},
	{CodeFamilyRelay, Fail, "the server has no relay address of this family",
		"give it a relay-ip of this family, or do not offer it to clients that need one"},
	{CodeFamilyPeer, Fail, "the relayed address and the peer are of different families",
		"ask for a relay of the peer's family"},
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
		"give the URI of a TURN server: turn:HOST or turns:HOST"},

	{CodeAsymmetric, Fail, "the server answers from another address than the one that was asked",
		"set listening-ip to each address, and route replies by their source address"},
	{CodeMappedGateway, Fail, "the server sees a gateway in place of its clients",
		"forward to the server without rewriting the source address (DNAT without SNAT)"},
	{CodeUDPBlocked, Fail, "the server is reached over TCP and not over UDP",
		"a firewall drops UDP on this path: open it, and offer clients turns: on port 443 over tcp"},

	{CodeInboundClosed, Fail, "the relay passes only answers: packets that were not asked for are dropped",
		"open the relay's UDP port range (min-port to max-port) for inbound traffic to its address"},
	{CodeReturnBlocked, Fail, "data leaves the relay but nothing comes back through it",
		"open the relay's UDP port range for inbound traffic, also in the cloud's security group; " +
			"or let this host send to those ports"},
	{CodeEgressBlocked, Fail, "nothing leaves the relay for a peer that can be reached",
		"allow outbound UDP from the relay's address"},
	{CodeAddressPrivate, Fail, "the relay announces a private address and is reached by a public one",
		"set external-ip to the public address"},
	{CodePeerUnreachable, Unknown, "the echo peer does not answer, so it proves nothing about the relay",
		"check that `meshctl probe peer` runs there and that its ports are open"},
	{CodeRelayLoss, Fail, "the relay loses packets",
		"look at the server's receive buffer errors (rmem_max), its load and its relay threads"},
	{CodeAddressMismatch, Fail, "the relay sends from another address than it announces",
		"set external-ip to the public address that the relay really has"},
	{CodeHairpinOnly, Warn, "the relay passes data between two allocations, but none to or from this host",
		"a firewall closes the relay's port range to the outside, or this host's network blocks it"},
	{CodeRelayUnproven, Unknown, "the allocation works; whether the relay passes data could not be found out",
		"probe again from a host that the relay can reach"},

	{CodeSTUNOK, Pass, "STUN answers", ""},
	{CodeSTUNSilent, Fail, "nothing answers",
		"the server is down, or a firewall drops packets on this path; try from another network"},
	{CodeSTUNClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the STUN server or correct the port"},
	{CodeSTUNUnreachable, Fail, "the host cannot be reached",
		"a router or the local network says so: check the address, the host and the route"},
	{CodeSTUNHangup, Fail, "the server takes the connection and closes it",
		"check which service listens on this port, and its log"},
	{CodeSTUNStalled, Fail, "the server answers and then falls silent",
		"look for a request rate limit or heavy packet loss"},
	{CodeSTUNGarbled, Fail, "something answers that is not a STUN server",
		"check which service listens on this port"},
	{CodeSTUNRefused, Fail, "the server refuses the request",
		"look up the STUN error code and read the server's log"},
	{CodeSTUNInterrupted, Unknown, "the probe was stopped before it had an answer", ""},

	{CodeTLSOK, Pass, "the TLS handshake works and the certificate is in order", ""},
	{CodeTLSSilent, Fail, "nothing answers",
		"the server is down, or a firewall drops TCP on this path; try from another network"},
	{CodeTLSClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: a server without a readable certificate often opens no TLS port"},
	{CodeTLSUnreachable, Fail, "the host cannot be reached",
		"a router or the local network says so: check the address, the host and the route"},
	{CodeTLSInterrupted, Unknown, "the probe was stopped before it had an answer", ""},
	{CodeTLSNoListener, Fail, "nothing speaks TLS on this port",
		"TURN over TLS is off when its server cannot read the certificate or key: " +
			"make both readable for its user, and check the port"},
	{CodeTLSHandshake, Fail, "the TLS handshake fails",
		"check that the server has a certificate with its key, and TLS 1.2 or later"},
	{CodeTLSNotTURN, Fail, "TLS is served, but not by a TURN server",
		"this port or name leads to another service: route the name of the TURN server to it"},

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

	{CodeSignalingOK, Pass, "an agent can register", ""},
	{CodeSignalingBalancer, Pass, "an agent can register through the balancer, which says nothing of each server behind it", ""},
	{CodeSignalingClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the signaling server or correct the port"},
	{CodeSignalingSilent, Fail, "the server does not take the connection",
		"it is down, or a firewall drops TCP on this path: try from another network"},
	{CodeSignalingUnreachable, Fail, "the server cannot be reached",
		"check the address, the host and the route"},
	{CodeSignalingStalled, Fail, "the connection is taken and the upgrade to WebSocket is never answered",
		"the process hangs, or its queue is full: look at it and restart it"},
	{CodeSignalingHangs, Fail, "the WebSocket opens and the server then falls silent",
		"the process hangs behind its listener: look at its log, then restart it"},
	{CodeSignalingAuth, Fail, "the server does not let us in",
		"check the token or the allow-list that it wants from agents"},
	{CodeSignalingRefused, Fail, "the server answers with an error of its own",
		"a balancer says this when it has no live server behind it: probe each server by its own address"},
	{CodeSignalingProtocol, Fail, "what answers is no WebSocket server",
		"another service or a web page answers: check address, port, path and the proxy's upgrade headers"},
	{CodeSignalingHangup, Fail, "the server closes the connection",
		"look at its log; a proxy in front closes like this when its server is dead"},
	{CodeSignalingGarbled, Fail, "the server's frames are not those of the signaling protocol",
		"check that this is the signaling server, and its version"},
	{CodeSignalingError, Fail, "the server refuses to register an agent",
		"the text is the server's own: look it up in its log"},
	{CodeRegistryShared, Pass, "an offer crosses from one signaling server to the other", ""},
	{CodeRegistrySeparate, Warn, "the signaling servers do not share their agents",
		"a failover that moves only some agents splits the mesh: share the registry, or move all agents together"},
	{CodeRegistryUnproven, Unknown, "whether the signaling servers share their agents could not be found out",
		"probe the other server by itself first"},

	{CodeHTTPSilent, Fail, "the service does not answer in time",
		"it is down, overloaded, or a firewall drops the connection: look at the process and the path"},
	{CodeHTTPClosed, Fail, "the port is closed",
		"the host is up and nothing listens there: start the service or correct the address"},
	{CodeHTTPUnreachable, Fail, "the service cannot be reached, or breaks the connection",
		"check the address, the host and the service's log"},
	{CodeHTTPAuth, Fail, "the service rejects the key",
		"compare the key in the environment or file with the one that the service has"},
	{CodeHTTPAuthMissing, Unknown, "the service wants a key and none was given",
		"set the environment variable or file that the configuration names"},
	{CodeHTTPRefused, Fail, "the service refuses the request",
		"read its log; a redirect or 5xx often comes from a proxy in front of it"},
	{CodeHTTPNotOffered, Fail, "the service does not have this call",
		"check that the address leads to the right service and its version"},
	{CodeHTTPGarbled, Fail, "the reply is not what this service should answer",
		"another service, a login page or a proxy answers at this address"},
	{CodeClockDiffers, Warn, "the server's clock is not ours",
		"set both clocks by NTP: credentials that expire and windows of time depend on them"},

	{CodeWitnessOK, Pass, "the audit log answers queries", ""},
	{CodeControllerOK, Pass, "the statistics can be read", ""},
	{CodePrometheusOK, Pass, "the metrics server answers queries", ""},
	{CodePrometheusDown, Warn, "the metrics server cannot scrape all of its targets",
		"their metrics are missing: look at these targets, and at the scrape errors in Prometheus"},
	{CodePrometheusEmpty, Warn, "the metrics server scrapes nothing",
		"its configuration has no targets: metrics of the mesh cannot be known from it"},

	{CodeDNSFailed, Fail, "the server's name does not resolve",
		"check the spelling, the DNS record and this host's resolver"},
	{CodeTargetsUnread, Unknown, "which servers there are could not be read",
		"make the env file readable and its lists of servers right: what it names was not probed"},
	{CodeNoRoute, Skip, "this host has no route to this address",
		"probe from a host that has one, such as one with IPv6"},
	{CodeProbeInterrupted, Unknown, "the probe was stopped before it had an answer", ""},
	{CodeLocalFault, Unknown, "this host could not ask",
		"check the local network, its firewall and the limit of open files"},
}
