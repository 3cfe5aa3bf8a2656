package wire

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

const algorithm = "ed25519"

// Signature is the signature of a Message over its canonical form.
type Signature struct {
	Algorithm      string   `json:"algorithm"`       // ed25519
	PublicKey      string   `json:"public_key"`      // 32 bytes in hex
	SignatureBytes string   `json:"signature_bytes"` // 64 bytes in hex
	SignedFields   []string `json:"signed_fields"`
}

// SignatureError says why a signature does not hold; the message is to be
// dropped.
type SignatureError struct{ Reason string }

func (e *SignatureError) Error() string { return "message signature: " + e.Reason }

// SignedFields returns the names of the fields that a signature covers, in the
// order in which messages list them.
func SignedFields() []string {
	return []string{
		"id", "timestamp", "level", "source", "destination",
		"payload", "performative", "conversation_id", "sequence_num",
	}
}

// Sign sets the signature of the message. It covers the envelope, but of the
// payload only keys named like the signed fields: see Canonical.
func (m *Message) Sign(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return errors.New("sign message: not an ed25519 private key")
	}
	raw, err := m.Encode()
	if err != nil {
		return err
	}
	canonical, err := Canonical(raw)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", m.ID, err)
	}
	m.Signature = &Signature{
		Algorithm:      algorithm,
		PublicKey:      hex.EncodeToString(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:]),
		SignatureBytes: hex.EncodeToString(ed25519.Sign(key, canonical)),
		SignedFields:   SignedFields(),
	}
	return nil
}

// Verify checks the signature of a message as it was received. It proves that
// the holder of the public key in the message signed the envelope, not who
// that is, and not the integrity of the payload. Errors: *SignatureError.
func Verify(raw []byte) error {
	root, err := parseObject(raw)
	if err != nil {
		return &SignatureError{Reason: err.Error()}
	}
	d := fieldReader{fields: lastFields(root)}
	s := d.signature("signature")
	switch {
	case d.err != nil:
		return &SignatureError{Reason: d.err.Error()}
	case s == nil:
		return &SignatureError{Reason: "missing"}
	}
	canonical, err := Canonical(raw)
	if err != nil {
		return &SignatureError{Reason: err.Error()}
	}
	return s.verify(canonical)
}

func (s Signature) verify(canonical []byte) error {
	if s.Algorithm != algorithm {
		return &SignatureError{Reason: fmt.Sprintf("algorithm %q, not %q", shorten(s.Algorithm, 40), algorithm)}
	}
	public, err := hex.DecodeString(s.PublicKey)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return &SignatureError{Reason: "public_key is not 32 bytes in hex"}
	}
	signature, err := hex.DecodeString(s.SignatureBytes)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return &SignatureError{Reason: "signature_bytes is not 64 bytes in hex"}
	}
	if !slices.Equal(slices.Sorted(slices.Values(s.SignedFields)), sortedFields()) {
		return &SignatureError{Reason: "signed_fields are not the nine that must be signed"}
	}
	if !ed25519.Verify(public, canonical, signature) {
		return &SignatureError{Reason: "does not match the message"}
	}
	return nil
}

func sortedFields() []string { return slices.Sorted(slices.Values(SignedFields())) }
