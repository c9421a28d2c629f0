package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// cometbft is four validators with the key-value store that CometBFT brings along.
type cometbft struct {
	processes []*process
	rpc       []string // addresses
}

// tuned are settings for the most throughput: no second check of transactions after each block, no
// index of them, room for as many as the load sends in some seconds, and requests of their number.
var tuned = []string{
	"CMT_MEMPOOL_RECHECK=false", "CMT_MEMPOOL_SIZE=200000", "CMT_MEMPOOL_CACHE_SIZE=400000", "CMT_MEMPOOL_MAX_TXS_BYTES=268435456",
	"CMT_TX_INDEX_INDEXER=null", "CMT_RPC_MAX_REQUEST_BATCH_SIZE=10000", "CMT_RPC_MAX_BODY_BYTES=16000000",
}

// startCometBFT starts a network that waits for so long after each block. CometBFT's default is a
// second.
func startCometBFT(dir, binary, commit string) (network, error) {
	if out, err := exec.Command(binary, "testnet", "--v", "4", "--o", dir, "--populate-persistent-peers=false").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cometbft testnet: %w: %s", err, out)
	}
	ports, err := freePorts(8)
	if err != nil {
		return nil, err
	}
	var peers []string
	home := func(i int) string { return filepath.Join(dir, fmt.Sprintf("node%d", i)) }
	for i := range 4 {
		id, err := exec.Command(binary, "show-node-id", "--home", home(i)).Output()
		if err != nil {
			return nil, fmt.Errorf("cometbft show-node-id: %w", err)
		}
		peers = append(peers, strings.TrimSpace(string(id))+"@"+loopback(ports[4+i]))
	}
	c := &cometbft{}
	for i := range 4 {
		p, err := start(filepath.Join(home(i), "node.log"), append(tuned, "CMT_CONSENSUS_TIMEOUT_COMMIT="+commit), binary,
			"node", "--home", home(i), "--proxy_app", "kvstore", "--log_level", "error",
			"--rpc.laddr", "tcp://"+loopback(ports[i]), "--p2p.laddr", "tcp://"+loopback(ports[4+i]),
			"--p2p.persistent_peers", strings.Join(peers, ","))
		if err != nil {
			c.stop()
			return nil, err
		}
		c.processes, c.rpc = append(c.processes, p), append(c.rpc, loopback(ports[i]))
	}
	err = eventually(time.Minute, func() error {
		var status struct {
			Result struct {
				SyncInfo struct {
					Height string `json:"latest_block_height"`
				} `json:"sync_info"`
			}
		}
		for i, address := range c.rpc {
			answer, err := post(context.Background(), http.DefaultClient, "http://"+address, "application/json",
				[]byte(`{"jsonrpc":"2.0","id":1,"method":"status","params":{}}`))
			if err != nil {
				return c.processes[i].failed("does not answer: " + err.Error())
			}
			if err := json.Unmarshal(answer, &status); err != nil {
				return err
			}
			if h := status.Result.SyncInfo.Height; h == "" || h == "0" {
				return c.processes[i].failed("has no block yet")
			}
		}
		return nil
	})
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cometbft) pids() (out []int) {
	for _, p := range c.processes {
		out = append(out, p.Process.Pid)
	}
	return out
}

func (c *cometbft) stop() {
	for _, p := range c.processes {
		p.stop()
	}
}

// rpcRequest is one call of JSON-RPC. A request over HTTP may hold many.
type rpcRequest struct {
	Version string         `json:"jsonrpc"`
	ID      int            `json:"id"`
	Method  string         `json:"method"`
	Params  map[string]any `json:"params"`
}

func (c *cometbft) submitter(index int) (func(context.Context, [][]byte) (int, error), error) {
	url, client := "http://"+c.rpc[index%len(c.rpc)], oneConnection()
	return func(ctx context.Context, messages [][]byte) (int, error) {
		calls := make([]rpcRequest, len(messages))
		for i, m := range messages {
			calls[i] = rpcRequest{"2.0", i, "broadcast_tx_sync", map[string]any{"tx": base64.StdEncoding.EncodeToString(m)}}
		}
		body, err := json.Marshal(calls)
		if err != nil {
			return 0, err
		}
		answer, err := post(ctx, client, url, "application/json", body)
		if err != nil {
			return 0, err
		}
		type result struct {
			Result struct {
				Code uint32
				Log  string
			}
			Error *struct{ Message, Data string }
		}
		var results []result
		if len(messages) == 1 { // a batch of one may be answered by an object
			var one result
			if json.Unmarshal(answer, &one) == nil {
				results = []result{one}
			}
		}
		if results == nil {
			if err := json.Unmarshal(answer, &results); err != nil {
				return 0, fmt.Errorf("CometBFT: %w in %.200q", err, answer)
			}
		}
		// The calls are made one after the other: once the pool is full, it refuses the rest.
		for i, r := range results {
			if r.Error != nil {
				return i, fmt.Errorf("CometBFT refused a transaction: %s: %s", r.Error.Message, r.Error.Data)
			}
			if r.Result.Code != 0 {
				return i, fmt.Errorf("CometBFT refused a transaction: code %d, %s", r.Result.Code, r.Result.Log)
			}
		}
		return len(results), nil
	}, nil
}

func (c *cometbft) follow(ctx context.Context, ready func(), seen func([]byte)) error {
	conn, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+c.rpc[0]+"/websocket", nil)
	if err != nil {
		return fmt.Errorf("CometBFT's websocket: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.WriteJSON(rpcRequest{"2.0", 1, "subscribe", map[string]any{"query": "tm.event='NewBlock'"}}); err != nil {
		return err
	}
	for {
		var event struct {
			Result struct {
				Data struct {
					Value struct {
						Block struct {
							Data struct{ Txs [][]byte }
						}
					}
				}
			}
			Error *struct{ Message, Data string }
		}
		if err := conn.ReadJSON(&event); err != nil {
			return err
		}
		if event.Error != nil {
			return fmt.Errorf("CometBFT ended the subscription: %s: %s", event.Error.Message, event.Error.Data)
		}
		ready() // the first answer is that of the subscription
		for _, tx := range event.Result.Data.Value.Block.Data.Txs {
			seen(tx)
		}
	}
}
