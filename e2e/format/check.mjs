// A second decoder of docs/format.md, written from the specification: npm's jose for meta.jwe, Node's
// crypto for the rest, and a few lines for CID, dag-pb and base58. Each vector of docs/vectors must have
// its expected outcome.

import { readdirSync, readFileSync } from 'node:fs'
import { createDecipheriv, createHash, createHmac, hkdfSync, webcrypto } from 'node:crypto'
import { compactDecrypt, decodeProtectedHeader, errors, flattenedDecrypt } from 'jose'

globalThis.crypto ??= webcrypto // jose uses it, and Node 18, as in Debian 12, does not define it

const dir = new URL('../../docs/vectors/', import.meta.url)
const files = [] // that were read
const read = name => {
  files.push(name)
  return JSON.parse(readFileSync(new URL(name, dir), 'utf8'))
}
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
  if (!sha256(data).equals(cid.subarray(4))) refuse('damaged')
  return data
}

// protobuf returns the fields of a message. dag-pb has varints and byte strings only.
function protobuf(data) {
  const fields = []
  let at = 0
  const varint = () => {
    let n = 0n
    for (let shift = 0n; ; shift += 7n) {
      if (at >= data.length) refuse('malformed')
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
    } else refuse('malformed')
  }
  return fields
}
const field = (fields, number) => fields.find(f => f[0] === number)?.[1]

const varint = n => { const out = []; for (n = BigInt(n); n > 127n; n >>= 7n) out.push(Number(n & 127n) | 128); return Buffer.from([...out, Number(n)]) }
const bytesField = (number, value) => Buffer.concat([varint(number << 3 | 2), varint(value.length), value])
const encodeDirectory = links => Buffer.concat([
  ...links.map(({ cid, name, size }) => bytesField(2, Buffer.concat([bytesField(1, cid), bytesField(2, Buffer.from(name)), Buffer.from([3 << 3]), varint(size)]))),
  bytesField(1, Buffer.from([8, 1])),
])

// entries returns the links by name, and core. The directory must be what these links encode to.
function entries(directory) {
  const links = protobuf(directory).filter(f => f[0] === 2).map(f => {
    const l = protobuf(f[1])
    return { cid: field(l, 1), name: field(l, 2).toString(), size: field(l, 3) }
  })
  const names = links.map(l => l.name), map = new Map(links.map(l => [l.name, l]))
  if (!encodeDirectory(links).equals(directory)) refuse('malformed')
  if (names.join() !== [...map.keys()].sort().join()) refuse('malformed')
  if (!['data', 'meta.jwe', 'origin'].every(n => map.has(n))) refuse('malformed')
  if (!names.every(n => ['data', 'encoded', 'escrow.age', 'meta.jwe', 'origin'].includes(n))) refuse('malformed')
  for (const { cid } of links) if (prefix(cid) !== rawPrefix) refuse('malformed') // the vectors' files have one block
  if (map.get('escrow.age')?.size > 8192n) refuse('malformed')
  const core = Buffer.concat([Buffer.from(dagPBPrefix, 'hex'), sha256(encodeDirectory(links.filter(l => l.name !== 'origin')))])
  return { map, core }
}

function smallFile(store, { cid, size }, longest) {
  if (size > longest) refuse('malformed')
  const data = verified(store, cid)
  if (data.length !== Number(size)) refuse('malformed')
  return data
}

// Section "Epochs".
function parseKID(kid) {
  const [, epoch, month, day, link] = /^(([0-9]{4}-[0-9]{2})(-[0-9]{2})?\.[a-z2-7]{8})(\.link)?$(?!\n)/.exec(kid) ?? refuse('malformed')
  const date = month + (day ?? '-01'), begin = new Date(date + 'T00:00:00Z')
  if (isNaN(begin) || !begin.toISOString().startsWith(date)) refuse('malformed')
  return { epoch, link: link !== undefined, end: day ? begin.getTime() + 86400e3 : Infinity }
}

