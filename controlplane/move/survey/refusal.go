package survey

import (
	"fmt"
	"strings"
)

// mostShown bounds how many findings one sentence tells.
const mostShown = 20

// Refusal says in one sentence why what ("the move") can't be made.
func Refusal(what string, findings []Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s can't be made", what)
	if len(findings) != 1 {
		fmt.Fprintf(&b, " for %d reasons", len(findings))
	}
	for i, f := range findings {
		if i == mostShown {
			fmt.Fprintf(&b, "; and %d more", len(findings)-i)
			break
		}
		b.WriteString("; " + f.String())
	}
	return b.String()
}

// Levels parts findings by what they mean.
func Levels(found []Finding) (refused, waits, warnings []Finding) {
	for _, f := range found {
		switch f.Level {
		case Refuse:
			refused = append(refused, f)
		case Wait:
			waits = append(waits, f)
		case Warn:
			warnings = append(warnings, f)
		}
	}
	return refused, waits, warnings
}
