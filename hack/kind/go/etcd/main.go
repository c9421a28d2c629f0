// Command etcd is etcd's server, as go.etcd.io/etcd/server/v3 has it; that one would be called
// server.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
