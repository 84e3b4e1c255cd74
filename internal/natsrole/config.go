package natsrole

import (
	"fmt"
	"io"
	"strings"
)

// User is who shows the NKey with this public part.
type User struct {
	Key  string
	Role Role
}

// WriteConfig writes the block `authorization` of a NATS server's configuration: these users and nobody else.
func WriteConfig(w io.Writer, users []User) error {
	var b strings.Builder
	b.WriteString("authorization {\n  users = [\n")
	for _, u := range users {
		fmt.Fprintf(&b, "    # %s\n    {\n      nkey: %s\n      permissions {\n", u.Role.Name, u.Key)
		for _, side := range []struct {
			name     string
			subjects []string
		}{{"publish", u.Role.Publish}, {"subscribe", u.Role.Subscribe}} {
			fmt.Fprintf(&b, "        %s {\n          allow: [\n", side.name)
			for _, s := range side.subjects {
				fmt.Fprintf(&b, "            %q\n", s)
			}
			b.WriteString("          ]\n        }\n")
		}
		b.WriteString("      }\n    }\n")
	}
	b.WriteString("  ]\n}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
