package bearer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// tokenError sorts what the JWT library found wrong with a token, as far as it
// read it. Its own errors stay within, for who words them.
func tokenError(err error, t *jwt.Token, claims jwt.MapClaims, algorithms []string) error {
	well := errors.Is(err, jwt.ErrTokenInvalidClaims) // signed
	switch {
	case errors.Is(err, ErrNoKeys), errors.Is(err, ErrBusy):
		return err
	case well && mistyped(claims) != "":
		return fmt.Errorf("%w: %w: %w", ErrClaims, &ClaimTypeError{mistyped(claims)}, err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return fmt.Errorf("%w: %w", ErrExpired, err)
	case well:
		return fmt.Errorf("%w: %w", ErrClaims, err)
	case t != nil && len(algorithms) > 0 && (t.Method == nil || !slices.Contains(algorithms, t.Method.Alg())):
		return fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// mistyped is the first claim of a type that it cannot have, or empty.
func mistyped(claims jwt.MapClaims) string {
	for _, name := range []string{"exp", "nbf", "iat"} {
		if _, number := claims[name].(float64); claims[name] != nil && !number {
			return name
		}
	}
	switch aud := claims["aud"].(type) {
	case nil, string:
	case []any:
		if slices.ContainsFunc(aud, func(one any) bool { _, text := one.(string); return !text }) {
			return "aud"
		}
	default:
		return "aud"
	}
	return ""
}
