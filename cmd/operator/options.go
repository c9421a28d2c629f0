package main

import (
	"cmp"
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

	"github.com/diseq/diseq/controllers/resources"
)

// options are the flags.
type options struct {
	namespaces          []string
	nodeImage           string
	allowedImages       string
	allowedSidecars     string
	allowedAnnotations  []string
	allowedPodLabels    []string
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
	f.StringVar(&o.allowedImages, "allowed-node-images", o.allowedImages,
		"regular expression (RE2) that spec.image of a network has to match as a whole; .* for every image. "+
			"If left out, the repository of --node-image, with any tag or digest")
	f.StringVar(&o.allowedSidecars, "allowed-sidecar-images", o.allowedSidecars,
		"the same for the images of spec.podTemplate.containers and initContainers. If left out, as --allowed-node-images is by default")
	f.StringSliceVar(&o.allowedAnnotations, "allowed-annotations", o.allowedAnnotations,
		"annotations that a network may put on its pods, accounts and Service: keys, prefixes such as example.com/*, or * for all. "+
			"If left out, those without a prefix alone, which are always allowed")
	f.StringSliceVar(&o.allowedPodLabels, "allowed-pod-labels", o.allowedPodLabels,
		"labels that a network may put on its pods: keys, prefixes such as example.com/*, or * for all. None if left out")
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
	o.validateAllowed(wrong)
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

// validateAllowed checks the flags about specs.
func (o *options) validateAllowed(wrong func(flag string, value any, want string)) {
	for flag, expression := range map[string]string{"allowed-node-images": o.allowedImages, "allowed-sidecar-images": o.allowedSidecars} {
		if _, err := resources.Images(expression); err != nil {
			wrong(flag, expression, "a regular expression (RE2): "+err.Error())
		}
	}
	for flag, keys := range map[string][]string{"allowed-annotations": o.allowedAnnotations, "allowed-pod-labels": o.allowedPodLabels} {
		for _, key := range keys {
			if !resources.ValidKey(key) {
				wrong(flag, key, "a key such as team or example.com/team, a prefix such as example.com/*, or *")
			}
		}
	}
}

// allowed is what specs may ask for. The options are valid.
func (o *options) allowed() (*resources.Allowed, error) {
	byDefault := resources.ImagesOf(o.nodeImage)
	nodes, err := resources.Images(cmp.Or(o.allowedImages, byDefault))
	if err != nil {
		return nil, fmt.Errorf("--allowed-node-images: %w", err)
	}
	sidecars, err := resources.Images(cmp.Or(o.allowedSidecars, byDefault))
	if err != nil {
		return nil, fmt.Errorf("--allowed-sidecar-images: %w", err)
	}
	return &resources.Allowed{
		NodeImages: nodes, SidecarImages: sidecars, Annotations: o.allowedAnnotations, PodLabels: o.allowedPodLabels,
	}, nil
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