// Section "meta.jwe".
function keyID(jwe) {
  let header
  try {
    header = decodeProtectedHeader(jwe)
  } catch {
    refuse('malformed')
  }
  const names = Buffer.from(jwe.split('.')[0], 'base64url').toString().match(/"[a-z]+":/gi) // JSON.parse takes the last of two
  if (Object.keys(header).sort().join() !== 'alg,enc,kid' || names.length !== 3) refuse('malformed')
  if (header.alg !== 'dir' || header.enc !== 'A256GCM' || jwe.split('.')[1] !== '') refuse('malformed')
  return parseKID(header.kid)
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

// Section "Key file". A tree is the nodes that are left, from left to right, with their depth and prefix.
const hmac = (key, ...data) => createHmac('sha256', key).update(Buffer.concat(data)).digest()
const info = (label, ...parts) => Buffer.concat([Buffer.from('detach/v1 ' + label), ...parts])
function* cover(paths, depth = 0n, prefix = 0n) {
  if (paths.length === 0) yield [depth, prefix]
  else if (depth < 64n) {
    for (const bit of [0n, 1n]) yield* cover(paths.filter(p => (p >> 63n - depth & 1n) === bit), depth + 1n, prefix << 1n | bit)
  }
}

function readKeyFile(epoch, file) {
  const body = file.subarray(0, -32), magic = 'detach/v1 key\n'
  if (body.length < 50 || body.subarray(0, 14).toString() !== magic || !sha256(body).equals(file.subarray(-32))) refuse('malformed')
  const service = body.subarray(14, 46), count = body.readUInt32BE(46), start = 50 + 8 * count
  if (body.length < start) refuse('malformed')
  const paths = Array.from({ length: count }, (_, i) => body.readBigUInt64BE(50 + 8 * i))
  if (paths.some((p, i) => i > 0 && p <= paths[i - 1])) refuse('malformed')
  const tree = [...cover(paths)].map(([depth, prefix], i) => ({ depth, prefix, node: body.subarray(start + 32 * i, start + 32 * i + 32) }))
  if (body.length !== start + 32 * tree.length || idOf(service) !== epoch.split('.')[1]) refuse('malformed')
  return { service, paths, tree }
}

function idOf(service) {
  const bits = hkdf(service, info('epoch id')).readUIntBE(0, 5)
  return Array.from({ length: 8 }, (_, i) => 'abcdefghijklmnopqrstuvwxyz234567'[Math.floor(bits / 32 ** (7 - i)) % 32]).join('')
}

function leafOf(tree, path) {
  const { node, depth } = tree.find(({ depth, prefix }) => path >> 64n - depth === prefix) ?? refuse('destroyed')
  let here = node
  for (let at = 63n - depth; at >= 0n; at--) here = hmac(here, Buffer.from([Number(path >> at & 1n)]))
  return here
}
const pathOf = core => core.readBigUInt64BE(4)

// Section "Deny list". Only what the objects' vectors have: check.py reads those of the list itself.
function isDenied(text, cid) {
  let last = ['', false], denied = false
  for (const line of text.split('\n')) {
    const [first, , , verb, time] = line.split(' ')
    if (/^(deny|undo)$/.test(verb ?? '') && first === cid) {
      if (time > last[0] || time === last[0] && verb === 'deny') last = [time, verb === 'deny']
    } else if (line.split('#')[0].includes(cid)) denied = true
  }
  return denied || last[1]
}

function readExtension(record, { later, keyFile, root, core }) {
  const length = record.length > 36 ? record[36] : refuse('refused')
  if (record.length !== 98 + length || !record.subarray(0, 36).equals(root)) refuse('refused')
  const old = record.subarray(37, 37 + length), mode = record.subarray(37 + length, 38 + length), sealed = record.subarray(38 + length)
  if (mode[0] > 1) refuse('refused')
  const key = hkdf(leafOf(readKeyFile(later, keyFile).tree, pathOf(core)), info('extend', core))
  return { old: old.toString(), link: mode[0] === 1, share: openGCM(key, sealed, Buffer.concat([root, old, Buffer.from([0]), Buffer.from(later), mode])) }
}

function openGCM(key, sealed, aad) {
  const gcm = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12))
  gcm.setAAD(aad)
  gcm.setAuthTag(sealed.subarray(-16))
  try {
    return Buffer.concat([gcm.update(sealed.subarray(12, -16)), gcm.final()])
  } catch {
    refuse('refused')
  }
}

const decrypt = (key, data) => createDecipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(data)

