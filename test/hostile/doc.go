// Package hostile attacks a network of real processes from all sides at once, at bounded rates, and
// has honest clients beside it: `make hostile`.
//
// The attackers are clients and a peer. The clients come from other addresses of the loopback
// network than the honest ones: some from one address, some from many. The peer has the stolen key
// of a validator, whose own process is down. Everything runs on this machine, so that the attackers
// also take processor time from the nodes. The rates are chosen with that in mind.
//
// Each attack names the bound that it leans on. A run fails if an accepted message is lost, if a
// node dies or holds more memory than it may, or if honest clients are served worse than Options
// allows.
package hostile
