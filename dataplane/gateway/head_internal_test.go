package gateway

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// script is a connection of which each Read gets the next part.
type script struct {
	net.Conn
	parts []string
}

func (s *script) Read(p []byte) (int, error) {
	n := copy(p, s.parts[0])
	s.parts = s.parts[1:]
	return n, nil
}

// A head that was sent ahead may have been cut anywhere when the answer before
// it is done: what follows is the rest of it.
func TestHeadsCutAnywhere(t *testing.T) {
	t.Parallel()
	const first = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"
	const next = "GET /x HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\r\n"
	read := func(c *headConn) (int, error) { return c.Read(make([]byte, 1000)) }
	for _, body := range []string{"{}\n", "ab\r", "\n\r\n", "a\n\r", "\r\n\r", "abc"} {
		for cut := range len(next) {
			for _, rest := range []string{next[cut:], strings.Replace(next[cut:], "\r\n", "\n", 1), next[cut:] + "\n {}, \r{}\n"} {
				c := newHeadConn(&script{parts: []string{first, body + next[:cut], rest, "x"}})
				for _, want := range []int{len(first), len(body) + cut} {
					n, err := read(c)
					require.NoError(t, err)
					require.Equal(t, want, n)
				}
				c.await()
				n, err := read(c)
				require.NoError(t, err)
				// At a cut between CR and LF nothing is wrong with a bare LF.
				if good := strings.HasPrefix(rest, next[cut:]); good {
					require.Equal(t, len(rest), n, "%q %d", body, cut)
					require.False(t, c.awaiting.Load(), "%q %d", body, cut)
					continue
				}
				require.Less(t, n, len(rest), "%q %d", body, cut)
				_, err = read(c)
				require.ErrorIs(t, err, errHead)
			}
		}
	}
}

// Byte by byte it is the same.
func TestHeadsByteByByte(t *testing.T) {
	t.Parallel()
	const request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
	for _, body := range []string{"{}", "\r\n", "a\r", "\n\n"} {
		c := newHeadConn(&script{parts: strings.Split(strings.Repeat(request+body, 3), "")})
		for range 3 {
			for at := range len(request + body) {
				n, err := c.Read(make([]byte, 1000))
				require.NoError(t, err, "%q %d", body, at)
				require.Equal(t, 1, n)
				require.Equal(t, at < len(request)-1, c.awaiting.Load(), "%q %d", body, at)
			}
			c.await()
		}
	}
}
