package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
)

// options are the flags.
type options struct {
	namespaces          []string
	nodeImage           string
	leaderElect         bool
	leaderNamespace     string
	metricsAddress      string
	metricsInsecure     bool
	metricsCertificates string
	probeAddress        string
	resync              time.Duration
	concurrency         int
	logLevel, logFormat string
}

func defaults() options {
	return options{
		nodeImage:      "diseq:dev",
		metricsAddress: ":8443",
		probeAddress:   ":8081",
		resync:         8 * time.Second,
		concurrency:    4,
		logLevel:       "info",
		logFormat:      "text",
	}
}

func (o *options) register(f *pflag.FlagSet) {
	f.StringSliceVar(&o.namespaces, "watch-namespace", o.namespaces,
		"namespaces whose networks the operator runs, separated by commas or in several flags; all namespaces if left out")
	f.StringVar(&o.nodeImage, "node-image", o.nodeImage, "image of the nodes of networks without spec.image")
	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect,
		"work only as the holder of the lease diseq-operator, so that one of several operators works at a time")
	f.StringVar(&o.leaderNamespace, "leader-election-namespace", o.leaderNamespace,
		"namespace of the lease; inside a cluster the operator's own namespace if left out")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", o.metricsAddress, "address of the metrics, host:port; 0 turns them off")
	f.BoolVar(&o.metricsInsecure, "metrics-insecure", o.metricsInsecure, "serve the metrics over plain HTTP to everybody")
	f.StringVar(&o.metricsCertificates, "metrics-cert-path", o.metricsCertificates,
		"directory of tls.crt and tls.key for the metrics, read again when they change; a self-signed certificate if left out")
	f.StringVar(&o.probeAddress, "health-probe-bind-address", o.probeAddress, "address of /healthz and /readyz, host:port; 0 turns them off")
	f.DurationVar(&o.resync, "resync", o.resync, "time between two checks of the nodes of a network without events, 1s to 1h")
	f.IntVar(&o.concurrency, "concurrency", o.concurrency, "number of networks that are reconciled at the same time, 1 to 64")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "lowest level of log lines: debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", o.logFormat, "format of log lines: text or json")
}

// validate checks every flag; the error names the wrong flag, its value and the allowed values.
func (o *options) validate() error {
	var errs []error
	wrong := func(flag string, value any, want string) {
		errs = append(errs, fmt.Errorf("--%s: %q: want %s", flag, fmt.Sprint(value), want))
	}
	for _, namespace := range o.namespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			wrong("watch-namespace", namespace, "a namespace: 1 to 63 of a-z, 0-9 and '-', a letter or digit at both ends")
		}
	}
	if o.nodeImage == "" || strings.ContainsAny(o.nodeImage, " \t\n") {
		wrong("node-image", o.nodeImage, "the name of an image")
	}
	if o.leaderNamespace != "" && len(validation.IsDNS1123Label(o.leaderNamespace)) > 0 {
		wrong("leader-election-namespace", o.leaderNamespace, "a namespace")
	}
	for flag, address := range map[string]string{"metrics-bind-address": o.metricsAddress, "health-probe-bind-address": o.probeAddress} {
		if address == "0" {
			continue
		}
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil || port == "" {
			wrong(flag, address, "host:port, such as :8443, or 0")
		}
	}
	if o.metricsInsecure && o.metricsCertificates != "" {
		wrong("metrics-cert-path", o.metricsCertificates, "nothing with --metrics-insecure")
	}
	if o.metricsCertificates != "" {
		for _, file := range []string{certificateFile, keyFile} {
			if _, err := os.Stat(o.metricsCertificates + "/" + file); err != nil {
				wrong("metrics-cert-path", o.metricsCertificates, "a directory with "+file+" ("+err.Error()+")")
			}
		}
	}
	if o.resync < time.Second || o.resync > time.Hour {
		wrong("resync", o.resync, "1s to 1h")
	}
	if o.concurrency < 1 || o.concurrency > 64 {
		wrong("concurrency", o.concurrency, "1 to 64")
	}
	var level slog.Level
	if level.UnmarshalText([]byte(o.logLevel)) != nil || strings.ContainsAny(o.logLevel, "+-") {
		wrong("log-level", o.logLevel, "debug, info, warn or error")
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		wrong("log-format", o.logFormat, "text or json")
	}
	return errors.Join(errs...)
}

// handler writes the log.
func (o *options) handler(w io.Writer) slog.Handler {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		level = slog.LevelInfo // validate refuses such a level
	}
	if o.logFormat == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}
