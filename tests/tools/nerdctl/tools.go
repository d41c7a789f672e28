//go:build tools

// Package tools names nerdctl, which tests run on containerd with varve as its snapshotter. Importing
// it here makes go.mod and go.sum pin it; it is a module of its own because it needs an older
// containerd than BuildKit does.
package tools

import _ "github.com/containerd/nerdctl/cmd/nerdctl"
