//go:build !crashpoints

package main

import "github.com/lotse-eu/lotse/internal/deploy"

// dying is for tests alone.
func dying(c deploy.Config) deploy.Config { return c }
