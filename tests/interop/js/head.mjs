// Heads (protocols/head/1): peer ids, addresses, and the signed statement that names a manifest.

import { createPublicKey, verify } from 'node:crypto'
import { base58btc } from 'multiformats/bases/base58'
import { equal, join, uvarint } from './bytes.mjs'
import { decode, encodeText, fieldsOf, isInteger, Link } from './block.mjs'
import { must, Refused } from './errors.mjs'
import { isName } from './manifest.mjs'

const ENVELOPE_BYTES_MAX = 1024
const DOMAIN = encodeText('rhizome-head')
const PAYLOAD_TYPE = encodeText('/rhizome/head/1')
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

function mustBeSigned (publicKey, payload, signature) {
  const x = Buffer.from(publicKey).toString('base64url')
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
  const signed = join(...[DOMAIN, PAYLOAD_TYPE, payload].map(withLength))
  must(verify(null, signed, key, signature), 'a head with a wrong signature')
}

// The head in an envelope: {address, manifest, sequence, time, expires (or undefined), envelope}; Refused unless it is valid.
export function readHead (envelope) {
  must(envelope.length <= ENVELOPE_BYTES_MAX, 'an envelope that is too large')
  const [key, type, payload, signature] = takeFields(envelope, [1, 2, 3, 5])
  must(key.length === 36 && equal(key.subarray(0, 4), KEY_HEAD), 'a key of another kind')
  must(equal(type, PAYLOAD_TYPE), 'another payload type')
  must(signature.length === 64, 'a signature of another length')
  const publicKey = key.subarray(4)
  mustBeSigned(publicKey, payload, signature)
  const body = decode(payload)
  const mayExpire = body instanceof Map && body.has('expires') ? ['expires'] : []
  const { dataset, manifest, sequence, time, expires } = fieldsOf(body, [...FIELDS, ...mayExpire])
  must(isName(dataset) && manifest instanceof Link, 'a head of another form')
  must(isInteger(sequence, 0, NUMBER_MAX) && isInteger(time, 0, NUMBER_MAX), 'a number that is none')
  must(mayExpire.length === 0 || (isInteger(expires, 0, NUMBER_MAX) && expires > time), 'an expiry that is none')
  return { address: `rhizome:${peerId(publicKey)}/${dataset}`, manifest, sequence, time, expires, envelope }
}

export function mustNotBeFromTheFuture (head, now) {
  if (head.time > BigInt(now) + FUTURE_MILLISECONDS_MAX) throw new Refused('a head from the future')
}
