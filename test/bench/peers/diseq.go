package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// diseq is four validators, three of which must sign.
type diseq struct {
	process *process
	urls    []string
	nodes   []int
}

func startDiseq(dir, binary string) (network, error) {
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	p, err := start(filepath.Join(dir, "devnet.log"), nil, binary, "devnet", "--validators", "4", "--threshold", "3",
		"--dir", dir, "--http", loopback(ports[0]))
	if err != nil {
		return nil, err
	}
	d := &diseq{process: p}
	if err := p.said("ready", time.Minute); err != nil {
		p.stop()
		return nil, err
	}
	var file struct {
		Nodes []struct {
			HTTP string
			PID  int
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	for _, n := range file.Nodes {
		d.urls, d.nodes = append(d.urls, n.HTTP), append(d.nodes, n.PID)
	}
	return d, nil
}

func (d *diseq) pids() []int { return d.nodes }
func (d *diseq) stop()       { d.process.stop() }

func (d *diseq) submitter(index int) (func(context.Context, [][]byte) (int, error), error) {
	url, client := d.urls[index%len(d.urls)]+"/v1/messages", oneConnection()
	var body []byte
	return func(ctx context.Context, messages [][]byte) (int, error) {
		body = body[:0]
		for _, m := range messages {
			body = append(binary.AppendUvarint(body, uint64(len(m))), m...)
		}
		if _, err := post(ctx, client, url, "application/vnd.diseq.batch", body); err != nil {
			return 0, err
		}
		return len(messages), nil
	}, nil
}

func (d *diseq) follow(ctx context.Context, ready func(), seen func([]byte)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.urls[0]+"/v1/stream", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/x-ndjson")
	response, err := oneConnection().Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("DISEQ's stream was answered %s", response.Status)
	}
	ready()
	for lines := bufio.NewReaderSize(response.Body, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		var block struct {
			Messages []struct{ Data []byte }
		}
		if err := json.Unmarshal(line, &block); err != nil {
			return fmt.Errorf("DISEQ's stream: %w in %.200q", err, line)
		}
		for _, m := range block.Messages {
			seen(m.Data)
		}
	}
}

// oneConnection makes a client that keeps its connection.
func oneConnection() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
}

// post returns the body of the answer; any other answer than success is an error.
func post(ctx context.Context, c *http.Client, url, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s was answered %s: %.200s", url, response.Status, answer)
	}
	return answer, err
}
