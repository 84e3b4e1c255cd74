package access

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
)

// compile refuses policies that no node could work with.
func compile(policies []access.Policy) error {
	if _, err := policy.Compile(policies); err != nil {
		return invalid(err)
	}
	return nil
}

// digests say in the audit log which policies there are: by name, the SHA-256 of the text.
func digests(policies []access.Policy) map[string]string {
	sums := make(map[string]string, len(policies))
	for _, p := range policies {
		sum := sha256.Sum256([]byte(p.Text))
		sums[p.Name] = hex.EncodeToString(sum[:])
	}
	return sums
}

// headroom is what a message has besides the document.
const headroom = 4 << 10

// fits refuses a document that would not travel.
func fits(document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if len(text) > access.MaxDocument-headroom {
		return fmt.Errorf("all of it together has %d bytes, more than %d", len(text), access.MaxDocument-headroom)
	}
	return nil
}
