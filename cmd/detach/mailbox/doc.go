// Package mailbox is the mail server and mail reader of the demo, never of real mail.
//
// The invariant: it trusts no mail. It keeps mails in memory as SMTP delivered them, and shows them
// on a web page; their HTML is in a sandboxed frame, where no script runs and nothing is loaded.
package mailbox
