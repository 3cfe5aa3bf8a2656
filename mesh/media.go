package mesh

import (
	"fmt"
	"strings"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// opusFrame is how much sound one packet has.
const opusFrame = 20 * time.Millisecond

// opusSilence is a frame of silence (RFC 6716 section 3.1: SILK-less CELT, one
// empty frame).
var opusSilence = [...]byte{0xf8, 0xff, 0xfe}

// mediaEngine knows Opus when media is wanted, and nothing else ever.
func mediaEngine(o AgentOptions) (*webrtc.MediaEngine, *interceptor.Registry, error) {
	engine, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if !o.Media {
		// Interceptors are for RTP; pion starts five goroutines for them unasked.
		return engine, registry, nil
	}
	err := engine.RegisterCodec(webrtc.RTPCodecParameters{
		RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"},
		PayloadType:        111,
	}, webrtc.RTPCodecTypeAudio)
	if err == nil {
		err = webrtc.ConfigureRTCPReports(registry)
	}
	if err == nil {
		err = webrtc.ConfigureStatsInterceptor(registry)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("prepare media: %w", err)
	}
	return engine, registry, nil
}

// newTrack is what an agent sends to every peer.
func newTrack(o AgentOptions) (*webrtc.TrackLocalStaticSample, error) {
	if !o.Media {
		return nil, nil
	}
	return webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", o.ID)
}

// refusesAudio tells whether an answer rejects what we offered: a media section
// with port 0 (RFC 3264 section 6).
func refusesAudio(sdp string) bool { return strings.HasPrefix(sdpLine(sdp, "m=audio "), "0 ") }

// play sends silence to all peers until the agent ends: real RTP, so that loss
// and SRTP exist.
func (a *Agent) play() {
	ticker := time.NewTicker(opusFrame)
	defer ticker.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-ticker.C:
			_ = a.track.WriteSample(media.Sample{Data: opusSilence[:], Duration: opusFrame}) // to those that are up
		}
	}
}

// addMedia puts the agent's track on a connection and reads what the peer
// sends: pion counts only what is read.
func (c *connection) addMedia(track *webrtc.TrackLocalStaticSample) error {
	sender, err := c.pc.AddTrack(track)
	if err != nil {
		return fmt.Errorf("add audio track: %w", err)
	}
	c.drain(func(buffer []byte) error { _, _, err := sender.Read(buffer); return err })
	c.pc.OnTrack(func(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		c.drain(func(buffer []byte) error { _, _, err := remote.Read(buffer); return err })
		c.drain(func(buffer []byte) error { _, _, err := receiver.Read(buffer); return err })
	})
	return nil
}

// drain reads until the connection is closed.
func (c *connection) drain(read func([]byte) error) {
	if !c.hold() {
		return
	}
	go func() {
		defer c.readers.Done()
		buffer := make([]byte, 1500)
		for read(buffer) == nil {
		}
	}()
}

// addMediaQuality tells of the audio that comes in.
func (c *connection) addMediaQuality(m metadata) {
	for _, s := range c.pc.GetStats() {
		if in, is := s.(webrtc.InboundRTPStreamStats); is && in.PacketsReceived > 0 {
			m["rtp_packets_lost"], m["rtp_packets_received"], m["rtp_jitter_ms"] = in.PacketsLost, in.PacketsReceived, in.Jitter*1000
		}
	}
}