// Section "What a gateway serves".
function admit(v, cid, core, kid, origin) {
  const file = name => name in v.keyring ? Buffer.from(v.keyring[name], 'hex') : undefined
  const marks = `destroyed/${kid.epoch}/`, name = encodeCID(core), ended = file(marks + 'all') !== undefined
  const own = ended ? undefined : file(kid.epoch + '.key') // it is deleted, if a copy came back
  let share, end = kid.end
  for (const path of Object.keys(v.keyring).filter(path => path.startsWith('extended/') && path.endsWith('/' + name))) {
    const later = path.split('/')[1]
    const r = readExtension(file(path), { later, keyFile: file(later + '.key'), root: cid, core })
    if (r.old !== kid.epoch || r.link !== kid.link) refuse('foreign')
    share = r.share
    end = Math.max(end, parseKID(later).end)
  }
  if (own) {
    const { service, tree } = readKeyFile(kid.epoch, own)
    if (!hmac(hkdf(service, info('origin')), core, origin.subarray(0, 64)).equals(origin.subarray(64))) refuse('foreign')
    const leaf = leafOf(tree, pathOf(core))
    share = kid.link ? Buffer.alloc(32) : hkdf(leaf, info('share', core))
  } else if (!share) refuse(v.indexed ? ended ? 'destroyed' : 'key missing' : 'foreign')
  if (file(marks + name)) refuse('destroyed')
  if (Date.parse(v.now) >= end) refuse('expired')
  return { share, end }
}

const encodeCID = cid => {
  const digits = Math.ceil(cid.length * 8 / 5)
  let bits = BigInt('0x' + cid.toString('hex')) << BigInt(digits * 5 - cid.length * 8), out = ''
  for (; out.length < digits; bits >>= 5n) out = 'abcdefghijklmnopqrstuvwxyz234567'[Number(bits & 31n)] + out
  return 'b' + out
}

async function open(v) {
  const { cid, fragment } = parseLink(v.link)
  if (isDenied(v.denied ?? '', encodeCID(cid))) refuse('revoked')
  const store = new Map(v.blocks.map(b => [decodeCID(b.cid).toString('hex'), Buffer.from(b.data, 'base64')]))
  const { map, core } = entries(verified(store, cid))
  const jwe = smallFile(store, map.get('meta.jwe'), 65536).toString(), kid = keyID(jwe)
  const origin = smallFile(store, map.get('origin'), 96)
  if (origin.length !== 96) refuse('malformed')
  const { share, end } = admit(v, cid, core, kid, origin)
  const proof = hkdf(fragment, info('ask', core)), key = xor(fragment, share)
  if (!sha256(proof).equals(origin.subarray(0, 32))) refuse('wrong key')
  if (!hkdf(key, info('commit', core)).equals(origin.subarray(32, 64))) refuse('wrong key')
  const meta = await openMeta(jwe, key)
  if (meta.expires !== null && Date.parse(v.now) >= Math.max(end, Date.parse(meta.expires))) refuse('expired')
  const data = verified(store, map.get('data').cid)
  if (data.length !== meta.size) refuse('malformed')
  const encoded = () => {
    const text = decrypt(hkdf(key, 'detach/v1 encoded'), verified(store, map.get('encoded').cid)), content = unquote(text)
    if (content.length !== meta.size || sha256(content).toString('hex') !== meta.sha256) refuse('malformed')
    return text
  }
  return { key, share, proof, core, origin, end, meta, attachment: decrypt(key, data), encoded }
}

