// Package transaction takes one mail from its first byte to the next hop's answer, in any protocol.
//
// A mail is its sender's until the next hop has accepted it. What was stored for a mail is kept if
// the next hop has the mail or may have it, and deleted otherwise: a mail that arrives twice is
// better than a link that leads nowhere.
//
// A door (an SMTP relay, a filter) speaks its protocol and calls, in this order:
//
//	tx := transaction.Begin(cfg, envelope, source, log)
//	defer tx.Close(ctx)       // settles a mail that was not settled, after a panic too
//	tx.Receive(ctx, patience) // the mail is read, and its attachments are stored
//	tx.WriteTo(w)             // the next hop gets all of the rewritten mail but its end
//	tx.Commit(ctx)            // the links work: the last step before the mail's end
//	tx.Settle(ctx, fate)      // what the next hop answered, or that the answer is unknown
//
// After an error the door skips to Settle, and tells the client that the mail was not accepted. A
// SenderLimit bounds what is stored for each sender and day.
package transaction
