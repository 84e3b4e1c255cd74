package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/internal/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Work on Cedar policies", GroupID: "operate"}
	cmd.AddCommand(policyShowCommand(), policyApplyCommand(), policyRemoveCommand(), policyTestCommand())
	return cmd
}

func policyTestCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "Judge requests by policies, and compare with what is expected",
		Long: `Judge the requests of a file by the policies of the file, as a data-plane node
would, and compare with what the file expects. No server is needed. The exit
status is 0 when every case is as expected, and 1 otherwise. FILE is YAML or
JSON, "-" is the standard input:

  fleet:                    # and tenant: the same
    - name: office-hours
      text: |
        forbid (principal, action in Action::"write", resource)
        unless { context.ip.isInRange(ip("10.0.0.0/8")) };
    - name: payroll
      file: payroll.cedar   # beside FILE
  cases:
    - name: nobody writes from outside
      principal: {subject: alice, role: editor, claims: {department: hr}}
      request: {method: POST, table: projects}   # or function:, sql: true, root: true
      ip: 203.0.113.7
      expect: deny
      by: [office-hours]    # may be left out`,
		Example: "  tenant-ops policy test policies.yaml",
		Args:    oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			suite, err := readSuite(args[0], cmd.InOrStdin())
			if err != nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("%s: %w", args[0], err)}
			}
			return printSuite(cmd, suite.Run())
		},
	}
}

func readSuite(file string, in io.Reader) (*policy.Suite, error) {
	var document []byte
	var err error
	if file == "-" {
		document, err = io.ReadAll(in)
	} else {
		document, err = os.ReadFile(file) //nolint:gosec // the user's own file
	}
	if err != nil {
		return nil, err
	}
	return policy.ReadSuite(document, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) && file != "-" {
			name = filepath.Join(filepath.Dir(file), name)
		}
		return os.ReadFile(name) //nolint:gosec // the user's own file
	})
}

// suiteRow is a line of what `policy test` prints.
type suiteRow struct {
	Case     string   `json:"case"`
	Expected string   `json:"expected"`
	OK       bool     `json:"ok"`
	Fault    string   `json:"fault,omitempty"`
	Policies []string `json:"policies,omitempty"`
	Errors   []string `json:"errors,omitempty"`
}

func printSuite(cmd *cobra.Command, results []policy.Result) error {
	rows, failed := make([]suiteRow, len(results)), 0
	for i, r := range results {
		rows[i] = suiteRow{Case: r.Case.Name, Expected: r.Case.Expect, OK: r.Fault == "", Fault: r.Fault, Policies: r.Decision.Policies, Errors: r.Decision.Errors}
		if r.Fault != "" {
			failed++
		}
	}
	err := printItems(cmd.OutOrStdout(), outputFormat(cmd), rows, []column[suiteRow]{
		{"case", func(r suiteRow) any { return r.Case }},
		{"expected", func(r suiteRow) any { return r.Expected }},
		{"result", func(r suiteRow) any {
			if r.OK {
				return "ok"
			}
			return "FAIL: " + r.Fault
		}},
		{"notes", func(r suiteRow) any { return strings.Join(r.Errors, "; ") }},
	})
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d cases are not as expected", failed, len(results))
	}
	return nil
}
