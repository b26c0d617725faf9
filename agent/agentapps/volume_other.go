//go:build !linux && !darwin

package agentapps

import "errors"

func volumeUsage(string) (Usage, error) {
	return Usage{}, errors.New("volumes cannot be measured on this system")
}
