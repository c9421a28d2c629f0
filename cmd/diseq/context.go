package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/internal/durable"
)

// contexts is the file of contexts.
type contexts struct {
	// Current is the context that commands use when nothing else names a node; empty for none.
	Current  string         `json:"current,omitempty"`
	Contexts []namedContext `json:"contexts"`

	path string
}

type namedContext struct {
	Name string `json:"name"`
	place
}

// maxContexts bounds the file, in bytes.
const maxContexts = 1 << 20

// contextsPath is where the contexts are; empty for a user without a home.
func contextsPath() string {
	if path := os.Getenv("DISEQ_CONTEXTS"); path != "" {
		return path
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "diseq", "contexts.json")
}

func readContexts() (*contexts, error) {
	c := &contexts{path: contextsPath()}
	if c.path == "" {
		return c, nil
	}
	raw, err := clientcmd.ReadLimited(c.path, nil, maxContexts)
	// Containers have homes that their user may not read.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && os.Getenv("DISEQ_CONTEXTS") == "" {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := document.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("%s: %w: mend the file, or remove it and make the contexts again", c.path, err)
	}
	return c, nil
}

func (c *contexts) find(name string) (*namedContext, error) {
	i := slices.IndexFunc(c.Contexts, func(n namedContext) bool { return n.Name == name })
	if i < 0 {
		return nil, clientcmd.Usagef("there is no context %q: diseq context lists them", name)
	}
	return &c.Contexts[i], nil
}

func (c *contexts) write() error {
	if c.path == "" {
		return errors.New("no directory for contexts: set DISEQ_CONTEXTS to the path of a file")
	}
	if err := durable.MakeDirectory(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	return writeJSON(c.path, c)
}

// readContext returns the place of a context; of the current one if no name is given, which may be
// none.
func readContext(name string) (place, error) {
	all, err := readContexts()
	if err != nil {
		return place{}, err
	}
	if name == "" {
		if name = all.Current; name == "" {
			return place{}, nil
		}
	}
	found, err := all.find(name)
	if err != nil {
		return place{}, err
	}
	return found.place, nil
}

// print writes a line for each context.
func (c *contexts) print(w io.Writer) error {
	rows := make([][]string, len(c.Contexts))
	for i, known := range c.Contexts {
		mark, access := "", "none"
		if known.Name == c.Current {
			mark = "*"
		}
		switch {
		case known.ClientCert != "":
			access = "certificate " + known.ClientCert
		case known.TokenFile != "":
			access = "token " + known.TokenFile
		}
		rows[i] = []string{mark, known.Name, strings.Join(known.URLs, ","), access}
	}
	return clientcmd.PrintTable(w, []string{"CURRENT", "NAME", "URL", "ACCESS"}, rows)
}

func newContext() *cobra.Command {
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "context",
		Short: "List the networks that commands know by name, and change them",
		Long: `A context gives a name to the nodes of a network and to the files that prove who you are. Without a subcommand, list the contexts;
a star marks the current one.

Commands that talk to nodes take the context of --context. Without it they take each value from its flag, then from the environment
(DISEQ_URL, DISEQ_CA_FILE, DISEQ_CLIENT_CERT, DISEQ_CLIENT_KEY, DISEQ_TOKEN_FILE), then from the context of DISEQ_CONTEXT or the current
one. Where --url or DISEQ_URL names the nodes, no such context counts: its token goes to its own nodes alone.

The contexts are in contexts.json in the directory diseq of the user's configuration, or in the file of DISEQ_CONTEXTS. They name
files with secrets and hold none.`,
		Example: "  diseq context set demo -u https://demo.pay.example:8080 --ca-file ca.crt --token-file token\n" +
			"  diseq context use demo\n" +
			"  diseq get status --context test",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if all.Contexts == nil {
				all.Contexts = []namedContext{}
			}
			return form.Print(cmd.OutOrStdout(), all, all.print)
		},
	}
	form.Register(cmd, cmd.Flags(), clientcmd.Table)
	cmd.AddCommand(newContextSet(), newContextChange("use", "Make a context the current one", func(all *contexts, name string) error {
		_, err := all.find(name)
		all.Current = name
		return err
	}), newContextChange("remove", "Remove a context", func(all *contexts, name string) error {
		if _, err := all.find(name); err != nil {
			return err
		}
		all.Contexts = slices.DeleteFunc(all.Contexts, func(c namedContext) bool { return c.Name == name })
		if all.Current == name {
			all.Current = ""
		}
		return nil
	}))
	return cmd
}

func newContextSet() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:   "set NAME [-u URL]",
		Short: "Make a context, or replace it whole",
		Long: `Make a context of the flags, or replace the one of that name. Paths are kept as absolute ones. The first context that is made
becomes the current one.`,
		Example: "  diseq context set demo -u https://demo-v0.example:8080,https://demo-v1.example:8080 --ca-file ca.crt --token-file token",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return clientcmd.Usagef("name %q: want 1 to 63 visible characters of ASCII, without spaces", name)
			}
			c, err := client.New(p.URLs...)
			if err != nil {
				return clientcmd.Usage(err)
			}
			for _, file := range p.files() {
				if *file == "" {
					continue
				}
				if *file, err = filepath.Abs(*file); err != nil {
					return err
				}
			}
			if err := p.use(c); err != nil {
				return err
			}
			all, err := readContexts()
			if err != nil {
				return err
			}
			fresh := namedContext{name, p}
			if found, err := all.find(name); err == nil {
				*found = fresh
			} else {
				all.Contexts = append(all.Contexts, fresh)
			}
			if len(all.Contexts) == 1 {
				all.Current = name
			}
			return all.write()
		},
	}
	p.register(cmd.Flags())
	return cmd
}

// newContextChange is a subcommand that changes the contexts by a name.
func newContextChange(verb, short string, change func(all *contexts, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Example: "  diseq context " + verb + " demo", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if err := change(all, args[0]); err != nil {
				return err
			}
			return all.write()
		},
	}
}
