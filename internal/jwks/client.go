package jwks

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// NewClient makes a client that follows nobody's pointer: a redirect would let
// whoever answers once choose who answers ever after. check, when given,
// judges each address before it is connected to.
func NewClient(check func(network, address string, c syscall.RawConn) error, secure *tls.Config) *http.Client {
	dialer := &net.Dialer{Timeout: fetchFor, Control: check}
	return &http.Client{
		Timeout:       fetchFor,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// No proxy when addresses are judged: it would connect in our place.
			Proxy:           proxy(check != nil),
			TLSClientConfig: secure,
			DialContext:     dialer.DialContext, TLSHandshakeTimeout: fetchFor, ResponseHeaderTimeout: fetchFor,
			MaxIdleConns: 16, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2: true,
		},
	}
}

func proxy(judged bool) func(*http.Request) (*url.URL, error) {
	if judged {
		return nil
	}
	return http.ProxyFromEnvironment
}
