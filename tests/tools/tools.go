//go:build tools

// Package tools names the programs that tests and benches measure varve against or talk to it with.
// Importing them here makes go.mod and go.sum pin them; `cargo xtask bench` builds them.
package tools

import (
	_ "github.com/moby/buildkit/cmd/buildctl"
	_ "github.com/moby/buildkit/cmd/buildkitd"
)
