// Package intake takes in a request's body before anything else is spent on the
// request: how long that takes is up to its client, who shall hold nothing
// meanwhile but a connection and the memory of what came so far.
//
// Import law: intake imports no other package of this module.
package intake

import (
	"io"
	"net/http"
)

// least is the memory that a body takes at first when nobody says how long it is.
const least = 4 << 10

// Whole is a body that has come to its end.
type Whole struct {
	text []byte
	read int
}

// Read implements [io.Reader].
func (w *Whole) Read(p []byte) (int, error) {
	if w.read == len(w.text) {
		return 0, io.EOF
	}
	n := copy(p, w.text[w.read:])
	w.read += n
	return n, nil
}

// Close implements [io.Closer].
func (w *Whole) Close() error { return nil }

// Take reads r's body to its end and puts it back as a [Whole], with its length
// as r.ContentLength. Before it takes memory it calls hold with the number of
// bytes, whose error ends the reading; what was held stays the caller's to give
// back, whatever comes of it. Other errors are the body's own. How many bytes
// there may be, and for how long they may come, is the caller's to bound.
func Take(r *http.Request, hold func(bytes int) error) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	var text []byte
	for {
		if len(text) == cap(text) {
			more := room(cap(text), r.ContentLength)
			if err := hold(more - cap(text)); err != nil {
				return err
			}
			text = append(make([]byte, 0, more), text...)
		}
		n, err := r.Body.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if err == io.EOF { //nolint:errorlint // a reader's own, never wrapped
			break
		}
		if err != nil {
			return err
		}
	}
	r.Body, r.ContentLength = &Whole{text: text}, int64(len(text))
	return nil
}

// room is how much memory follows on so much: twice that, but no more than the
// client says that it sends, and one byte to see the end in. What a client says
// is no reason to take it before it comes.
func room(now int, says int64) int {
	next := max(least, 2*now)
	if says >= int64(now) && says < int64(next) {
		return int(says) + 1
	}
	return next
}

// Bytes is r's body: without a copy when it was taken in, which is then not to
// be changed, and else read now. An error is a *[http.MaxBytesError] when there
// are more than most bytes.
func Bytes(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	whole, ok := r.Body.(*Whole)
	if !ok {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	}
	text := whole.text[whole.read:]
	if int64(len(text)) > most {
		return nil, &http.MaxBytesError{Limit: most}
	}
	whole.read = len(whole.text)
	return text, nil
}
