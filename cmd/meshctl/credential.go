package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"strings"
	"time"

	"github.com/jxskiss/base62"
	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

func newTurnCredentialCmd(a *app) *cobra.Command {
	return group("credential", "TURN REST credentials: mint, decode", newCredentialMintCmd(a), newCredentialDecodeCmd(a))
}

type credentialOptions struct {
	env, file string // of the secret to mint with, or of the password to decode
	user      string
	ttl       time.Duration
}

func newCredentialMintCmd(a *app) *cobra.Command {
	var o credentialOptions
	cmd := &cobra.Command{
		Use: "mint", Short: "Make credentials with the shared secret of a TURN REST service",
		Long: `mint makes a user name that says when it expires, and its password (HMAC-SHA1), as
a TURN REST service does. The shared secret is the first of turn.rest.secrets of the
configuration, or comes from --secret-env or --secret-file; it is never shown.`,
		Example: `  meshctl turn credential mint --ttl 10m --user oncall
  meshctl turn credential mint --secret-file - < turn.secret`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runCredentialMint(cmd, o) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.ttl, "ttl", 0, "how `LONG` they hold (default turn.rest.ttl, 1h)")
	flags.StringVar(&o.user, "user", "", "`NAME` after the time of expiry (default turn.rest.user)")
	flags.StringVar(&o.env, "secret-env", "", "environment `VARIABLE` with the shared secret")
	flags.StringVar(&o.file, "secret-file", "", "`FILE` with the shared secret, - for standard input")
	return cmd
}

func (a *app) runCredentialMint(cmd *cobra.Command, o credentialOptions) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("ttl") {
		o.ttl = time.Duration(c.TURN.REST.TTL)
	}
	if !cmd.Flags().Changed("user") {
		o.user = c.TURN.REST.User
	}
	var p problems
	p.oneLine("--user", o.user)
	if o.ttl < time.Second || o.ttl > 30*24*time.Hour {
		p.add("--ttl", "%s is not between 1s and 720h", o.ttl)
	}
	if len(p.found) > 0 {
		return usageError("%s: %s", p.found[0].key, p.found[0].text)
	}
	keys, err := a.restKeys(c, o)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return usageError("turn credential mint: no shared secret: turn.rest.secrets, --secret-env or --secret-file")
	}
	expires := time.Now().Add(o.ttl).Truncate(time.Second)
	username, password := secret.MintREST(keys[0].key, o.user, expires)
	doc := map[string]any{"username": username, "password": password.Reveal(), "expires": expires.UTC(), "secret": keys[0].name}
	return a.show(doc, func(p *page) {
		p.line("username  %s", username)
		p.line("password  %s", password.Reveal())
		p.line("expires   %s, in %s", expires.UTC().Format(time.RFC3339), o.ttl)
		p.line("secret    %s", keys[0].name)
	})
}

// restKey is a shared secret with the name that it is spoken of.
type restKey struct {
	name string
	key  secret.Secret
}

// restKeys reads the shared secrets of the command line, else those of the
// configuration.
func (a *app) restKeys(c config, o credentialOptions) ([]restKey, error) {
	from := c.TURN.REST.Secrets
	if o.env != "" || o.file != "" {
		from = []secretConfig{{Name: "command line", Env: o.env, File: o.file}}
	}
	var keys []restKey
	for _, s := range from {
		key, err := a.readSecret(s.Env, s.File)
		if err != nil {
			return nil, err
		}
		if key.Empty() {
			return nil, usageError("TURN secret %q: nothing in %s", s.Name, secretSource(s.Env, s.File))
		}
		keys = append(keys, restKey{s.Name, key})
	}
	return keys, nil
}

// secretSource names where a secret is looked for.
func secretSource(env, file string) string {
	var parts []string
	if env != "" {
		parts = append(parts, "$"+env)
	}
	if file != "" {
		parts = append(parts, file)
	}
	return strings.Join(parts, " or ")
}

// decoded is what credentials tell about themselves.
type decoded struct {
	Username string         `json:"username"`
	Kind     string         `json:"kind"` // rest, livekit or static
	User     string         `json:"user"`
	Expires  time.Time      `json:"expires,omitzero"`
	LeftS    *int64         `json:"left_s"` // null: they do not say
	SignedBy string         `json:"signed_by"`
	Verdict  probes.Verdict `json:"verdict"`
	Summary  string         `json:"summary"`
}

