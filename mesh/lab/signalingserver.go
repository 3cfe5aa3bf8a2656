package lab

import (
	"fmt"
	"slices"
	"strconv"
)

// SignalingServer is one signaling server of the lab, by its own address.
type SignalingServer struct {
	Name    string // signaling-1, signaling-2, signaling-3
	URL     string // ws
	HTTPURL string
}

// signalingServer is a signaling server and where it listens.
type signalingServer struct {
	*signaling
	site *site
}

const signalingServers = 3

func signalingName(i int) string { return "signaling-" + strconv.Itoa(i+1) }

// startSignaling starts all signaling servers, with one registry or with one
// for each.
func (l *Lab) startSignaling() error {
	shared := newRegistry()
	for i := range signalingServers {
		r := shared
		if l.options.Registry == "separate" {
			r = newRegistry()
		}
		s := &signalingServer{signaling: newSignaling(signalingName(i), l.options.SeedOnly, l.fleet.Links, r)}
		s.network = l.network
		var err error
		if s.site, err = openSite(s.handler()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		l.onClose(s.site.down)
		l.signaling = append(l.signaling, s)
		known := SignalingServer{Name: s.name, URL: "ws://" + s.site.address, HTTPURL: s.site.url()}
		l.Signaling = append(l.Signaling, known)
		l.fleet.options.SignalingURLs = append(l.fleet.options.SignalingURLs, known.URL)
	}
	l.SignalingURL, l.SignalingHTTPURL = l.Signaling[0].URL, l.Signaling[0].HTTPURL
	return nil
}

// registered are the ids of all agents that any signaling server knows, sorted.
func (l *Lab) registered() []string {
	ids := []string{}
	for _, s := range l.signaling {
		ids = append(ids, s.ids()...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (l *Lab) signalingServer(name string) *signalingServer {
	i := slices.IndexFunc(l.signaling, func(s *signalingServer) bool { return s.name == name })
	return l.signaling[i] // the name was checked
}
