//go:build !unix

package main

import "os"

// followSize has nothing to follow.
func followSize(*os.File, func(height, width int)) (stop func()) { return func() {} }
