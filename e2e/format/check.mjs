// A second decoder of docs/format.md, written from the specification: npm's jose for meta.jwe, Node's
// crypto for the rest, and a few lines for CID, dag-pb and base58. Each vector of docs/vectors must have
// its expected outcome.

import { readdirSync, readFileSync } from 'node:fs'
import { createDecipheriv, createHash, hkdfSync, webcrypto } from 'node:crypto'
import { compactDecrypt, decodeProtectedHeader, errors } from 'jose'

globalThis.crypto ??= webcrypto // jose uses it, and Node 18, as in Debian 12, does not define it

const dir = new URL('../../docs/vectors/', import.meta.url)
const read = name => JSON.parse(readFileSync(new URL(name, dir), 'utf8'))
const sha256 = data => createHash('sha256').update(data).digest()
const hkdf = (key, info) => Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), info, 32))
const xor = (a, b) => Buffer.from(a.map((x, i) => x ^ b[i]))

class Refused extends Error {}
const refuse = why => { throw new Refused(why) }

// Section "Link".
const base58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
function decodeMultibase58(text) {
  if (text === '' || text === 'z') refuse('incomplete')
  if (text[0] !== 'z' || text.length > 45) refuse('invalid')
  let n = 0n, zeros = 0, leading = true
  for (const c of text.slice(1)) {
    const digit = base58.indexOf(c)
    if (digit < 0) refuse('invalid')
    if (leading && digit === 0) zeros++; else leading = false
    n = n * 58n + BigInt(digit)
  }
  let hex = n === 0n ? '' : n.toString(16)
  if (hex.length % 2) hex = '0' + hex
  const bytes = Buffer.concat([Buffer.alloc(zeros), Buffer.from(hex, 'hex')])
  if (bytes.length < 32) refuse('incomplete')
  if (bytes.length > 32) refuse('invalid')
  return bytes
}

function decodeCID(text) {
  if (text[0] !== 'b') refuse('invalid')
  let bits = 0n, count = 0
  for (const c of text.slice(1)) {
    const digit = 'abcdefghijklmnopqrstuvwxyz234567'.indexOf(c)
    if (digit < 0) refuse('invalid')
    bits = bits << 5n | BigInt(digit)
    count += 5
  }
  const bytes = Buffer.from((bits >> BigInt(count % 8)).toString(16).padStart(2 * Math.floor(count / 8), '0'), 'hex')
  if (bytes.length !== 36) refuse('invalid')
  return bytes
}

const [rawPrefix, dagPBPrefix] = ['01551220', '01701220']
const prefix = cid => cid.subarray(0, 4).toString('hex')

function parseLink(link) {
  const [whole, fragment = ''] = link.split('#')
  const all = whole.endsWith('/all'), head = all ? whole.slice(0, -4) : whole
  const cid = decodeCID(head.slice(head.lastIndexOf('/') + 1))
  if (prefix(cid) !== dagPBPrefix) refuse('invalid')
  return { cid, fragment: decodeMultibase58(fragment), all, base: head.slice(0, head.lastIndexOf('/')) }
}

// Section "Object": a block's hash is checked before any byte is used.
function verified(store, cid) {
  const data = store.get(cid.toString('hex')) ?? refuse('not found')
  if (!sha256(data).equals(cid.subarray(4))) refuse('corrupt')
  return data
}

// protobuf returns the fields of a message. dag-pb has varints and byte strings only.
function protobuf(data) {
  const fields = []
  let at = 0
  const varint = () => {
    let n = 0n
    for (let shift = 0n; ; shift += 7n) {
      if (at >= data.length) refuse('corrupt')
      const byte = data[at++]
      n |= BigInt(byte & 127) << shift
      if (byte < 128) return n
    }
  }
  while (at < data.length) {
    const tag = Number(varint())
    if ((tag & 7) === 0) fields.push([tag >> 3, varint()])
    else if ((tag & 7) === 2) {
      const length = Number(varint())
      fields.push([tag >> 3, data.subarray(at, at += length)])
    } else refuse('corrupt')
  }
  return fields
}
const field = (fields, number) => fields.find(f => f[0] === number)?.[1]

