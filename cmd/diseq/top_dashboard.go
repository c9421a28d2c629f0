//go:build !nodashboard

package main

import "github.com/diseq/diseq/internal/dashboard"

// The image of a node has no dashboard (-tags nodashboard): nobody looks at a terminal there, and a
// validator needs no code that draws on one.
func init() { showDashboard, showBar = dashboard.Run, dashboard.Bar }
