// Package oracle holds the nodes of a test to one chain. It is fed with the blocks that the nodes
// show and with the answers that clients got, and it names every broken promise: a fork, a block
// that changes or disappears, an invalid block, a lost, repeated, reordered or invented message, a
// wrong receipt, and evidence against an honest validator.
//
// It opens nothing: no socket, no file, no process. A suite of real nodes reads the blocks in its
// own way and passes them on. Its own tests break each promise once.
package oracle
