package authority

import (
	"fmt"
	"regexp"
)

const maxLabels = 32

var (
	labelName  = regexp.MustCompile(`^[a-z][a-z0-9._/-]{0,62}$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

// CheckLabels refuses labels that no tenant can bear: names of up to 63
// lower-case letters, digits and ._/-, values of up to 63 letters, digits and ._-.
func CheckLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels, more than %d", len(labels), maxLabels)
	}
	for name, value := range labels {
		if !labelName.MatchString(name) {
			return fmt.Errorf("label %.70q: a name is a lower-case letter, then up to 62 of a-z 0-9 . _ / -", name)
		}
		if !labelValue.MatchString(value) {
			return fmt.Errorf("label %s: %.70q: a value is 1 to 63 letters, digits and . _ -, beginning with a letter or digit", name, value)
		}
	}
	return nil
}
