// Package secret answers: how does a credential travel through the program
// without ever being shown?
package secret

import "fmt"

const redacted = "[redacted]"

// Secret is a password, key or token. Every way of printing or encoding it
// gives "[redacted]"; only Reveal gives the value. The value sits behind a
// pointer because fmt reads unexported fields of other structs past String.
type Secret struct{ value *string }

// New wraps a value; an empty value gives the zero Secret.
func New(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the value, for the one place that sends or hashes it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty tells whether there is no value.
func (s Secret) Empty() bool { return s.value == nil }

// Format implements fmt.Formatter, so that no verb shows the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML alike.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
