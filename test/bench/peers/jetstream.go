package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stream is three servers of NATS with one stream on all of them, each of which syncs every write.
// It is an upper bound: nothing is signed, and a server that lies is believed.
type stream struct {
	processes []*process
	urls      []string
}

const streamName, subject = "ORDER", "order"

func startJetStream(dir, binary string) (network, error) {
	const servers = 3
	ports, err := freePorts(2 * servers)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range servers {
		routes = append(routes, "nats://"+loopback(ports[servers+i]))
	}
	s := &stream{}
	for i := range servers {
		home := filepath.Join(dir, fmt.Sprintf("server%d", i))
		if err := os.MkdirAll(home, 0o755); err != nil {
			s.stop()
			return nil, err
		}
		config := fmt.Sprintf("server_name: server%d\nlisten: %q\ncluster {\n  name: order\n  listen: %q\n  routes: [%s]\n}\n"+
			"jetstream {\n  store_dir: %q\n  sync_interval: always\n}\n",
			i, loopback(ports[i]), loopback(ports[servers+i]), strings.Join(routes, ", "), filepath.Join(home, "data"))
		path := filepath.Join(home, "server.conf")
		if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
			s.stop()
			return nil, err
		}
		p, err := start(filepath.Join(home, "server.log"), nil, binary, "-c", path)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.processes, s.urls = append(s.processes, p), append(s.urls, "nats://"+loopback(ports[i]))
	}
	err = eventually(time.Minute, func() error {
		conn, err := nats.Connect(s.urls[0])
		if err != nil {
			return s.processes[0].failed("does not answer: " + err.Error())
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		order, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: streamName, Subjects: []string{subject}, Replicas: servers, Storage: jetstream.FileStorage,
		})
		if err != nil {
			return s.processes[0].failed("makes no stream: " + err.Error())
		}
		// A stream that has no leader yet acknowledges nothing, and nobody waits for replicas that
		// are behind.
		info, err := order.Info(ctx)
		if err != nil {
			return err
		}
		if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != servers-1 {
			return s.processes[0].failed("has not spread the stream")
		}
		for _, r := range info.Cluster.Replicas {
			if !r.Current {
				return s.processes[0].failed("waits for the replica " + r.Name)
			}
		}
		_, err = js.Publish(ctx, subject, []byte("first"))
		return err
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stream) pids() (out []int) {
	for _, p := range s.processes {
		out = append(out, p.Process.Pid)
	}
	return out
}

func (s *stream) stop() {
	for _, p := range s.processes {
		p.stop()
	}
}

func (s *stream) submitter(index int) (func(context.Context, [][]byte) (int, error), error) {
	conn, err := nats.Connect(s.urls[index%len(s.urls)])
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(20_000))
	if err != nil {
		return nil, err
	}
	const answerWithin = 30 * time.Second
	return func(ctx context.Context, messages [][]byte) (int, error) {
		acks := make([]jetstream.PubAckFuture, len(messages))
		for i, m := range messages {
			if acks[i], err = js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: m}); err != nil {
				return 0, err
			}
		}
		timeout := time.NewTimer(answerWithin)
		defer timeout.Stop()
		for i, ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return i, err
			case <-timeout.C:
				return i, fmt.Errorf("JetStream has not acknowledged a message within %v", answerWithin)
			case <-ctx.Done():
				return i, ctx.Err()
			}
		}
		return len(messages), nil
	}, nil
}

func (s *stream) follow(ctx context.Context, ready func(), seen func([]byte)) error {
	conn, err := nats.Connect(s.urls[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	consumer, err := js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) { seen(m.Data()) })
	if err != nil {
		return err
	}
	defer consuming.Stop()
	ready()
	<-ctx.Done()
	return ctx.Err()
}
