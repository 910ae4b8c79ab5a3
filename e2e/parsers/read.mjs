// Reads mails as mail programs do: by mailparser, which many web mailers use, and postal-mime,
// which runs in browsers. Each line of the input is {"mail": base64}. Each line of the output has
// for each of the two the text and the HTML that it shows, and the files that it lists.
import crypto from 'node:crypto';
import readline from 'node:readline';
import { simpleParser } from 'mailparser';
import PostalMime from 'postal-mime';

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');

// file describes a file of a mail. lines is the content with LF for each line end, and none at the
// end: the programs change the line ends of files that have no transfer encoding.
function file(name, type, content) {
  const bytes = Buffer.from(content);
  const lines = Buffer.from(bytes.toString('latin1').replace(/\r\n/g, '\n').replace(/\n+$/, ''), 'latin1');
  return { name: name || '', type: type || '', sha256: sha256(bytes), lines: sha256(lines), size: bytes.length };
}

async function mailparser(mail) {
  const m = await simpleParser(mail, { keepCidLinks: true, skipTextLinks: true });
  return { text: m.text || '', html: m.html || '', files: m.attachments.map((a) => file(a.filename, a.contentType, a.content)) };
}

async function postalMime(mail) {
  const m = await new PostalMime().parse(mail);
  return { text: m.text || '', html: m.html || '', files: m.attachments.map((a) => file(a.filename, a.mimeType, a.content)) };
}

const orError = (view) => view.catch((error) => ({ error: String(error) }));

for await (const line of readline.createInterface({ input: process.stdin })) {
  const mail = Buffer.from(JSON.parse(line).mail, 'base64');
  const views = { mailparser: await orError(mailparser(mail)), postalMime: await orError(postalMime(mail)) };
  process.stdout.write(JSON.stringify(views) + '\n');
}
