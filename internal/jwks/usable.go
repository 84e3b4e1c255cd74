package jwks

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
)

const (
	leastRSA = 2048 // bits (RFC 7518 §3.3)
	mostRSA  = 8192 // bits: a tenant's issuer must not have a node reckon for minutes
	maxKeys  = 100  // of one issuer
)

// usable makes a set of those keys of a JWKS that can verify a token. What is
// not understood is left out, as RFC 7517 §5 wants it, and so is what is of
// another use, secret, or too weak: one odd key must not take the others along.
func usable(ctx context.Context, raw []byte) (find keyfunc.Keyfunc, keys, left int, err error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, 0, 0, err
	}
	if len(document.Keys) > maxKeys {
		return nil, 0, 0, fmt.Errorf("%d keys, more than %d", len(document.Keys), maxKeys)
	}
	set := jwkset.NewMemoryStorage()
	for _, text := range document.Keys {
		key, err := parseKey(text)
		if err != nil {
			left++
			continue
		}
		if err := set.KeyWrite(ctx, key); err != nil {
			return nil, 0, 0, err
		}
		keys++
	}
	find, err = keyfunc.New(keyfunc.Options{Storage: set})
	return find, keys, left, err
}

func parseKey(text []byte) (jwkset.JWK, error) {
	var none jwkset.JWK
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(text, &m); err != nil {
		return none, err
	}
	if m.USE != "" && m.USE != jwkset.UseSig || m.KID == "" {
		return none, errors.New("no key for signatures, or without an ID")
	}
	key, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return none, err
	}
	switch k := key.Key().(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < leastRSA || k.N.BitLen() > mostRSA {
			return none, fmt.Errorf("RSA key of %d bits", k.N.BitLen())
		}
	default:
		return none, fmt.Errorf("a %T verifies no signature", k)
	}
	return key, nil
}