let failures = 0, checks = 0
function want(what, got, expected) {
  checks++
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
    want(`${name}: core`, encodeCID(o.core), v.core)
    want(`${name}: origin`, o.origin.toString('hex'), v.origin)
    want(`${name}: proof`, o.proof.toString('hex'), decodeMultibase58(v.proof).toString('hex'))
    want(`${name}: end`, o.end, v.expires ? Date.parse(v.expires) : Infinity)
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

function openTicket(v) {
  const [, epoch, day, encoded] = /^([^.]*\.[^.]*)\.([0-9-]{10})\.([A-Za-z0-9_-]+)$/.exec(v.ticket) ?? refuse('refused')
  if (epoch !== v.epoch) refuse('refused')
  const { service } = readKeyFile(epoch, Buffer.from(v.key_file, 'hex'))
  const plain = openGCM(hkdf(service, info('ticket', Buffer.from(day))), Buffer.from(encoded, 'base64url'), decodeCID(v.cid))
  if (Date.parse(v.now) >= Number(plain.readBigUInt64BE(32)) * 1000) refuse('refused')
  return plain
}

const checkTicket = v => outcome(`ticket, ${v.comment}`, v.expect, () => openTicket(v), plain => {
  want('ticket: fragment', plain.subarray(0, 32).toString('hex'), decodeMultibase58(v.fragment).toString('hex'))
  want('ticket: until', Number(plain.readBigUInt64BE(32)) * 1000, Date.parse(v.until))
})

const checkKeyFile = v => outcome(`key file, ${v.comment}`, v.expect, () => readKeyFile(v.epoch, Buffer.from(v.file, 'hex')), ({ service, paths }) => {
  want(`key file, ${v.comment}: service secret`, service.toString('hex'), v.service_secret)
  want(`key file, ${v.comment}: punctured`, paths.map(p => p.toString(16).padStart(16, '0')).join(), (v.punctured ?? []).join())
})

async function checkTree(v) {
  const root = Buffer.from(v.root, 'hex'), whole = (depth, prefix) => {
    let node = root
    for (let at = depth - 1n; at >= 0n; at--) node = hmac(node, Buffer.from([Number(prefix >> at & 1n)]))
    return node
  }
  const paths = v.punctured.map(p => BigInt('0x' + p))
  const tree = [...cover(paths)].map(([depth, prefix]) => ({ depth, prefix, node: whole(depth, prefix) }))
  want(`tree, ${v.comment}`, sha256(Buffer.concat(tree.map(n => n.node))).toString('hex'), v.cover_sha256)
  for (const { path, leaf } of v.leaves) {
    await outcome(`tree, ${v.comment}: ${path}`, leaf ? 'ok' : 'destroyed', () => leafOf(tree, BigInt('0x' + path)), got => want(`tree: ${path}`, got.toString('hex'), leaf))
  }
}

async function checkExtension(v) {
  const part = { later: v.new, keyFile: Buffer.from(v.key_file, 'hex'), root: decodeCID(v.root), core: decodeCID(v.core) }
  await outcome(`extension, ${v.comment}`, v.expect, () => {
    try {
      const record = readExtension(Buffer.from(v.record, 'hex'), part)
      return record.old === v.old ? record : refuse('refused')
    } catch (e) {
      if (e instanceof Refused) refuse('refused')
      throw e
    }
  }, r => want(`extension, ${v.comment}`, [r.link, r.share.toString('hex')].join(), [v.link, decodeMultibase58(v.share).toString('hex')].join()))
}

async function checkKIDs({ valid, invalid }) {
  for (const { kid, epoch, link, ends } of valid) {
    const got = parseKID(kid)
    want(`kid ${kid}`, [got.epoch, got.link, got.end].join(), [epoch, link, ends ? Date.parse(ends) : Infinity].join())
  }
  for (const kid of invalid) await outcome(`kid ${kid}`, 'malformed', () => parseKID(kid), () => {})
}

// Section "DAG-JOSE". The block is DAG-CBOR: a map of byte strings.
async function checkDAGJOSE({ meta_jwe: compact, key, block, cid }) {
  const data = Buffer.from(block, 'hex'), node = {}
  let at = 0
  const head = major => {
    const n = data[at++]
    if (n >> 5 !== major) refuse('malformed')
    return (n & 31) < 24 ? n & 31 : (n & 31) === 24 ? data[at++] : data.readUInt16BE((at += 2) - 2)
  }
  const string = major => {
    const length = head(major)
    return data.subarray(at, at += length)
  }
  for (let n = head(5); n > 0; n--) {
    const name = string(3).toString()
    node[name] = string(2).toString('base64url')
  }
  want('DAG-JOSE: members', Object.keys(node).join(), 'iv,tag,protected,ciphertext')
  want('DAG-JOSE: compact', [node.protected, '', node.iv, node.ciphertext, node.tag].join('.'), compact)
  want('DAG-JOSE: CID', cid, encodeCID(Buffer.concat([Buffer.from('0185011220', 'hex'), sha256(data)])))
  const { plaintext } = await flattenedDecrypt(node, Buffer.from(key, 'hex'))
  want('DAG-JOSE: size', JSON.parse(new TextDecoder().decode(plaintext)).size, 15)
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
  if (/=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n)|[^\t\n\r -~]|\r(?!\n)/.test(s) || /(^|[^= \t])[ \t]+(\r?\n|$)/.test(s)) refuse('malformed')
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
await checkKIDs(read('kid.json'))
await checkDAGJOSE(read('dag-jose.json'))
for (const v of read('tree.json')) await checkTree(v)
for (const v of read('keyfile.json').files) await checkKeyFile(v)
for (const v of read('ticket.json')) await checkTicket(v)
for (const v of read('extension.json')) await checkExtension(v)
for (const v of read('links.json').filter(v => v.comment.endsWith('as it is written'))) {
  const { fragment, all } = parseLink(v.in)
  want('link', fragment.toString('hex'), decodeMultibase58(v.fragment).toString('hex'))
  want('link: all', all, v.all ?? false)
}
const lists = read('files.json')
for (const v of lists) await checkList(v)
const skeletons = read('skeleton.json')
for (const v of skeletons) await checkSkeleton(v)
console.log(JSON.stringify({ read: files, checks, failures }))
process.exitCode = failures === 0 ? 0 : 1
