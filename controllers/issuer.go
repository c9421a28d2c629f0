package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/diseq/diseq/controllers/resources"
)

const (
	// keysAge is how often the operator reads the public keys of the cluster's tokens. A cluster
	// shows new keys for hours before it signs with them, or signs with them from a restart on.
	keysAge = 10 * time.Minute
	// keysAgain is the wait after an attempt that failed, and keysTimeout bounds one.
	keysAgain   = 30 * time.Second
	keysTimeout = 5 * time.Second
	// maxKeys bounds the keys in bytes: a ConfigMap holds them beside the access file.
	maxKeys = 64 << 10
)

// Where an API server shows the issuer of its tokens and their keys.
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/openid/v1/jwks"
)

// AskIssuer asks the API server for the issuer and the public keys of the cluster's tokens.
type AskIssuer func(ctx context.Context) (*resources.ClusterIssuer, error)

// clusterIssuer remembers the public keys of the cluster's tokens, for all networks.
type clusterIssuer struct {
	ask AskIssuer

	mu    sync.Mutex
	found *resources.ClusterIssuer
	// at is when they were read, tried when the last attempt began, err why that failed.
	at, tried time.Time
	err       error
}

// get returns the keys as they were read last, and why the last attempt failed, if it did. They are
// nil if no attempt succeeded since the start of the operator.
func (c *clusterIssuer) get(ctx context.Context, now time.Time) (*resources.ClusterIssuer, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := keysAge
	if c.err != nil {
		wait = keysAgain
	}
	if !c.tried.IsZero() && now.Sub(c.tried) < wait {
		return c.found, c.at, c.err
	}
	c.tried = now
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	found, err := c.ask(ctx)
	if err == nil {
		err = checkIssuer(found)
	}
	if c.err = err; err == nil {
		c.found, c.at = found, now
	}
	return c.found, c.at, c.err
}

// checkIssuer refuses an answer that no node could use.
func checkIssuer(found *resources.ClusterIssuer) error {
	var keys struct {
		Keys []map[string]any `json:"keys"`
	}
	switch err := json.Unmarshal(found.JWKS, &keys); {
	case found.Issuer == "":
		return errors.New("the API server names no issuer in " + discoveryPath)
	case err != nil:
		return fmt.Errorf("%s: %w", keysPath, err)
	case len(keys.Keys) == 0:
		return errors.New(keysPath + " has no keys")
	case len(found.JWKS) > maxKeys:
		return fmt.Errorf("%s has %d bytes, allowed are %d", keysPath, len(found.JWKS), maxKeys)
	}
	return nil
}

// askIssuer asks as the API server allows every ServiceAccount to.
func askIssuer(config *rest.Config) (AskIssuer, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion, config.NegotiatedSerializer = &schema.GroupVersion{}, serializer.NewCodecFactory(runtime.NewScheme())
	server, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("issuer of tokens: %w", err)
	}
	get := func(ctx context.Context, path string) ([]byte, error) {
		raw, err := server.Get().AbsPath(path).DoRaw(ctx)
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", path, err)
		}
		return raw, nil
	}
	return func(ctx context.Context) (*resources.ClusterIssuer, error) {
		raw, err := get(ctx, discoveryPath)
		if err != nil {
			return nil, err
		}
		var configuration struct {
			Issuer string `json:"issuer"`
		}
		if err = json.Unmarshal(raw, &configuration); err != nil {
			return nil, fmt.Errorf("%s: %w", discoveryPath, err)
		}
		keys, err := get(ctx, keysPath)
		if err != nil {
			return nil, err
		}
		return &resources.ClusterIssuer{Issuer: configuration.Issuer, JWKS: keys}, nil
	}, nil
}
