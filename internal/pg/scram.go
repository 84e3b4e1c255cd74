package pg

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	scramIterations = 4096 // Postgres' own default; passwords of ours carry 192 bits, so more adds nothing
	scramSalt       = 16   // bytes
	passwordBytes   = 24   // 192 bits
)

// NewPassword returns a fresh random password of 32 URL-safe ASCII characters.
func NewPassword() string {
	b := make([]byte, passwordBytes)
	_, _ = rand.Read(b) // never fails: the runtime ends the process first
	return base64.RawURLEncoding.EncodeToString(b)
}

// ScramVerifier computes what Postgres stores for a password
// (`SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`), so that the password itself
// never travels in a statement, where logs and pg_stat_activity would see it.
// The verifier of one password differs at each call by its salt: copy it, never
// recompute it, when a role moves (PgBouncer logs in with the client key).
//
// Only printable ASCII passwords are taken: for them SASLprep changes nothing.
func ScramVerifier(password string) (string, error) {
	return freshVerifier(password, scramIterations)
}

// QuickVerifier is [ScramVerifier] for servers that tests throw away: who logs
// in there works for as little as can be.
func QuickVerifier(password string) (string, error) { return freshVerifier(password, 1) }

func freshVerifier(password string, iterations int) (string, error) {
	if password == "" {
		return "", errors.New("empty password")
	}
	for i := range len(password) {
		if password[i] < 0x20 || password[i] > 0x7e {
			return "", errors.New("password is not printable ASCII")
		}
	}
	salt := make([]byte, scramSalt)
	_, _ = rand.Read(salt)
	return scramVerifier(password, salt, iterations)
}

func scramVerifier(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive key: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Verifies tells whether a stored verifier is this password's. What is no
// verifier of that kind is nobody's.
func Verifies(verifier, password string) bool {
	rest, ok := strings.CutPrefix(verifier, "SCRAM-SHA-256$")
	if !ok || password == "" {
		return false
	}
	params, _, _ := strings.Cut(rest, "$")
	times, text, _ := strings.Cut(params, ":")
	iterations, err := strconv.Atoi(times)
	if err != nil || iterations < 1 {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	want, err := scramVerifier(password, salt, iterations)
	return err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(verifier)) == 1
}
