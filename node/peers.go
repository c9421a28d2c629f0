package node

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/peer"
)

// peersInterval is how often the node looks whether the peers file has changed.
const peersInterval = 2 * time.Second

// watchPeers applies changes of the peers file without a restart, until ctx ends. A file that
// cannot be read changes nothing.
func watchPeers(ctx context.Context, path string, self chain.PublicKey, apply func([]peer.Peer), log *slog.Logger) {
	last := modified(path)
	for wait.For(ctx, peersInterval) == nil {
		now := modified(path)
		if now.Equal(last) {
			continue
		}
		last = now
		peers, err := LoadPeers(path, self)
		if err != nil {
			log.Error("the peers file changed and cannot be used: the peers stay as they were", "err", err)
			continue
		}
		log.Info("the peers file changed", "peers", len(peers))
		apply(peers)
	}
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
