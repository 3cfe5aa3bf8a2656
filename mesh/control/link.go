package control

import (
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// linkReader holds one connection object and what its optional fields point
// to, so that a link is one allocation, or none where it is used again.
type linkReader struct {
	link                                                 wire.Link
	turnServer                                           string
	rtt, rttAge, jitter, lossTx, lossRx                  float64
	requests, responses, bytesSent, bytesReceived, queue uint64
	created, lastRx                                      time.Time
	epoch                                                int64
}

// read takes a connection object; every field but state is optional.
func (r *linkReader) read(d *decoder, v gjson.Result) {
	if !v.IsObject() {
		d.fail("", "is a JSON %s, not an object", httpapi.TypeName(v))
		return
	}
	r.link.State = d.text(v.Get("state"), "state")
	if d.err == nil && !wire.KnownState(r.link.State) {
		d.fail("state", "is %q, which is no connection state", r.link.State)
	}
	v.ForEach(func(key, value gjson.Result) bool {
		if given(value) {
			r.field(d, key.Str, value)
		}
		return d.err == nil
	})
}

func (r *linkReader) field(d *decoder, name string, v gjson.Result) {
	l := &r.link
	switch name {
	case "id":
		l.ID = d.text(v, name)
	case "local":
		l.Local = d.text(v, name)
	case "peer":
		l.Peer = d.text(v, name)
	case "path":
		l.Path = d.text(v, name)
	case "turn_server":
		r.turnServer, l.TURNServer = d.text(v, name), &r.turnServer
	case "rtt_ms":
		r.rtt, l.RTTMillis = d.measure(v, name), &r.rtt
	case "rtt_age_ms":
		r.rttAge, l.RTTAgeMillis = d.measure(v, name), &r.rttAge
	case "jitter_ms":
		r.jitter, l.JitterMillis = d.measure(v, name), &r.jitter
	case "loss_tx":
		r.lossTx, l.LossTx = d.share(v, name), &r.lossTx
	case "loss_rx":
		r.lossRx, l.LossRx = d.share(v, name), &r.lossRx
	case "requests_sent":
		r.requests, l.RequestsSent = d.count(v, name, maxCounter), &r.requests
	case "responses_received":
		r.responses, l.ResponsesReceived = d.count(v, name, maxCounter), &r.responses
	case "bytes_sent":
		r.bytesSent, l.BytesSent = d.count(v, name, maxCounter), &r.bytesSent
	case "bytes_received":
		r.bytesReceived, l.BytesReceived = d.count(v, name, maxCounter), &r.bytesReceived
	case "buffered_amount":
		r.queue, l.BufferedAmount = d.count(v, name, maxCounter), &r.queue
	case "created_at":
		r.created, l.CreatedAt = d.time(v, name), &r.created
	case "last_rx_at":
		r.lastRx, l.LastRxAt = d.time(v, name), &r.lastRx
	case "key_epoch":
		r.epoch, l.KeyEpoch = int64(d.count(v, name, maxCounter)), &r.epoch
	case "local_fingerprint":
		l.LocalFingerprint = d.text(v, name)
	case "remote_fingerprint":
		l.RemoteFingerprint = d.text(v, name)
	}
}
