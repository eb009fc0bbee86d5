// Heads (protocols/head/1): peer ids, addresses, and the signed statement that names a manifest.

import { createPublicKey, verify } from 'node:crypto'
import { base58btc } from 'multiformats/bases/base58'
import { equal, hex, join, uvarint } from './bytes.mjs'
import { decode, encode, encodeText, fieldsOf, isBytes, isInteger, Link } from './block.mjs'
import { must, Refused } from './errors.mjs'
import { isName } from './manifest.mjs'

const ENVELOPE_BYTES_MAX = 1024
const DOMAIN = encodeText('rhizome-head')
const PAYLOAD_TYPE = encodeText('/rhizome/head/1')
const DELEGATION_TYPE = encodeText('/rhizome/delegation/1')
const DELEGATIONS_MAX = 6
const FIELDS = ['dataset', 'manifest', 'sequence', 'time']
const KEY_HEAD = Uint8Array.of(0x08, 0x01, 0x12, 0x20)
const PEER_ID_HEAD = Uint8Array.of(0x00, 0x24)
const NUMBER_MAX = 2n ** 53n - 1n
const FUTURE_MILLISECONDS_MAX = 24n * 3600n * 1000n

export const peerId = (publicKey) => base58btc.baseEncode(join(PEER_ID_HEAD, KEY_HEAD, publicKey))

export function isPeerId (text) {
  if (!/^[1-9A-HJ-NP-Za-km-z]{1,64}$/.test(text)) return false
  const bytes = base58btc.baseDecode(text)
  const begins = equal(bytes.subarray(0, 6), join(PEER_ID_HEAD, KEY_HEAD))
  return begins && bytes.length === 38 && base58btc.baseEncode(bytes) === text
}

export function isAddress (text) {
  const match = typeof text === 'string' && /^rhizome:([^/]*)\/(.*)$/s.exec(text)
  return Boolean(match) && isPeerId(match[1]) && isName(match[2])
}

// One field of an envelope, or Refused unless it is the one with this number.
function takeField (bytes, number) {
  must(bytes[0] === (number << 3 | 2), `no field ${number}`)
  const length = bytes[1] < 128 ? bytes[1] : bytes[1] - 128 + 128 * bytes[2]
  const prefix = uvarint(length)
  must(equal(bytes.subarray(1, 1 + prefix.length), prefix), 'a length in a longer form')
  const end = 1 + prefix.length + length
  must(end <= bytes.length, 'an envelope that ends too early')
  return [bytes.slice(1 + prefix.length, end), bytes.subarray(end)]
}

function takeFields (bytes, numbers) {
  const fields = []
  for (const number of numbers) {
    const [content, rest] = takeField(bytes, number)
    fields.push(content)
    bytes = rest
  }
  must(bytes.length === 0, 'bytes behind the envelope')
  return fields
}

const withLength = (bytes) => join(uvarint(bytes.length), bytes)

// Points of which eight times themselves is the neutral element, without their sign: as keys they sign everything.
const SMALL = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'
])
const PRIME = 2n ** 255n - 19n

function isPlainPoint (bytes) {
  const y = Uint8Array.from(bytes)
  y[31] &= 127
  return !SMALL.has(hex(y)) && BigInt(`0x${hex(y.reverse())}`) < PRIME
}

function mustBeSigned (publicKey, type, payload, signature) {
  must(isPlainPoint(publicKey) && isPlainPoint(signature.slice(0, 32)), 'a point of small order, or not canonical')
  const x = Buffer.from(publicKey).toString('base64url')
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
  const signed = join(...[DOMAIN, type, payload].map(withLength))
  must(verify(null, signed, key, signature), 'a wrong signature')
}

// The delegations in a head, each verified: {key, dataset (null: all), from, to}.
function readDelegations (links, name, sequence, signer) {
  must(Array.isArray(links) && links.length >= 1 && links.length <= DELEGATIONS_MAX, 'delegations that are none')
  must(links.every(isDelegation), 'a delegation of another form')
  const keys = [...links.map(([key]) => key), signer]
  must(new Set(keys.map(peerId)).size === keys.length, 'a key twice')
  const address = `rhizome:${peerId(keys[0])}/${name}`
  return links.map(([key, all, from, signature], place) => {
    const said = { key, dataset: all ? null : address, from, to: keys[place + 1] }
    must(sequence >= from, 'a head signed by a key before its time')
    mustBeSigned(key, DELEGATION_TYPE, encode(new Map(Object.entries({ dataset: said.dataset, from, to: said.to }))), signature)
    return said
  })
}

function isDelegation (link) {
  if (!Array.isArray(link) || link.length !== 4) return false
  const [key, all, from, signature] = link
  const sizes = isBytes(key) && key.length === 32 && isBytes(signature) && signature.length === 64
  return sizes && typeof all === 'boolean' && isInteger(from, 0, NUMBER_MAX)
}

const saysTwoThings = (a, b) => equal(a.key, b.key) && (a.dataset === null || b.dataset === null || a.dataset === b.dataset) &&
  (a.dataset !== b.dataset || a.from !== b.from || !equal(a.to, b.to))

const disowns = (said, head) =>
  (equal(said.key, head.signer) && (said.dataset ?? head.address) === head.address && head.sequence >= said.from) ||
  head.delegations.some((own) => saysTwoThings(said, own))

// Do two heads of one dataset prove that somebody says two things?
export function contradict (a, b) {
  if (a.sequence === b.sequence && !a.manifest.equals(b.manifest)) return true
  return a.delegations.some((said) => disowns(said, b)) || b.delegations.some((said) => disowns(said, a))
}

// The head in an envelope: {address, manifest, sequence, time, expires (or undefined), delegations, signer, envelope}; Refused unless it is valid.
export function readHead (envelope) {
  must(envelope.length <= ENVELOPE_BYTES_MAX, 'an envelope that is too large')
  const [key, type, payload, signature] = takeFields(envelope, [1, 2, 3, 5])
  must(key.length === 36 && equal(key.subarray(0, 4), KEY_HEAD), 'a key of another kind')
  must(equal(type, PAYLOAD_TYPE), 'another payload type')
  must(signature.length === 64, 'a signature of another length')
  const publicKey = key.subarray(4)
  mustBeSigned(publicKey, PAYLOAD_TYPE, payload, signature)
  const body = decode(payload)
  const more = ['expires', 'delegations'].filter((name) => body instanceof Map && body.has(name))
  const { dataset, manifest, sequence, time, expires, delegations } = fieldsOf(body, [...FIELDS, ...more])
  must(isName(dataset) && manifest instanceof Link, 'a head of another form')
  must(isInteger(sequence, 0, NUMBER_MAX) && isInteger(time, 0, NUMBER_MAX), 'a number that is none')
  const expiresRightly = isInteger(expires, 0, NUMBER_MAX) && expires > time
  must(!more.includes('expires') || expiresRightly, 'an expiry that is none')
  const said = more.includes('delegations') ? readDelegations(delegations, dataset, sequence, publicKey) : []
  const publisher = said.length > 0 ? said[0].key : publicKey
  const address = `rhizome:${peerId(publisher)}/${dataset}`
  return { address, manifest, sequence, time, expires, delegations: said, signer: publicKey, envelope }
}

export function mustNotBeFromTheFuture (head, now) {
  if (head.time > BigInt(now) + FUTURE_MILLISECONDS_MAX) throw new Refused('a head from the future')
}
