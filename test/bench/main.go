// Program bench measures Freehold on real servers and prints each figure beside
// its target: `make bench`. What can be compared is compared side by side in
// this run, in turns, so that whatever else the machine does hits both sides;
// those ratios are what counts, single times are not. docs/benchmarks.md says
// what each row means.
//
// Small parts are measured by the Go benchmarks that lie beside them, which
// this program runs; what needs all parts is measured on a development fleet of
// durable servers (fsync on) whose parts are processes of their own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// lastsAtMost bounds a run of everything.
const lastsAtMost = 25 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	binary string // tenant-ops
	moves  int
	rounds int
	// megabytes of the large tenant; 0: it is left out.
	megabytes int
	report    report
}

// section measures one thing; the fleet is up for those that need it.
type section struct {
	name    string
	onFleet bool
	measure func(*bench, context.Context, *fleet) error
}

var sections = []section{
	{"map", false, (*bench).shardMap},
	{"node", false, (*bench).node},
	{"schemas", false, (*bench).schemas},
	{"limits", false, (*bench).limits},
	{"placement", false, (*bench).placement},
	{"audit", false, (*bench).audit},
	{"provision", true, (*bench).provision},
	{"copy", true, (*bench).copy},
	{"felt", true, (*bench).felt},
	{"tables", true, (*bench).tables},
	{"big", true, (*bench).big},
	{"pause", true, (*bench).pause},
}

// run measures what was asked for and prints the report, also of what came
// before an error. A target that is missed is no error; what could not be
// measured is.
func run(ctx context.Context, args []string, out io.Writer) error {
	b := &bench{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&b.binary, "binary", "bin/tenant-ops", "the program under test")
	flags.IntVar(&b.moves, "moves", 30, "moves whose pause is measured")
	flags.IntVar(&b.rounds, "rounds", 3, "times a database is copied by each mover")
	flags.IntVar(&b.megabytes, "big", 0, "size of a large tenant to move, in MB; about twelve times as much disk is needed for it")
	only := flags.String("only", "", "sections to run, with commas between: "+names())
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lastsAtMost, fmt.Errorf("not done in %s", lastsAtMost))
	defer cancel()
	began := time.Now()
	err = b.measure(ctx, chosen)
	b.report.print(out, time.Since(began))
	return err
}

func (b *bench) measure(ctx context.Context, chosen []section) (err error) {
	var f *fleet
	for _, s := range chosen {
		if s.onFleet && f == nil {
			say("starting a fleet of durable servers")
			if f, err = start(ctx, b.binary); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.stop(context.WithoutCancel(ctx))) }()
		}
		say("measuring: " + s.name)
		if err := s.measure(b, ctx, f); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func choose(only string) (chosen []section, err error) {
	if only == "" {
		return sections, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, s := range sections {
			if s.name == name {
				chosen, found = append(chosen, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no section %q: there are %s", name, names())
		}
	}
	return chosen, nil
}

func names() string {
	var all []string
	for _, s := range sections {
		all = append(all, s.name)
	}
	return strings.Join(all, ",")
}

// say tells who waits what is going on; the report alone goes to standard output.
func say(what string) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), what)
}
