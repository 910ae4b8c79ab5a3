// Package proxy relays SMTP between a client and the next hop, and takes every mail that passes
// through a transaction (internal/transaction), which detaches its attachments.
//
// A message is accepted only after the next hop has accepted it. Any failure before that is a 4xx,
// and the sender, who still owns the mail, tries again. The next hop never delivers half a message.
//
// # A session
//
// On accept the next hop is dialed and its greeting relayed. Commands are relayed one at a time, as
// raw lines, and replies come back verbatim, so XFORWARD, DSN, SMTPUTF8 and addresses of any form
// pass uninterpreted. We note the envelope that the next hop has accepted. Three things differ: an
// EHLO reply keeps only the keywords that we can honor (filterEHLO); SIZE= is removed from MAIL,
// because the next hop will never see a mail of that size (takeSize); and a command that is neither
// of RFC 5321 nor of an offered keyword is refused, LHLO, STARTTLS, AUTH and BDAT among them. A
// lost next hop is not dialed again: the client is told 421 and opens a new session, as Postfix
// does for each message anyway.
//
// # A message
//
// We answer DATA with 354 ourselves and read the message to CRLF . CRLF. Its attachments are stored
// while it arrives, and NOOP keeps the next hop awake while a slow client sends. When all is stored
// we say DATA to the next hop, write the rewritten message, make the links work (Commit), send the
// final dot and relay the answer. A message whose header shows that nothing can be detached goes to
// the next hop while it arrives. The code is in message.go, in this order.
//
//	S0 connected  no mail                       │ failure: closed, nothing to undo
//	S1 envelope   the next hop has a sender     │ failure: closed, nothing to undo
//	S2 receiving  attachments are being stored  │ failure: 451, nothing passed on, batch discarded
//	S3 received   all is stored                 │ failure: 451, nothing passed on, batch discarded
//	S4 sent       links work, final dot sent    │ failure: 451, batch kept: the mail may be out
//	S5 answered   2xx: relayed, batch kept      │ 4xx, 5xx: relayed, batch discarded
//
// Two rules have no exception. Never a false start: after a failure inside data we read on to the
// real end of the message, or close, and never read the message's text as a command. Never a false
// end: a message that the next hop has in part is abandoned by closing that connection, because any
// command would become part of its text, and a final dot would deliver half of it.
//
// # Bytes
//
// Dots are un-stuffed and stuffed again, never copied through, so that both sides agree on where
// the message ends. For the same reason a bare CR or LF before a dot is changed (see dotWriter),
// and a final CRLF is added. Other bare CRs and LFs, NUL and lines of any length pass unchanged.
//
// # Time
//
// Deadlines follow progress, so a slow client is never cut while it sends. The client itself waits
// when the store takes nothing more, and after its final dot. Postfix waits 100 s, so we give up
// after Timeouts.Reply. A client gets no further ahead of the store than socketSize, so that we
// read its final dot, which starts the client's timeout, soon after it was sent.
//
// A client that leaves before our final dot takes its message back. A half-close counts as leaving,
// unless a pipelined command (QUIT) is already there. While the store takes nothing we read
// nothing, so a disconnect is noticed only when we give up.
package proxy
