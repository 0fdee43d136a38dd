// Command pulumi-resource-tls serves the Terraform provider tls as Pulumi's provider of that name.
package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-provider-tls/shim"
	bridge "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
)

// Set by the linker: the number that programs ask for, and the Go module that this is made from.
var version string

func main() {
	info := tfbridge.ProviderInfo{
		P:                              bridge.ShimProvider(shim.New()),
		Name:                           "tls",
		Version:                        version,
		MetadataInfo:                   tfbridge.NewProviderMetadata([]byte("{}")),
		EnableZeroDefaultSchemaVersion: true,
		EnableAccurateBridgePreview:    true,
	}
	info.MustComputeTokens(tokens.SingleModule("tls_", "index", tokens.MakeStandard("tls")))
	// Programs bring the schema in their SDK: the engine asks the provider for no more than its name and version.
	schema := fmt.Sprintf(`{"name": "tls", "version": %q}`, version)
	bridge.Main(context.Background(), "tls", info, bridge.ProviderMetadata{
		PackageSchema:  []byte(schema),
		BridgeMetadata: []byte("{}"),
	})
}
