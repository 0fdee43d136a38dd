// Package shim reaches into terraform-provider-tls: Go lets packages below its path import its internal ones.
package shim

import (
	"github.com/hashicorp/terraform-plugin-framework/provider"
	tls "github.com/hashicorp/terraform-provider-tls/internal/provider"
)

// New returns the Terraform provider.
func New() provider.Provider { return tls.New() }
