package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/node"
)

func newNode() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "node --config FILE",
		Short: "Run one node",
		Long: `Run one node until SIGTERM or Ctrl-C.

The configuration (YAML) names the genesis document, the directory of the keys (made by diseq init), the data directory, the peers
file and the addresses of the three listeners; relative paths are relative to its own directory. A node whose key is in
the genesis document is a validator, any other follows the chain as an observer. The log goes to the standard error.`,
		Example: "  diseq node --config node0/node.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef("--config is required")
			}
			cfg, err := node.LoadConfig(path)
			if err != nil {
				return err
			}
			// Memory before processor time: at 10,000 messages a second this takes a tenth off the resident memory and adds
			// too little work to measure (make bench).
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(50)
			}
			log := cfg.Logger(cmd.ErrOrStderr())
			if err := node.Run(cmd.Context(), cfg, version, log); err != nil {
				return err
			}
			log.Info("node stopped") // a log that ends without it is of a node that was killed
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the configuration file (node.yaml)")
	return cmd
}
