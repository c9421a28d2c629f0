// Package server is a node's HTTP side: the routes of the proof of concept, byte-compatible for its
// clients, the /v1 interface, and the operations endpoints.
//
// It promises: every answer about final blocks comes from the final blocks of the [Backend]. A
// submission is answered 202 only after the backend has made it durable; a request is all or
// nothing. A stream delivers every final block from the asked height on, in order and without a
// gap; a slow reader is slowed down, never skipped. A stream that breaks off ends with its error.
// The input of a client is bounded before it is read: header sizes and times, bodies, batches,
// query values, waiting times, connections and streams. A body that stalls ends its request. A
// header that changes the meaning of a body is understood or refused. While a node drains, it is
// not ready, and nobody is refused ([Server.Drain]).
//
// The routes and their answers are described by openapi.yaml, which is embedded, served at
// /openapi.yaml and compared with the handlers by a test.
//
// The package deliberately decides nothing: no consensus, no storage, no signature. It keeps no
// chain state but a small cache of encoded blocks, which never change. It does not authenticate
// clients and does not speak TLS. Put a proxy in front of the public listener where that is wanted,
// and keep the operations listener private.
package server
