package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/diseq/diseq/node/simulation"
)

// printTable prints the results of the lines, and how often each fault happened.
func printTable(to io.Writer, lines []*line, took time.Duration) error {
	table := tabwriter.NewWriter(to, 2, 0, 2, ' ', 0)
	fmt.Fprintln(table, "n\tt\tb\twait\tseeds\tforks\tcontrols found\trounds per height\tat most\tin the calm\tcrashes\truns/min\tname")
	var all simulation.Summary
	controls, found := 0, 0
	for _, l := range lines {
		s, seen := l.sum, ""
		if l.Want != nil {
			controls++
			if l.found.Violation != nil {
				found++
				seen = fmt.Sprintf("%v, seed %d", l.Want, l.found.Seed)
			}
		} else {
			all.Seeds += s.Seeds
			all.Heights += s.Heights
			all.Forks += s.Forks
			for kind, times := range s.Faults {
				all.Faults[kind] += times
			}
		}
		fmt.Fprintf(table, "%d\t%d\t%d\t%s\t%d\t%d\t%s\t", l.N, l.T, l.Byzantine, wait(l.Delta), s.Seeds, s.Forks, seen)
		fmt.Fprintf(table, "%.2f\t%d\t%d\t%d\t%.0f\t%s\n", s.MeanRounds(), s.Rounds, s.CalmRounds, s.Faults[simulation.Crash],
			float64(s.Seeds)/max(l.took.Minutes(), 1e-9), l.Name)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(to, "\npromises: %d seeds, %d heights, %d forks; %v\n", all.Seeds, all.Heights, all.Forks, all.Faults)
	fmt.Fprintf(to, "controls: %d of %d found their violation; %v in all\n", found, controls, took.Round(time.Second))
	return nil
}

func wait(delta time.Duration) string {
	if delta == 0 {
		return "-"
	}
	return delta.String()
}
