package authority

import "errors"

// Errors of whoever finds out who a caller is. What they wrap is for the log.
var (
	// ErrUnknown: the credential is none of this control plane's.
	ErrUnknown = errors.New("credential is not known")
	// ErrExpired: it was good, and is past its time.
	ErrExpired = errors.New("credential has expired")
	// ErrRevoked: it was good, and was taken back.
	ErrRevoked = errors.New("credential was revoked")
	// ErrUnsettled: it can't be judged now; another time it may be good.
	ErrUnsettled = errors.New("credential cannot be judged now")
)
