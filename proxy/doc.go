// Package proxy relays SMTP between a client and the next hop, and takes the attachments out of the
// mail that passes.
//
// A message is accepted only after the next hop has accepted it. Whatever fails before that is a
// 451 of ours, and the sender, who still owns the mail, tries again; nothing half-done reaches the
// next hop, and what was stored for the mail is deleted. All the rest follows.
//
// # A session
//
// On accept the next hop is dialled and its greeting relayed. Commands go to it one at a time, as
// the lines they are, and its answers come back verbatim, so XFORWARD, DSN, SMTPUTF8 and addresses of
// any form work without our knowing them. Three things are ours: of the EHLO answer only keywords
// pass that we can honour (filterEHLO); SIZE= is taken out of MAIL, for it is the size of a mail
// that the next hop will never see (takeSize); and STARTTLS, AUTH and BDAT are refused. A next
// hop that is lost is not dialled again: the client is told 421 and comes back with a new session,
// as Postfix does for each message anyway.
//
// # A message
//
// message.go has its way from top to bottom. To DATA we answer 354 ourselves and read the message to
// CRLF . CRLF. Its attachments are stored while it arrives; a slow client's next hop is kept awake
// with NOOP. When all is stored we say DATA to the next hop, write the rewritten message, make the
// links work (Commit), send the final dot and relay the answer. A message whose header shows that
// nothing can be detached goes to the next hop while it arrives.
//
//	S0 connected  no mail                       │ failure: closed, nothing to undo
//	S1 envelope   the next hop has a sender     │ failure: closed, nothing to undo
//	S2 receiving  attachments are being stored  │ failure: 451, nothing passed on, batch discarded
//	S3 received   all is stored                 │ failure: 451, nothing passed on, batch discarded
//	S4 sent       links work, final dot sent    │ failure: 451, batch kept: the mail may be out
//	S5 answered   2xx: relayed, batch kept      │ 4xx, 5xx: relayed, batch discarded
//
// Two rules have no exception. Never a false start: after a failure inside data we read on to the
// real end of the message, or close; the message's text is never read as a command. Never a false
// end: a message that the next hop has in part is abandoned by closing that connection, for any
// command would become its text, and a final dot would deliver half of it.
//
// # Bytes
//
// Dots are un-stuffed and stuffed again, never copied through, so that both sides agree on where the
// message ends; see dotWriter for the one line end that is changed for it, a bare LF before a dot.
// Bare CR, bare LF, NUL and lines of any length pass as they are. A message that does not end with
// CRLF is given one.
//
// # Time
//
// Deadlines follow progress, so a slow client is never cut while it sends something. When it is the
// client that waits, because the store takes nothing more, or after its final dot, Postfix waits for
// 100 s: we give up after Timeouts.Reply. So that its final dot does not lie unread for long before
// that, a client gets no further ahead of the store than socketSize. A client that leaves before our
// final dot went out takes its message back. One that closes its sending side has left, unless it has
// already said what comes next (QUIT). If it leaves while the store takes nothing, its end lies behind
// data that nobody reads: then it is found out when we give up.
package proxy