function entries(directory) {
  const node = protobuf(directory)
  if (field(protobuf(field(node, 1)), 1) !== 1n) refuse('corrupt') // UnixFS: a directory
  const links = node.filter(f => f[0] === 2).map(f => protobuf(f[1]))
  const map = new Map(links.map(l => [field(l, 2).toString(), field(l, 1)]))
  const known = map.has('encoded') ? 3 : 2
  if (links.length !== known || !map.has('data') || !map.has('meta.jwe')) refuse('corrupt')
  for (const cid of map.values()) if (prefix(cid) !== rawPrefix) refuse('corrupt') // the vectors' files have one block
  return map
}

// Section "meta.jwe".
function isEpoch(kid) {
  if (!/^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$/.test(kid)) return false
  const day = new Date((kid + '-01').slice(0, 10) + 'T00:00:00Z')
  return !isNaN(day) && day.toISOString().startsWith(kid)
}

function keyID(jwe, epoch) {
  const header = decodeProtectedHeader(jwe)
  if (Object.keys(header).sort().join() !== 'alg,enc,kid') refuse('corrupt')
  if (header.alg !== 'dir' || header.enc !== 'A256GCM' || jwe.split('.')[1] !== '') refuse('corrupt')
  if (header.kid !== 'link' && (!isEpoch(header.kid) || header.kid !== epoch)) refuse('corrupt')
  return header.kid
}

async function openMeta(jwe, key) {
  try {
    const { plaintext } = await compactDecrypt(jwe, hkdf(key, 'detach/v1 meta'), {
      keyManagementAlgorithms: ['dir'], contentEncryptionAlgorithms: ['A256GCM'],
    })
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plaintext))
  } catch (e) {
    if (e instanceof errors.JWEDecryptionFailed) refuse('wrong key')
    throw e
  }
}

const decrypt = (key, data) => createDecipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(data)

async function open(v) {
  const { cid, fragment } = parseLink(v.link)
  const store = new Map(v.blocks.map(b => [decodeCID(b.cid).toString('hex'), Buffer.from(b.data, 'base64')]))
  const files = entries(verified(store, cid))
  const jwe = verified(store, files.get('meta.jwe')).toString()
  const kid = keyID(jwe, v.epoch)
  let share = Buffer.alloc(32)
  if (kid !== 'link') {
    const secret = v.keys[kid] ?? refuse('key missing')
    if (secret === 'destroyed') refuse('expired')
    share = hkdf(Buffer.from(secret, 'hex'), Buffer.concat([Buffer.from('detach/v1 share'), cid]))
  }
  const key = xor(fragment, share)
  const meta = await openMeta(jwe, key)
  if (meta.expires !== null && Date.parse(v.now) >= Date.parse(meta.expires)) refuse('expired')
  const data = verified(store, files.get('data'))
  if (data.length !== meta.size) refuse('corrupt')
  const encoded = () => {
    const text = decrypt(hkdf(key, 'detach/v1 encoded'), verified(store, files.get('encoded'))), content = unquote(text)
    if (content.length !== meta.size || sha256(content).toString('hex') !== meta.sha256) refuse('corrupt')
    return text
  }
  return { key, share, meta, attachment: decrypt(key, data), encoded }
}

let failures = 0
function want(what, got, expected) {
  if (got === expected) return
  failures++
  console.error(`${what}: got ${got}, want ${expected}`)
}

// outcome compares the outcome of a vector, and if it decodes, calls compare.
async function outcome(name, expect, decode, compare) {
  try {
    const got = await decode()
    want(name, 'ok', expect)
    compare(got)
  } catch (e) {
    if (!(e instanceof Refused)) throw e
    want(name, e.message, expect)
  }
}

async function checkObject(name) {
  const v = read(name)
  let object
  await outcome(name, v.expect, () => open(v), o => {
    object = o
    want(`${name}: key`, o.key.toString('hex'), v.key)
    want(`${name}: share`, o.share.toString('hex'), decodeMultibase58(v.share).toString('hex'))
    want(`${name}: meta`, JSON.stringify(o.meta), JSON.stringify(v.meta))
    want(`${name}: attachment`, o.attachment.toString('base64'), v.attachment)
    want(`${name}: sha256`, sha256(o.attachment).toString('hex'), o.meta.sha256)
  })
  if (v.expect_encoded) {
    await outcome(`${name}: encoded`, v.expect_encoded, () => object.encoded(), got => want(`${name}: encoded`, got.toString('base64'), v.encoded))
  }
}

