// Package sample embeds the sample application's schema, so that the program
// has it wherever it runs.
package sample

import "embed"

// Migrations are the goose SQL files, in the order of their names.
//
//go:embed *.sql
var Migrations embed.FS
