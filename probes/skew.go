package probes

import (
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"time"
)

const maxSkew = 24 * time.Hour // beyond it a nonce is taken to hold no time

// nonceSkew reads from a fresh nonce how far its server's clock is ahead of
// ours, to within about precision. Three servers begin their nonces with the
// time: pion/turn with 16 hexadecimal digits of milliseconds, or in base 36
// with four bytes of minutes; coturn with --stateless-nonce with eight
// hexadecimal digits of seconds.
func nonceSkew(nonce string, now time.Time) (skew, precision time.Duration, known bool) {
	for _, read := range []func(string) (time.Time, time.Duration, bool){milliNonce, secondNonce, minuteNonce} {
		if at, precision, ok := read(nonce); ok {
			if skew := at.Sub(now); skew > -maxSkew && skew < maxSkew {
				return skew, precision, true
			}
		}
	}
	return 0, 0, false
}

func milliNonce(nonce string) (time.Time, time.Duration, bool) {
	b, err := hex.DecodeString(nonce)
	if err != nil || len(b) != 40 {
		return time.Time{}, 0, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b))), time.Second, true
}

func secondNonce(nonce string) (time.Time, time.Duration, bool) {
	if len(nonce) <= 16 || strings.Trim(nonce, "0123456789abcdefABCDEF") != "" { // older coturn: 16 random ones
		return time.Time{}, 0, false
	}
	seconds, err := strconv.ParseUint(nonce[:8], 16, 32)
	return time.Unix(int64(seconds), 5e8), time.Second, err == nil
}

func minuteNonce(nonce string) (time.Time, time.Duration, bool) {
	const size = 16 // four bytes of time and twelve of HMAC
	n, ok := new(big.Int).SetString(nonce, 36)
	if !ok || n.Sign() < 0 || n.BitLen() > 8*size || len(nonce) > 25 {
		return time.Time{}, 0, false
	}
	b := n.FillBytes(make([]byte, size))
	return time.Unix(60*int64(binary.BigEndian.Uint32(b))+30, 0), 31 * time.Second, true
}
