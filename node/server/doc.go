// Package server is a node's HTTP side: the routes of the proof of concept, byte-compatible for its
// clients, the /v1 interface, and the operations endpoints.
//
// It promises: every answer about final blocks is what the [Backend] holds as final; a submission
// is answered 202 only after the backend has made it durable; a request is all or nothing; a stream
// delivers every final block from the asked height on, in order and without a gap, and a slow
// reader is slowed, never skipped. Whatever a client sends is bounded before it is read: header
// sizes and times, bodies, batches, query values, waiting times, connections and streams; a body
// that stalls ends its request.
//
// The routes and their answers are described by openapi.yaml, which is embedded, served at
// /openapi.yaml and compared with the handlers by a test.
//
// It deliberately does not decide anything: no consensus, no storage, no signature. It keeps no
// chain state but a small cache of encoded blocks, which never change. It does not authenticate
// anyone and does not speak TLS; the public listener is meant to stand behind a proxy where that is
// wanted, and the operations listener to stay private.
package server
