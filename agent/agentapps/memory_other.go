//go:build !linux

package agentapps

import "errors"

func memoryUsage(string) (Usage, error) {
	return Usage{}, errors.New("memory cannot be measured on this system")
}
