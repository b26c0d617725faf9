// Package durable keeps small things on disk so that a crash at any moment loses
// nothing that was said to be written: Slots, the newest of one value, and Log, a
// bounded queue of many.
//
// Both write through an FS, so that tests can make any single operation fail, and
// both treat a failed write or fsync alike: the file it concerned is never written
// again, and what was to be in it is written to another by the next call. Files
// carry a format number and checksums (CRC-32C); a file that cannot be read is set
// aside under another name, for a human, and never stops the program.
//
// A Lock keeps two processes out of one directory. Nothing here is safe for
// concurrent use: the owner serialises.
package durable
