package issuer

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Person may sign in at the issuer.
type Person struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

// person is one with what the file keeps of the password.
type person struct {
	Person
	Salt []byte `json:"salt"`
	Hash []byte `json:"hash"`
}

const (
	peopleFile = "people.json"
	// ClientID is the client that people sign in with; tokens for people have it as their audience.
	ClientID   = "tenant-ops"
	iterations = 60_000
	keyBytes   = 32
)

var personName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// SetPerson lets a person sign in at the issuer that keeps its key in dir, in
// these groups, or changes what there is of him. A running issuer sees it at once.
func SetPerson(dir string, p Person, password string) error {
	if !personName.MatchString(p.Name) || len(password) < 8 {
		return errors.New("a person has a name of letters, digits and ._@-, and a password of 8 characters at least")
	}
	all, err := readPeople(dir)
	if err != nil {
		return err
	}
	one := person{Person: p, Salt: make([]byte, 16)}
	_, _ = rand.Read(one.Salt) // never fails
	if one.Hash, err = stretch(password, one.Salt); err != nil {
		return err
	}
	kept := []person{one}
	for _, other := range all {
		if other.Name != p.Name {
			kept = append(kept, other)
		}
	}
	text, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, peopleFile), text)
}

// stretch makes what the file keeps of a password.
func stretch(password string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, salt, iterations, keyBytes)
}

func readPeople(dir string) ([]person, error) {
	text, err := os.ReadFile(filepath.Join(dir, peopleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("people of the issuer: %w", err)
	}
	var all []person
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("people of the issuer: %s: %w", peopleFile, err)
	}
	return all, nil
}

// check finds who has this name and password. A name that there is not takes as long as a wrong password.
func check(dir, name, password string) (Person, bool) {
	all, err := readPeople(dir)
	if err != nil {
		return Person{}, false
	}
	found := person{Salt: []byte("nobody's"), Hash: make([]byte, keyBytes)}
	known := 0
	for _, p := range all {
		if p.Name == name {
			found, known = p, 1
		}
	}
	hash, err := stretch(password, found.Salt)
	return found.Person, err == nil && subtle.ConstantTimeCompare(hash, found.Hash)&known == 1
}

// random is a text that nobody guesses.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
