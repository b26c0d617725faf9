package agentssh

import "os"

// signalOf returns the only signal there is on Windows.
func signalOf(string) os.Signal { return os.Kill }

func isNoSuchProcess(error) bool { return false }

func isEndOfTerminal(error) bool { return false }
