package lab

import (
	"errors"
	"syscall"
)

// refused tells a closed port from everything else.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
