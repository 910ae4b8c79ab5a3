// Package transfer decodes transfer encodings (RFC 2045 section 6), and encodes again.
//
// The invariant: decoding with an exact Decoder, and encoding in the Layout it recorded, gives the
// received bytes. Content for which this is not certain is refused with ErrDamaged.
//
// Each encoding has two decoders, because their callers want opposite things:
//
//   - NewExact decodes an attachment while it arrives: text that all mail programs decode alike, if
//     the same bytes can be made again. From quoted-printable it learns the rule of the encoder. It
//     consists of base64.go, quoted.go, rule.go, match.go and layout.go.
//   - DecodeText decodes one of a mail's texts, to read it. It is tolerant, as mail programs are,
//     and reports where they may differ. EncodeQuoted and EncodeBase64 encode a text. (text.go)
package transfer
