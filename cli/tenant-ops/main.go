// Command tenant-ops is all of Freehold in one program: the operator's
// commands, the servers, and a whole fleet on one machine.
package main

import (
	"os"

	"github.com/freehold-db/freehold/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
