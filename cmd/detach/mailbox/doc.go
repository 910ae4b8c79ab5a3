// Package mailbox is the demo's mail server and mail reader: what is delivered by SMTP is kept in memory and shown on a web page.
//
// It shows mails as they were delivered, and trusts none of them: HTML is shown in a sandboxed frame, without scripts and without
// loading anything. It is for one person looking at one demonstration, never for real mail.
package mailbox
