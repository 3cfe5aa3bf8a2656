package main

import "time"

// config is one mesh's configuration file. Addresses left out are the ones
// the mesh's procedures were written with.
type config struct {
	Mesh         string              `yaml:"mesh"`
	StateDir     string              `yaml:"state_dir"`
	CAFile       string              `yaml:"ca_file"`
	Signaling    []signalingConfig   `yaml:"signaling"`
	Balancer     balancerConfig      `yaml:"balancer"`
	Controller   endpointConfig      `yaml:"controller"`
	Witness      endpointConfig      `yaml:"witness"`
	Prometheus   endpointConfig      `yaml:"prometheus"` // url: "" where there is none
	TURN         turnConfig          `yaml:"turn"`
	Certificates []certificateConfig `yaml:"certificates"`
	Probe        probeConfig         `yaml:"probe"`
	Notify       notifyConfig        `yaml:"notify"`
	Agents       agentsConfig        `yaml:"agents"`
	Thresholds   thresholdsConfig    `yaml:"thresholds"`
	Timings      timingsConfig       `yaml:"timings"`
	Lab          labConfig           `yaml:"lab"`

	path string // where it was read, for errors
	text []byte // the file, for the place of a key in it; nil for defaults
}

// signalingConfig is one signaling server by its own address, not the
// balancer's. StatsURL is its HTTP side where that is another origin.
type signalingConfig struct {
	Name     string       `yaml:"name"`
	URL      string       `yaml:"url"`
	StatsURL string       `yaml:"stats_url"`
	Restart  actionConfig `yaml:"restart"`
}

// actionConfig is how a service is restarted or told to read its files again:
// a systemd unit, or a command that no shell looks at. With Host it happens
// there, over ssh.
type actionConfig struct {
	Systemd string   `yaml:"systemd"`
	Command []string `yaml:"command"`
	Host    string   `yaml:"host"`
}

// balancerConfig is nginx in front of the signaling servers.
type balancerConfig struct {
	URL      string   `yaml:"url"` // what agents connect to
	File     string   `yaml:"file"`
	Upstream string   `yaml:"upstream"`
	Test     []string `yaml:"test"`
	Reload   []string `yaml:"reload"`
	Host     string   `yaml:"host"`
}

// endpointConfig is an HTTP service and where its key is; the key itself
// never stands in the file.
type endpointConfig struct {
	URL      string `yaml:"url"`
	KeyEnv   string `yaml:"key_env"`
	KeyFile  string `yaml:"key_file"`
	Insecure bool   `yaml:"insecure"`
}

// turnConfig is the env file and the credentials of the TURN servers: static
// ones, or a REST secret to mint them with. Without either the env file's hold.
type turnConfig struct {
	EnvFile      string     `yaml:"env_file"`
	Host         string     `yaml:"host"` // of the env file
	Realm        string     `yaml:"realm"`
	Username     string     `yaml:"username"`
	PasswordEnv  string     `yaml:"password_env"`
	PasswordFile string     `yaml:"password_file"`
	REST         restConfig `yaml:"rest"`
}

// restConfig mints credentials as a TURN REST service does. The first secret
// mints; the others are those that servers may still accept.
type restConfig struct {
	Secrets []secretConfig `yaml:"secrets"`
	TTL     duration       `yaml:"ttl"`
	User    string         `yaml:"user"`
}

