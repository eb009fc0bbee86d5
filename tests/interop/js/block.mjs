// Blocks (protocols/block/1): strict DAG-CBOR, and names.
//
// An integer is a BigInt and a float a Number, so that 1 and 1.0 stay the two values that they are; a map is a
// Map. The libraries for DAG-CBOR read both as one Number and write both as one integer: a record that holds 1.0
// would lose its name. That is why this is written out here.

import { createHash } from 'node:crypto'
import { base32 } from 'multiformats/bases/base32'
import { compare, equal, hex, join } from './bytes.mjs'
import { must, Refused } from './errors.mjs'

export const CHUNK_BYTES_MAX = 65536
export const RECORD_BYTES_MAX = 1048576
const LEVELS_MAX = 64
const PREFIX = Uint8Array.of(0x01, 0x71, 0x12, 0x20)
const LINK_HEAD = Uint8Array.of(0xd8, 0x2a, 0x58, 37, 0)
const INTEGER_MIN = -(2n ** 64n)
const INTEGER_END = 2n ** 64n
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export const digest = (bytes) => new Uint8Array(createHash('sha256').update(bytes).digest())

function decodeBase32 (text) {
  try {
    return base32.decode(text)
  } catch {
    throw new Refused(`not a CID: ${text}`)
  }
}

// The name of a block.
export class Link {
  constructor (digest) {
    this.digest = digest
  }

  static of (block) {
    return new Link(digest(block))
  }

  static fromBytes (bytes) {
    must(bytes.length === 36 && equal(bytes.subarray(0, 4), PREFIX), 'a CID of another kind')
    return new Link(bytes.slice(4))
  }

  static fromText (text) {
    must(/^bafyrei[a-z2-7]{52}$/.test(text), `not a CID: ${text}`)
    const link = Link.fromBytes(decodeBase32(text))
    must(link.text === text, `a CID with bits that mean nothing: ${text}`)
    return link
  }

  get bytes () {
    return join(PREFIX, this.digest)
  }

  get text () {
    return base32.encode(this.bytes)
  }

  equals (other) {
    return other instanceof Link && equal(this.digest, other.digest)
  }
}

export const isBytes = (value) => value instanceof Uint8Array

export function encodeText (text) {
  if (!text.isWellFormed()) throw new TypeError('half a surrogate pair is no text')
  return new TextEncoder().encode(text)
}

export function decodeText (bytes) {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new Refused('text that is not UTF-8')
  }
}

// The type and the length or number in front of every value, in its shortest form.
function head (major, number) {
  const type = major << 5
  if (number < 24) return Uint8Array.of(type | Number(number))
  const sizes = [1, 2, 4, 8]
  const power = sizes.findIndex((size) => BigInt(number) < 2n ** BigInt(8 * size))
  const digits = BigInt(number).toString(16).padStart(2 * sizes[power], '0')
  return join(Uint8Array.of(type | 24 + power), Buffer.from(digits, 'hex'))
}

export function encode (value) {
  if (value === null) return Uint8Array.of(0xf6)
  if (typeof value === 'boolean') return Uint8Array.of(value ? 0xf5 : 0xf4)
  if (typeof value === 'bigint') {
    if (value < INTEGER_MIN || value >= INTEGER_END) throw new RangeError(`an integer that is too large: ${value}`)
    return value < 0n ? head(1, -1n - value) : head(0, value)
  }
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new RangeError('a float that is not finite')
    const bytes = Buffer.alloc(9, 0xfb)
    bytes.writeDoubleBE(value === 0 ? 0 : value, 1)
    return new Uint8Array(bytes)
  }
  if (typeof value === 'string') {
    const bytes = encodeText(value)
    return join(head(3, bytes.length), bytes)
  }
  if (isBytes(value)) return join(head(2, value.length), value)
  if (value instanceof Link) return join(LINK_HEAD, value.bytes)
  if (Array.isArray(value)) return join(head(4, value.length), ...value.map(encode))
  if (value instanceof Map) {
    const pairs = [...value].map(([name, item]) => [encode(name), encode(item)])
    // The length stands first in the encoded name, so that shorter names come first.
    return join(head(5, pairs.length), ...pairs.sort((a, b) => compare(a[0], b[0])).flat())
  }
  throw new TypeError(`not a value: ${typeof value}`)
}

class Reader {
  constructor (bytes) {
    this.bytes = bytes
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.at = 0
  }

  take (length) {
    must(this.at + Number(length) <= this.bytes.length, 'a value that ends too early')
    const taken = this.bytes.slice(this.at, this.at + Number(length))
    this.at += Number(length)
    return taken
  }

  // The number behind the type byte: BigInt, refused where a shorter form would do.
  number (size) {
    const bytes = this.take(size)
    const number = BigInt(`0x${hex(bytes)}`)
    const shorter = size === 1 ? 24n : 2n ** BigInt(4 * size)
    must(number >= shorter, 'a number that is not in its shortest form')
    return number
  }

  value (level) {
    must(level <= LEVELS_MAX, 'values nested too deep')
    const [first] = this.take(1)
    const major = first >> 5
    const low = first & 31
    if (major === 7) return this.simple(low)
    must(low < 28, 'an indefinite or reserved length')
    const number = low < 24 ? BigInt(low) : this.number(2 ** (low - 24))
    if (major === 0) return number
    if (major === 1) return -1n - number
    if (major === 2) return this.take(number)
    if (major === 3) return decodeText(this.take(number))
    if (major === 4) return this.list(number, level)
    if (major === 5) return this.map(number, level)
    return this.link(number)
  }

  simple (low) {
    if (low === 20 || low === 21) return low === 21
    if (low === 22) return null
    must(low === 27, 'a simple value or float of another kind')
    const number = Buffer.from(this.take(8)).readDoubleBE()
    must(Number.isFinite(number) && !Object.is(number, -0), 'a float that is no value')
    return number
  }

  list (length, level) {
    must(length <= BigInt(this.bytes.length - this.at), 'a list that ends too early')
    const items = []
    while (items.length < length) items.push(this.value(level + 1))
    return items
  }

  map (length, level) {
    must(length <= BigInt(this.bytes.length - this.at), 'a map that ends too early')
    const items = new Map()
    let last = null
    for (let i = 0n; i < length; i += 1n) {
      const start = this.at
      const name = this.value(level + 1)
      must(typeof name === 'string', 'a key that is no text')
      const written = this.bytes.subarray(start, this.at)
      must(last === null || compare(last, written) < 0, 'keys out of order')
      last = written
      items.set(name, this.value(level + 1))
    }
    return items
  }

  link (tag) {
    must(tag === 42n, 'a tag that is not 42')
    must(equal(this.take(3), LINK_HEAD.subarray(2)), 'a tag 42 around something else than a CID')
    return Link.fromBytes(this.take(36))
  }
}

// The value that `bytes` stand for; Refused unless they are exactly its encoding.
export function decode (bytes) {
  const reader = new Reader(bytes)
  const value = reader.value(1)
  must(reader.at === bytes.length, 'bytes behind the value')
  return value
}

// A map with exactly these fields, as an object.
export function fieldsOf (value, names) {
  must(value instanceof Map, 'not a map')
  must(value.size === names.length && names.every((name) => value.has(name)), `not the fields ${names.join(', ')}`)
  return Object.fromEntries(value)
}

// Is `value` an integer of this range? Bounds are Numbers or BigInts.
export const isInteger = (value, low, high) => typeof value === 'bigint' && value >= low && value <= high
