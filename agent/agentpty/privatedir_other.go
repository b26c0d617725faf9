//go:build !unix

package agentpty

import "errors"

// privateDir is never reached: there is no screen.
func privateDir(string) error { return errors.ErrUnsupported }
