package sqlhttp

import (
	"net/http"
	"strings"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// permitted refuses statements that a request cannot have. Postgres takes one
// statement at a time from us, and a statement's kind is in its first words.
//
// It is courtesy more than a wall: a transaction that is ended anyway leaves
// the session clean (session.go), and what roles may do is Postgres' to decide.
// One thing only Postgres does not keep: on any login its user may change the
// login itself, its password for one.
func permitted(statements []statement, login tenantdb.Login) error {
	for _, s := range statements {
		first, second := leadingWords(s.sql)
		switch first {
		case "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE":
			return refused(first+" is refused: every request is one transaction of its own",
				"Send the statements that belong together as one batch (transaction() of the driver).")
		case "COPY":
			return refused("COPY is refused: there is no stream to copy from or to", "Use INSERT … SELECT FROM unnest(…), or psql.")
		case "PREPARE":
			if second == "TRANSACTION" {
				return refused("PREPARE TRANSACTION is refused: every request is one transaction of its own", "")
			}
		case "ALTER":
			if second == "ROLE" || second == "USER" && !mapping(s.sql) || second == "GROUP" {
				return refused("ALTER "+second+" is refused: logins and roles are the platform's", "")
			}
		case "DROP", "REASSIGN":
			if second == "OWNED" {
				return refused(first+" OWNED is refused: logins and roles are the platform's", "")
			}
		case "DO":
			if login != tenantdb.Owner {
				return refused("DO is for owners only", "Have the owner make a function of it, and call that.")
			}
		}
	}
	return nil
}

// mapping tells ALTER USER MAPPING from ALTER USER.
func mapping(sql string) bool {
	rest := sql
	for range 2 {
		_, rest = word(rest)
	}
	third, _ := word(rest)
	return third == "MAPPING"
}

func refused(message, hint string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "0A000", message).WithHint(hint)
}

// leadingWords are the first two words of a statement, in capitals, as
// Postgres' lexer finds them: after space, comments and empty statements.
func leadingWords(sql string) (first, second string) {
	first, rest := word(sql)
	second, _ = word(rest)
	return first, second
}

// word reads one unquoted word; what is no word is "".
func word(sql string) (upper, rest string) {
	sql = skip(sql)
	n := 0
	for n < len(sql) && (sql[n] >= 'a' && sql[n] <= 'z' || sql[n] >= 'A' && sql[n] <= 'Z' || sql[n] == '_') {
		n++
	}
	return strings.ToUpper(sql[:n]), sql[n:]
}

// skip leaves out space, comments (those with * nest) and semicolons.
func skip(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\n\r\f\v;")
		switch {
		case strings.HasPrefix(sql, "--"):
			end := strings.IndexAny(sql, "\n\r")
			if end < 0 {
				return ""
			}
			sql = sql[end:]
		case strings.HasPrefix(sql, "/*"):
			sql = afterComment(sql)
		default:
			return sql
		}
	}
}

func afterComment(sql string) string {
	depth := 0
	for i := 0; i+1 < len(sql); {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
		default:
			i++
		}
		if depth == 0 {
			return sql[i:]
		}
	}
	return ""
}
