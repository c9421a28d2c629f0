package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
)

const (
	cniDir  = "/etc/cni/net.d"
	cniFile = "10-podnet.conflist"
	// The mark of our routes, which finds those of nodes that are gone.
	routeProtocol = 0x63
)

// node is the machine that this runs on.
type node struct {
	name   string
	podNet *net.IPNet // of all nodes together
	rules  string     // the rules loaded last
}

func (n *node) reconcile(seen observed) error {
	routes := map[string]net.IP{}
	var own string
	for _, other := range seen.nodes {
		switch {
		case other.Spec.PodCIDR == "":
		case other.Name == n.name:
			own = other.Spec.PodCIDR
		default:
			if address := internalIP(other); address != nil {
				routes[other.Spec.PodCIDR] = address
			}
		}
	}
	if own == "" {
		return fmt.Errorf("node %s has no pod CIDR yet", n.name)
	}
	if err := syncRoutes(routes); err != nil {
		return err
	}
	if err := n.load(ruleset(n.name, own, n.podNet.String(), seen)); err != nil {
		return err
	}
	return writeCNI(own) // last: the file makes the node Ready
}

func internalIP(node *corev1.Node) net.IP {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			if ip := net.ParseIP(address.Address).To4(); ip != nil {
				return ip
			}
		}
	}
	return nil
}

// syncRoutes makes our routes these: the gateway by destination.
func syncRoutes(want map[string]net.IP) error {
	have, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range have {
		if route.Dst == nil {
			continue
		}
		gateway, wanted := want[route.Dst.String()]
		switch {
		case wanted && gateway.Equal(route.Gw):
			delete(want, route.Dst.String())
		case !wanted:
			log.Printf("route %s via %s: removed", route.Dst, route.Gw)
			if err := netlink.RouteDel(&route); err != nil {
				return fmt.Errorf("remove route %s: %w", route.Dst, err)
			}
		}
	}
	for cidr, gateway := range want {
		_, destination, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: destination, Gw: gateway, Protocol: routeProtocol}); err != nil {
			return fmt.Errorf("route %s via %s: %w", cidr, gateway, err)
		}
		log.Printf("route %s via %s", cidr, gateway)
	}
	return nil
}

// load replaces our tables, in one step, if the rules have changed.
func (n *node) load(rules string) error {
	if rules == n.rules {
		return nil
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, output)
	}
	n.rules = rules
	log.Printf("loaded %d lines of rules", strings.Count(rules, "\n"))
	return nil
}

func writeCNI(podCIDR string) error {
	type object = map[string]any
	content, err := json.MarshalIndent(object{
		"cniVersion": "0.4.0",
		"name":       "podnet",
		"plugins": []object{{
			"type": "ptp", "ipMasq": false,
			"ipam": object{
				"type": "host-local", "dataDir": "/run/cni-ipam-state",
				"routes": []object{{"dst": "0.0.0.0/0"}},
				"ranges": [][]object{{{"subnet": podCIDR}}},
			},
		}, {
			"type": "portmap", "capabilities": object{"portMappings": true},
		}},
	}, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(cniDir, cniFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(content) {
		return nil
	}
	// In the same folder, under a name that the runtime does not read as a configuration.
	unfinished := filepath.Join(cniDir, "."+cniFile+".new")
	if err := os.WriteFile(unfinished, content, 0o644); err != nil {
		return err
	}
	log.Printf("pod CIDR %s: %s written", podCIDR, path)
	return os.Rename(unfinished, path)
}
