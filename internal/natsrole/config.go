package natsrole

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// User is who shows the NKey with this public part.
type User struct {
	Key  string
	Role Role
}

// WriteConfig writes the block `accounts` of a NATS server's configuration: these users and nobody else.
func WriteConfig(w io.Writer, users []User) error {
	var accounts []string
	for _, u := range users {
		if !slices.Contains(accounts, u.Role.Account) {
			accounts = append(accounts, u.Role.Account)
		}
	}
	var b strings.Builder
	b.WriteString("accounts {\n")
	for _, a := range accounts {
		fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n    users = [\n", a)
		for _, u := range users {
			if u.Role.Account == a {
				u.write(&b)
			}
		}
		b.WriteString("    ]\n  }\n")
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (u User) write(b *strings.Builder) {
	fmt.Fprintf(b, "      # %s\n      {\n        nkey: %s\n        permissions {\n", u.Role.Name, u.Key)
	for _, side := range []struct {
		name     string
		subjects []string
	}{{"publish", u.Role.Publish}, {"subscribe", u.Role.Subscribe}} {
		fmt.Fprintf(b, "          %s {\n            allow: [\n", side.name)
		for _, s := range side.subjects {
			fmt.Fprintf(b, "              %q\n", s)
		}
		b.WriteString("            ]\n          }\n")
	}
	b.WriteString("        }\n      }\n")
}