// secretConfig says where a secret is.
type secretConfig struct {
	Name string `yaml:"name"`
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// certificateConfig is a certificate on disk and who serves it.
type certificateConfig struct {
	Name    string       `yaml:"name"`
	Cert    string       `yaml:"cert"`
	Key     string       `yaml:"key"`
	Host    string       `yaml:"host"`
	Servers []string     `yaml:"servers"` // HOST:PORT, over TLS
	Reload  actionConfig `yaml:"reload"`
}

// probeConfig is what probes need beside the servers.
type probeConfig struct {
	Peer string `yaml:"peer"` // HOST:PORT of `meshctl probe peer`
}

// notifyConfig is who is told of runs. Security incidents go to their own
// route; without one they take the normal one.
type notifyConfig struct {
	Routes   []notifyTarget `yaml:"routes"`
	Security []notifyTarget `yaml:"security"`
}

// notifyTarget is one receiver. The address of a webhook is a secret as its
// path is the key to it; PagerDuty's address is public and its key is not.
type notifyTarget struct {
	Type    string   `yaml:"type"` // slack, webhook or pagerduty
	URL     string   `yaml:"url"`  // pagerduty only
	URLEnv  string   `yaml:"url_env"`
	URLFile string   `yaml:"url_file"`
	KeyEnv  string   `yaml:"key_env"`
	KeyFile string   `yaml:"key_file"`
	Events  []string `yaml:"events"`
}

// agentsConfig is how agents of meshctl connect. STUNSpare are asked when no
// STUN server of the mesh answers.
type agentsConfig struct {
	RelayOnly *bool    `yaml:"relay_only"`
	Loopback  bool     `yaml:"loopback"`
	Standby   bool     `yaml:"standby"`
	STUNSpare []string `yaml:"stun_spare"`
}

// thresholdsConfig overrides single defaults.
type thresholdsConfig struct {
	SuccessRateWarn     *float64 `yaml:"success_rate_warn_percent"`
	SuccessRateFail     *float64 `yaml:"success_rate_fail_percent"`
	FailedConnections   *int     `yaml:"failed_connections"`
	ErrorsPerWindow     *int     `yaml:"errors_per_window"`
	RTTDirectWarn       *float64 `yaml:"rtt_direct_warn_ms"`
	RTTDirectFail       *float64 `yaml:"rtt_direct_fail_ms"`
	RTTRelayWarn        *float64 `yaml:"rtt_relay_warn_ms"`
	RTTRelayFail        *float64 `yaml:"rtt_relay_fail_ms"`
	MessageLossWarn     *float64 `yaml:"message_loss_warn_percent"`
	MessageLossFail     *float64 `yaml:"message_loss_fail_percent"`
	DeliveryLatencyWarn *float64 `yaml:"delivery_latency_warn_ms"`
	DeliveryLatencyFail *float64 `yaml:"delivery_latency_fail_ms"`
	PacketLossWarn      *float64 `yaml:"packet_loss_warn_percent"`
	PacketLossFail      *float64 `yaml:"packet_loss_fail_percent"`
	JitterWarn          *float64 `yaml:"jitter_warn_ms"`
	JitterFail          *float64 `yaml:"jitter_fail_ms"`
	RelayShareWarn      *float64 `yaml:"relay_share_warn_percent"`
	RelayShareFail      *float64 `yaml:"relay_share_fail_percent"`
	CertificateWarn     *float64 `yaml:"certificate_warn_percent"` // of its life left
	CertificateFail     *float64 `yaml:"certificate_fail_percent"`
	CertificateWarnDays *float64 `yaml:"certificate_warn_days"`
	CertificateFailDays *float64 `yaml:"certificate_fail_days"`
}

// timingsConfig overrides single windows. Scale shrinks all of them, for
// rehearsals only.
type timingsConfig struct {
	Scale        float64  `yaml:"scale"`
	Monitor      duration `yaml:"monitor"`
	ErrorWindow  duration `yaml:"error_window"`
	Delivery     duration `yaml:"delivery"`
	StepDeadline duration `yaml:"step_deadline"`
}

// labConfig is set by `meshctl lab up` for `meshctl lab fault`.
type labConfig struct {
	ControlURL string `yaml:"control_url"`
}

func defaultConfig() config {
	return config{
		Mesh:       "infrafabric",
		Signaling:  []signalingConfig{{Name: "signaling", URL: "wss://signaling.infrafabric.local:8443"}},
		Controller: endpointConfig{URL: "https://webrtc.infrafabric.local:8443", KeyEnv: "ADMIN_API_KEY"},
		Witness:    endpointConfig{URL: "https://witness.infrafabric.local", KeyEnv: "IF_WITNESS_API_KEY"},
		Prometheus: endpointConfig{URL: "https://prometheus.infrafabric.local"},
		TURN: turnConfig{
			EnvFile: "config/webrtc-production.env", PasswordEnv: "MESHCTL_TURN_PASSWORD",
			REST: restConfig{TTL: duration(time.Hour), User: "meshctl"},
		},
	}
}
