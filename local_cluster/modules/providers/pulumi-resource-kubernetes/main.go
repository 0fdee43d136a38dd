// Command pulumi-resource-kubernetes serves Pulumi's Kubernetes provider. Upstream's own main embeds files that are
// generated at release time; the two here are made from the module's own when this is built.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

// Set by the linker: the number that programs ask for, and the Go module that this is made from.
var version string

func main() { provider.Serve("kubernetes", version, schema, terraformMapping) }