func newCredentialDecodeCmd(a *app) *cobra.Command {
	var o credentialOptions
	cmd := &cobra.Command{
		Use: "decode [USERNAME]", Short: "Say when credentials expire, whose they are and which secret made them",
		Long: `decode reads a user name (default turn.username, $MESHCTL_TURN_USERNAME or that of
the env file) and tries which of the configured secrets made its password. The
password comes from --password-file, $MESHCTL_TURN_PASSWORD, turn.password_file or
the env file, and is never shown.

Exit status: 0 they hold and a known secret made them, 3 expired or made with
another secret, 4 could not be determined.`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error { return a.runCredentialDecode(args, o) },
	}
	cmd.Flags().StringVar(&o.file, "password-file", "", "`FILE` with the password, - for standard input")
	return cmd
}

func (a *app) runCredentialDecode(args []string, o credentialOptions) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	env, _ := targets.ReadEnvFile(c.TURN.EnvFile) // without one there is nothing in it
	inFile, _ := env.Value("TURN_USERNAME")
	username := cmp.Or(append(args, c.TURN.Username, a.getenv("MESHCTL_TURN_USERNAME"), inFile)...)
	if username == "" {
		return usageError("turn credential decode: wants a user name")
	}
	if o.file == "" {
		o.env, o.file = c.TURN.PasswordEnv, c.TURN.PasswordFile
	}
	password, err := a.readSecret(o.env, o.file)
	if err != nil {
		return err
	}
	if value, _ := env.Value("TURN_PASSWORD"); password.Empty() && username == inFile {
		password = secret.New(value)
	}
	keys, err := a.restKeys(c, credentialOptions{})
	if err != nil {
		return err
	}
	d := decode(username)
	d.judge(password, keys, time.Now())
	if err := a.show(d, func(p *page) { p.decoded(d) }); err != nil {
		return err
	}
	return withCode(verdictCode(d.Verdict, "unknown"))
}

// decode tells the two conventions apart; LiveKit's user name is the base62 of
// APIKEY|PARTICIPANT.
func decode(username string) decoded {
	d := decoded{Username: username, Kind: "static", User: username}
	if r, err := secret.ParseREST(username); err == nil {
		d.Kind, d.User, d.Expires = "rest", r.User, r.Expires
		return d
	}
	if text, err := base62.DecodeString(username); err == nil && printable(string(text)) && strings.Count(string(text), "|") == 1 {
		d.Kind, d.User = "livekit", string(text)
	}
	return d
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

func (d *decoded) judge(password secret.Secret, keys []restKey, now time.Time) {
	for _, k := range keys {
		if d.signs(k.key, password) {
			d.SignedBy = k.name
		}
	}
	left := d.Expires.Sub(now).Truncate(time.Second)
	if !d.Expires.IsZero() {
		seconds := int64(left.Seconds())
		d.LeftS = &seconds
	}
	d.Verdict, d.Summary = probes.Unknown, "who made them is not known: "
	switch {
	case d.LeftS != nil && left <= 0:
		d.Verdict, d.Summary = probes.Fail, "expired "+(-left).String()+" ago"
	case d.SignedBy != "" && d.LeftS != nil:
		d.Verdict, d.Summary = probes.Pass, "they hold for another "+left.String()
	case d.SignedBy != "":
		d.Verdict, d.Summary = probes.Pass, "they do not expire"
	case password.Empty():
		d.Summary += "no password was given"
	case len(keys) == 0:
		d.Summary += "no secret is configured (turn.rest.secrets)"
	case d.Kind == "static":
		d.Summary = "a static user name: only the server knows its password"
	default:
		d.Verdict, d.Summary = probes.Fail, "none of the configured secrets made them"
	}
}

// signs tells whether a secret made the password.
func (d *decoded) signs(key, password secret.Secret) bool {
	if d.Kind == "livekit" {
		_, participant, _ := strings.Cut(d.User, "|")
		sum := sha256.Sum256([]byte(key.Reveal() + "|" + participant))
		return hmac.Equal(base62.Encode(sum[:]), []byte(password.Reveal()))
	}
	return d.Kind == "rest" && secret.SignsREST(key, d.Username, password)
}

func (p *page) decoded(d decoded) {
	p.line("username  %s", oneLine(d.Username))
	p.line("kind      %s", d.Kind)
	p.line("user      %s", oneLine(orNone(d.User)))
	if !d.Expires.IsZero() {
		p.line("expires   %s", d.Expires.UTC().Format(time.RFC3339))
	}
	if d.SignedBy != "" {
		p.line("secret    %s", d.SignedBy)
	}
	p.line("%s %s", p.verdict(d.Verdict), d.Summary)
}

// readStdin is a secret from standard input.
func (a *app) readStdin() (secret.Secret, error) {
	data, err := io.ReadAll(io.LimitReader(a.in, maxSecret))
	if err != nil {
		return secret.Secret{}, usageError("read standard input: %w", err)
	}
	return secret.New(strings.TrimSpace(string(data))), nil
}