function checkKeystream({ key, streams }) {
  for (const { offset, bytes } of streams) {
    const counter = Buffer.alloc(16)
    counter.writeBigUInt64BE(BigInt(offset) / 16n, 8)
    const cipher = createDecipheriv('aes-256-ctr', Buffer.from(key, 'hex'), counter)
    const stream = cipher.update(Buffer.alloc(offset % 16 + bytes.length / 2)).subarray(offset % 16)
    want(`key stream at ${offset}`, stream.toString('hex'), bytes)
  }
}

// Data of one block has the key stream's hash as its CID.
function checkData({ key, files }) {
  for (const { size, cid } of files.filter(f => f.size <= 1 << 20)) {
    const data = decrypt(Buffer.from(key, 'hex'), Buffer.alloc(size))
    want(`data of ${size} bytes`, rawPrefix + sha256(data).toString('hex'), decodeCID(cid).toString('hex'))
  }
}

function checkTicket(v) {
  const [epoch, encoded] = v.ticket.split('.')
  const sealed = Buffer.from(encoded, 'base64url')
  const gcm = createDecipheriv('aes-256-gcm', hkdf(Buffer.from(v.secret, 'hex'), 'detach/v1 ticket'), sealed.subarray(0, 12))
  gcm.setAAD(decodeCID(v.cid))
  gcm.setAuthTag(sealed.subarray(-16))
  const plain = Buffer.concat([gcm.update(sealed.subarray(12, -16)), gcm.final()])
  want('ticket: epoch', epoch, v.epoch)
  want('ticket: fragment', plain.subarray(0, 32).toString('hex'), decodeMultibase58(v.fragment).toString('hex'))
  want('ticket: until', Number(plain.readBigUInt64BE(32)) * 1000, Date.parse(v.until))
}

