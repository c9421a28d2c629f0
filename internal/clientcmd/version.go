package clientcmd

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/version"
)

// NewVersion is the command that says which build of a program this is.
func NewVersion(program string, b version.Build, protocol uint32) *cobra.Command {
	var form Output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit, the protocol version and the version of Go",
		Example: "  " + strings.Replace(program, "-", " ", 1) + " version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version  string `json:"version"`
				Commit   string `json:"commit"`
				Protocol uint32 `json:"protocol"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{b.Version, b.Commit, protocol, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return form.Print(cmd.OutOrStdout(), v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s %s (protocol %d, %s)\n", program, b.Version, protocol, b.Details())
				return err
			})
		},
	}
	form.Register(cmd, cmd.Flags(), Table)
	return cmd
}
