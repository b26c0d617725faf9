// Package licence reads and writes signed licence files: who may use the
// deployment, for how many people, until when. A file is JSON with two fields in
// base64: claims, which are JSON themselves, and an Ed25519 signature of exactly
// those bytes behind a line that says what they are. Nothing of the claims is
// looked at before the signature is verified.
//
// A licence that has expired stays known, and its limit is no longer enforced:
// nobody loses the work of the day because a file is late. One that was forged or
// damaged is none.
package licence