// Section "The skeleton".
function crc32c(data) {
  let crc = 0xffffffff
  for (const byte of data) {
    crc ^= byte
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0')
}

function parseJSON(text) {
  try {
    return JSON.parse(text)
  } catch {
    refuse('invalid')
  }
}

const whole = (n, from) => { if (!Number.isInteger(n) || n < from) refuse('invalid') }

function encode({ encoding, lines = [], tail = '', rule, exceptions = [] }, content, encoded, room) {
  if (encoding !== 'base64' && lines.length || encoding !== 'quoted-printable' && (rule || exceptions.length)) refuse('invalid')
  if (lines.length > 65 || exceptions.length > 64) refuse('invalid')
  switch (encoding) {
    case 'identity':
      if (!['', '\n', '\r\n'].includes(tail)) refuse('invalid')
      return Buffer.concat([content, Buffer.from(tail)])
    case 'base64':
      return encodeBase64(lines, tail, content, room)
    case 'quoted-printable':
    case 'encoded':
      if (!/^[= \t\r\n]*$/.test(tail)) refuse('invalid')
      return Buffer.concat([encoding === 'encoded' ? encoded : encodeQuoted(rule ?? refuse('invalid'), exceptions, content), Buffer.from(tail)])
  }
  refuse('invalid')
}

// A quoted-printable rule, as section "The layout" tells it.
function encodeQuoted({ lower, crlf, lf, escape = '', start = '', trail, soft = '', break: b }, exceptions, data) {
  const { kind = '', limit = 0, last = 0, last_escape: lastEscape = 0, unit = '', late, eager, after_lf: afterLF } = b
  if (!['', 'fill', 'word', 'column'].includes(kind) || !['', 'utf-8', 'php'].includes(unit) || !['', '\n', '\r\n'].includes(soft)) refuse('invalid')
  if ((kind === '') !== (limit === 0) || !(limit >= 0 && limit <= 200) || kind !== '' && soft === '') refuse('invalid')
  for (const set of [escape, start]) if (!/^[\t -<>-~]*$/.test(set) || [...set].sort().join('') !== set) refuse('invalid')
  exceptions.forEach(({ at, soft: s }, i) => { if (i > 0 && at <= exceptions[i - 1].at || s && soft === '') refuse('invalid') })

  const space = 0x20, tab = 9, CR = 13, LF = 10
  const isBlank = c => c === space || c === tab
  let at = 0, column = 0, out = [], before = {}
  const viewEnd = () => Math.min(data.length, at + 256)
  const lineEnd = i => crlf && i + 1 < viewEnd() && data[i] === CR && data[i + 1] === LF ? 2 : lf && i < viewEnd() && data[i] === LF ? 1 : 0
  const ends = i => i === data.length || i < viewEnd() && lineEnd(i) > 0
  const isEscaped = (i, column) => {
    const c = data[i]
    if (lineEnd(i)) return false
    if (c === 0x3d || c < space && c !== tab || c >= 0x7f) return true
    if (isBlank(c)) {
      let end = i + 1
      while (end < viewEnd() && end - i < 16 && isBlank(data[end])) end++
      if (ends(end) && (end === i + 1 || trail)) return true
    }
    if (column === 0 && !(c === 0x46 && data.subarray(i, Math.min(i + 5, viewEnd())).toString() !== 'From ')) return start.includes(String.fromCharCode(c))
    return escape.includes(String.fromCharCode(c))
  }
  const word = () => {
    let width = 0
    for (let i = at; width <= limit; i++) {
      if (ends(i)) return [width, true]
      if (i === viewEnd()) break
      width += isEscaped(i, 1) ? 3 : 1
      if (data[i] === space) break
    }
    return [width, false]
  }
  const fills = () => {
    const c = data[at], escaped = isEscaped(at, column), ending = ends(at + 1)
    let width = 1, most = limit
    if (escaped && !(late && ending && isBlank(c))) {
      width = 3
      if (unit && c >= 0x80) width = c < 0xe0 ? 6 : c < 0xf0 ? 9 : 12
      if (unit === 'utf-8' && c >= 0x80 && c < 0xc0 || unit === 'php' && c >= 0xf5) width = 0
      if (ending) most += lastEscape
    } else if (ending) most += last
    return column + width > most
  }
  const isBroken = () => {
    if (column === 0 || kind === '') return false
    if (lineEnd(at)) return Boolean(eager) && column >= limit
    if (before.escaped && before.c === LF && afterLF) return true
    if (kind === 'column') return column >= limit
    if (kind === 'word' && !before.escaped && before.c === space && data[at] !== space) {
      const [width, ending] = word()
      if (width <= limit) return column + width - (ending ? last : 0) > limit
    }
    return fills()
  }
  exceptions = [...exceptions]
  while (at < data.length) {
    const c = data[at]
    let broken = isBroken(), escaped = isEscaped(at, broken ? 0 : column), length = 1
    if (exceptions[0]?.at === at) ({ soft: broken = false, escaped = false } = exceptions.shift())
    if (broken) {
      out.push('=', soft)
      column = 0
    }
    if (escaped) {
      const digits = c.toString(16).padStart(2, '0')
      out.push('=', lower ? digits : digits.toUpperCase())
      column += 3
    } else {
      if (c === CR && data[at + 1] === LF) length = 2
      out.push(data.subarray(at, at + length).toString('latin1'))
      column = length === 2 || c === LF ? 0 : column + 1
    }
    before = { c, escaped }
    at += length
  }
  if (exceptions.length) refuse('invalid')
  return Buffer.from(out.join(''), 'latin1')
}

// unquote decodes quoted-printable about which all programs agree (section "Object").
function unquote(text) {
  let s = text.toString('latin1')
  if (/=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n)|[^\t\n\r -~]|\r(?!\n)/.test(s) || /(^|[^= \t])[ \t]+(\r?\n|$)/.test(s)) refuse('corrupt')
  s = s.replace(/=[ \t]*\r?\n/g, '').replace(/=([0-9A-Fa-f]{2})/g, (_, digits) => String.fromCharCode(parseInt(digits, 16)))
  return Buffer.from(s, 'latin1')
}

function encodeBase64(lines, tail, content, room) {
  const over = content.length % 3
  if (tail.length > 4 || /[^A-Za-z0-9+/=]/.test(tail) || tail && over && tail.replace(/=+$/, '').length !== over + 1) refuse('invalid')
  let text = (tail ? content.subarray(0, content.length - over) : content).toString('base64') + tail, out = ''
  for (const { len, end, count } of lines) {
    whole(len, 0)
    whole(count, 1)
    if (!/^[^A-Za-z0-9+/\u0080-\uffff]{0,64}$/.test(end) || len === 0 && end === '') refuse('invalid')
    for (let i = 0; i < count; i++) {
      if (text.length < len || out.length > room) refuse('invalid')
      out += text.slice(0, len) + end
      text = text.slice(len)
    }
  }
  if (text !== '') refuse('invalid')
  return Buffer.from(out)
}

