package main

import (
	"github.com/spf13/cobra"
)

func newMeshCmd(a *app) *cobra.Command {
	return group("mesh", "The mesh itself: test delivery, watch it", newMeshTestCmd(a), newMeshPeersCmd(a), newMeshAdaptCmd(a), newMeshAgentCmd(a))
}
