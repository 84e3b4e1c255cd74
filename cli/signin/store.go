package signin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Login is where somebody is signed in, and with what.
type Login struct {
	Issuer
	Tokens
	// CA is the file with the roots that the issuer is believed by; empty: the system's.
	CA string `json:"ca,omitempty"`
}

// Store keeps logins by the control plane's URL, in a file that only its owner reads.
type Store struct{ path string }

type document struct {
	// Current is the control plane that commands go to unless they are told otherwise.
	Current string           `json:"current"`
	Logins  map[string]Login `json:"logins"`
}

// ErrNone: nobody is signed in there.
var ErrNone = errors.New("not signed in")

// OpenStore finds the user's own file; it need not be there yet.
func OpenStore() (*Store, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("where to keep logins: %w", err)
	}
	return &Store{filepath.Join(dir, "tenant-ops", "logins.json")}, nil
}

// Current is the control plane that was signed in to last; empty: none.
func (s *Store) Current() (string, error) {
	doc, err := s.read()
	return doc.Current, err
}

// Get finds the login at a control plane. Errors: ErrNone.
func (s *Store) Get(url string) (Login, error) {
	doc, err := s.read()
	if err != nil {
		return Login{}, err
	}
	l, ok := doc.Logins[url]
	if !ok {
		return l, fmt.Errorf("%s: %w", url, ErrNone)
	}
	return l, nil
}

// Put keeps a login, and makes its control plane the current one.
func (s *Store) Put(url string, l Login) error {
	return s.change(func(doc *document) error {
		doc.Logins[url], doc.Current = l, url
		return nil
	})
}

// Delete forgets a login. Errors: ErrNone.
func (s *Store) Delete(url string) error {
	return s.change(func(doc *document) error {
		if _, ok := doc.Logins[url]; !ok {
			return fmt.Errorf("%s: %w", url, ErrNone)
		}
		delete(doc.Logins, url)
		if doc.Current == url {
			doc.Current = ""
		}
		return nil
	})
}

// renewBefore is how long before its end a token is renewed.
const renewBefore = time.Minute

// Fresh finds a login whose token is good for a while yet, and has renew get a
// new one if it must. Of several processes one renews, and the others take what it got:
// an issuer may take each refresh token only once. Errors: ErrNone.
func (s *Store) Fresh(url string, renew func(Login) (Tokens, error)) (l Login, err error) {
	l, err = s.Get(url)
	if err != nil || time.Until(l.Expires) > renewBefore {
		return l, err
	}
	err = s.change(func(doc *document) error {
		var ok bool
		if l, ok = doc.Logins[url]; !ok {
			return fmt.Errorf("%s: %w", url, ErrNone)
		}
		if time.Until(l.Expires) > renewBefore {
			return nil
		}
		if l.Refresh == "" {
			return errors.New("the login has expired")
		}
		t, err := renew(l)
		if err != nil {
			return fmt.Errorf("the login cannot be renewed: %w", err)
		}
		l.Tokens = t
		doc.Logins[url] = l
		return nil
	})
	return l, err
}

func (s *Store) read() (document, error) {
	doc := document{Logins: map[string]Login{}}
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, nil
	}
	if err != nil {
		return doc, fmt.Errorf("logins: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return doc, fmt.Errorf("logins: %s is open to other users (%s): chmod 600 it", s.path, info.Mode().Perm())
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return doc, fmt.Errorf("logins: %w", err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return doc, fmt.Errorf("logins: %s is damaged; delete it and sign in again", s.path)
	}
	if doc.Logins == nil {
		doc.Logins = map[string]Login{}
	}
	return doc, nil
}

// change changes the document, one process at a time, and replaces the file as a whole.
func (s *Store) change(fn func(doc *document) error) error {
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	lock, err := os.OpenFile(s.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	defer lock.Close()                                                     //nolint:errcheck // nothing is in it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { //nolint:gosec // a descriptor is small
		return fmt.Errorf("logins: %w", err)
	}
	doc, err := s.read()
	if err != nil {
		return err
	}
	if err := fn(&doc); err != nil {
		return err
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".logins-*") // mode 0600
	if err != nil {
		return fmt.Errorf("logins: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("logins: %w", err), os.Remove(f.Name()))
	}
	return nil
}