function restore(skeleton, attachments) {
  let at = 0, runs = 0
  const line = () => {
    const end = skeleton.indexOf(10, at)
    if (end < 0 || end - at >= 65536) refuse('invalid')
    const text = skeleton.subarray(at, end).toString()
    at = end + 1
    return text
  }
  const first = line(), head = parseJSON(first)
  if (!/^\{"version":1,"size":[0-9]+,/.test(first) || first.match(/"size"/g).length > 1) refuse('invalid')
  const pieces = [], seen = new Set()
  for (let cut = true; cut;) {
    const { length, cut: next } = parseJSON(line())
    whole(length, 0)
    if (at + length > skeleton.length) refuse('invalid')
    pieces.push(skeleton.subarray(at, at += length))
    if (!(cut = next)) break
    const { link, layout } = next
    let id
    try {
      id = link.slice(link.lastIndexOf('/') + 1).split('#')[0]
      if (parseLink(link).all) refuse('invalid')
    } catch {
      refuse('invalid')
    }
    runs += (layout.lines?.length ?? 0) + (layout.exceptions?.length ?? 0)
    if (seen.has(id) || seen.add(id).size > 16384 || runs > 4096) refuse('invalid')
    const bytes = name => Buffer.from(attachments[name] ?? '', 'base64')
    pieces.push(encode(layout, bytes(id), bytes(id + '/encoded'), head.size))
  }
  const message = Buffer.concat(pieces)
  if (at !== skeleton.length || message.length !== head.size || crc32c(message) !== head.crc32c) refuse('invalid')
  return message
}

async function checkSkeleton({ why, skeleton, attachments, expect, message = '' }) {
  const name = `skeleton, ${why}`
  await outcome(name, expect, () => restore(Buffer.from(skeleton ?? '', 'base64'), attachments),
    got => want(`${name}: message`, got.toString('base64'), message))
}

// Section "The list of a mail's files".
function readList(text) {
  const size = s => new TextEncoder().encode(s).length
  if (size(text) > 1 << 20) refuse('invalid')
  const list = parseJSON(text)
  if (list.version !== 1 || !Array.isArray(list.files) || list.files.length < 2 || list.files.length > 1000) refuse('invalid')
  const seen = new Set(), bases = new Set()
  return list.files.map(({ link, name, type, size: bytes, crc32 }) => {
    if (typeof name !== 'string' || typeof type !== 'string' || size(name) > 1024 || size(type) > 1024) refuse('invalid')
    whole(bytes, 0)
    if (bytes > 2 ** 40 || !/^[0-9a-f]{8}$/.test(crc32) || bytes === 0 && crc32 !== '00000000') refuse('invalid')
    if (!/^https?:\/\/[^#?%\s]+#z[1-9A-HJ-NP-Za-km-z]+$/.test(link)) refuse('invalid')
    const { cid, all, base } = parseLink(link)
    const id = cid.toString('hex')
    if (all || seen.has(id) || bases.add(base).size > 1) refuse('invalid')
    seen.add(id)
    return { cid: link.slice(base.length + 1).split('#')[0], fragment: link.split('#')[1], name, type, size: bytes, crc32: parseInt(crc32, 16) }
  })
}

async function checkList({ why, list, expect, files }) {
  const name = `list, ${why}`
  await outcome(name, expect, () => readList(list), got => want(`${name}: files`, JSON.stringify(got), JSON.stringify(files)))
}

const objects = readdirSync(dir).filter(name => name.startsWith('object-'))
for (const name of objects) await checkObject(name)
checkKeystream(read('keystream.json'))
checkData(read('data.json'))
checkTicket(read('ticket.json'))
for (const kid of read('kid.json').valid) want(`kid ${kid}`, kid === 'link' || isEpoch(kid), true)
for (const kid of read('kid.json').invalid) want(`kid ${kid}`, kid === 'link' || isEpoch(kid), false)
for (const v of read('links.json').filter(v => v.comment.endsWith('as it is written'))) {
  const { fragment, all } = parseLink(v.in)
  want('link', fragment.toString('hex'), decodeMultibase58(v.fragment).toString('hex'))
  want('link: all', all, v.all ?? false)
}
const lists = read('files.json')
for (const v of lists) await checkList(v)
const skeletons = read('skeleton.json')
for (const v of skeletons) await checkSkeleton(v)
for (const [name, all] of Object.entries({ objects, skeletons, lists })) if (all.length === 0) want(`vectors: ${name}`, 0, 'some')
console.log(`${objects.length} objects, ${skeletons.length} skeletons, ${lists.length} lists, ${failures} failures`)
process.exitCode = failures === 0 ? 0 : 1
