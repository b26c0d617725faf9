package wire

import (
	"fmt"

	"github.com/google/uuid"
)

// UUID reads an identifier out of a bytes field: exactly 16 bytes.
func UUID(field string, b []byte) (uuid.UUID, error) {
	if len(b) != len(uuid.UUID{}) {
		return uuid.UUID{}, fmt.Errorf("%s has %d bytes, not 16", field, len(b))
	}
	return uuid.UUID(b), nil
}
