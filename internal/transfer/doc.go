// Package transfer decodes transfer encodings (RFC 2045 section 6), and encodes again.
//
// The invariant: bytes that an exact Decoder decoded, encoded again in the Layout it recorded, are
// the bytes that were received. Content of which that is not certain is ErrDamaged.
//
// There are two decoders of each encoding, because their readers want opposite things:
//
//   - NewExact decodes an attachment while it arrives. It is strict, for the same bytes must be
//     made again; base64.go, quoted.go and layout.go belong to it.
//   - DecodeText decodes one of a mail's texts, to read it. It is tolerant, as mail programs are,
//     and says where they may differ; EncodeQuoted and EncodeBase64 encode a text. (text.go)
package transfer
