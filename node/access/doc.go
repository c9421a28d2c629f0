// Package access decides who may use a node's public listener: who a client is, what it may do, and
// how much of the node it may take.
//
// A node admits; the chain does not know clients. Any validator can put messages into a block, so
// admission protects the space, the time and the privacy of the port. It does not say who wrote a
// message: a signature in the data says that.
//
// The package promises:
//
//   - A credential that is presented decides. A wrong one is refused, and never taken for no
//     credential.
//   - A file that cannot be used changes nothing. Its last good content stays in force.
//   - The memory that clients can make it use is bounded.
//
// It opens no connections: the keys of issuers are files. It issues no tokens, and cannot revoke
// one before it expires.
package access
