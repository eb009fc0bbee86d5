// Keys (protocols/keys/1): values as bytes that sort as the values do, and the ranges that conditions stand for.

import { compare, EMPTY, equal, invert, join, next } from './bytes.mjs'
import { decode, decodeText, encode, encodeText, isBytes, isInteger } from './block.mjs'
import { must, Refused } from './errors.mjs'

export const KEY_BYTES_MAX = 1024
const NULL = 0x10
const FALSE = 0x18
const TRUE = 0x19
const NUMBER = 0x20
const TEXT = 0x30
const BYTES = 0x38
const COMPOUND = 0x48
const END = Uint8Array.of(0x00, 0x01)
const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

export const isInt64 = (value) => isInteger(value, INT64_MIN, INT64_MAX)
const isNumber = (value) => typeof value === 'bigint' || typeof value === 'number'

// A value as an ascending component, or as a descending one.
export function component (value, descending = false) {
  const bytes = ascending(value)
  return descending ? invert(bytes) : bytes
}

function ascending (value) {
  if (value === null) return Uint8Array.of(NULL)
  if (typeof value === 'boolean') return Uint8Array.of(value ? TRUE : FALSE)
  if (isNumber(value)) return join(Uint8Array.of(NUMBER), numberBody(value))
  if (typeof value === 'string') return join(Uint8Array.of(TEXT), escape(encodeText(value)), END)
  if (isBytes(value)) return join(Uint8Array.of(BYTES), escape(value), END)
  return join(Uint8Array.of(COMPOUND), escape(encode(value)), END)
}

export const key = (values, directions) => join(...values.map((value, i) => component(value, directions[i])))

function escape (bytes) {
  const parts = []
  for (const byte of bytes) byte === 0 ? parts.push(0, 0xff) : parts.push(byte)
  return Uint8Array.from(parts)
}

function numberBody (value) {
  if (typeof value === 'bigint') must(isInt64(value), 'an integer beyond 64 bits')
  const floor = typeof value === 'bigint' ? greatestBelow(value) : value
  const bytes = Buffer.alloc(10)
  bytes.writeDoubleBE(floor === 0 ? 0 : floor)
  turn(bytes)
  if (!hasRest(floor)) return new Uint8Array(bytes.subarray(0, 8))
  bytes.writeUInt16BE(typeof value === 'bigint' ? Number(value - BigInt(floor)) : 0, 8)
  return new Uint8Array(bytes)
}

// The greatest float that is not above an integer.
function greatestBelow (integer) {
  const nearest = Number(integer)
  if (BigInt(nearest) <= integer) return nearest
  const bits = new DataView(new ArrayBuffer(8))
  bits.setFloat64(0, nearest)
  bits.setBigInt64(0, bits.getBigInt64(0) + (nearest > 0 ? -1n : 1n))
  return bits.getFloat64(0)
}

const hasRest = (float) => (float >= 2 ** 53 && float < 2 ** 63) || (float >= -(2 ** 63) && float <= -(2 ** 53))

// The first eight bytes, from IEEE 754 to bytes that sort.
function turn (bytes) {
  const negative = bytes[0] >= 128
  for (let i = 0; i < 8; i += 1) bytes[i] = negative ? 255 - bytes[i] : bytes[i]
  if (!negative) bytes[0] |= 128
}

// The component at `start`: {value, descending, end}. A number that is an integer comes as one.
export function readComponent (bytes, start = 0) {
  must(start < bytes.length, 'a key that ends too early')
  const descending = bytes[start] >= 128
  const rest = descending ? invert(bytes.subarray(start)) : bytes.slice(start)
  const [value, length] = read(rest)
  must(equal(ascending(value), rest.subarray(0, length)), 'a component that is not what the rules make of its value')
  return { value, descending, end: start + length }
}

function read (bytes) {
  const type = bytes[0]
  if (type === NULL) return [null, 1]
  if (type === FALSE || type === TRUE) return [type === TRUE, 1]
  if (type === NUMBER) return readNumber(bytes)
  must([TEXT, BYTES, COMPOUND].includes(type), 'an unknown type')
  const [body, length] = unescape(bytes)
  if (type === TEXT) return [decodeText(body), length]
  if (type === BYTES) return [body, length]
  const value = decode(body)
  must(Array.isArray(value) || value instanceof Map, 'neither a list nor a map')
  return [value, length]
}

function readNumber (bytes) {
  must(bytes.length >= 9, 'a number that ends too early')
  const body = Buffer.from(bytes.subarray(1, 9))
  if (body[0] >= 128) body[0] &= 127
  else body.forEach((byte, i) => { body[i] = 255 - byte })
  const float = body.readDoubleBE()
  must(Number.isFinite(float), 'a number that is not finite')
  if (!hasRest(float)) return [float, 9]
  must(bytes.length >= 11, 'a number without its rest')
  return [BigInt(float) + BigInt(bytes[9] * 256 + bytes[10]), 11]
}

function unescape (bytes) {
  const body = []
  for (let i = 1; i + 1 < bytes.length; i += 1) {
    if (bytes[i] !== 0) {
      body.push(bytes[i])
    } else if (bytes[i + 1] === 1) {
      return [Uint8Array.from(body), i + 2]
    } else {
      must(bytes[i + 1] === 0xff, 'an escape that is none')
      body.push(0)
      i += 1
    }
  }
  throw new Refused('a component without an end')
}

// Ranges. A cut is {bytes, behind}: before them, or behind all that begins with them.

const before = (bytes) => ({ bytes, behind: false })
const behind = (bytes) => ({ bytes, behind: true })
const place = (cut) => cut.behind ? next(cut.bytes) : cut.bytes

// null, the end of all bytes, sorts last.
export const comparePlaces = (a, b) => a === null || b === null ? (a === null) - (b === null) : compare(a, b)

// Where the ascending components c(v) lie of the values v for which `v operator operand` holds.
export function cuts (operator, operand) {
  const whole = component(operand)
  const types = typeof operand === 'boolean' ? [FALSE, TRUE] : [whole[0], whole[0]]
  const [low, high] = types.map((type) => Uint8Array.of(type))
  const stem = whole.subarray(0, -2)
  switch (operator) {
    case '=': return { from: before(whole), to: behind(whole) }
    case '<': return { from: before(low), to: before(whole) }
    case '<=': return { from: before(low), to: behind(whole) }
    case '>': return { from: behind(whole), to: behind(high) }
    case '>=': return { from: before(whole), to: behind(high) }
    case 'starts with': return { from: before(stem), to: behind(stem) }
    case '!=': // with null: all that is none
      if (operand === null) return { from: before(Uint8Array.of(FALSE)), to: behind(Uint8Array.of(COMPOUND)) }
    // falls through
    default: throw new TypeError(`no range for ${operator}`)
  }
}

export function intersect (ranges) {
  return ranges.reduce((a, b) => ({
    from: comparePlaces(place(a.from), place(b.from)) >= 0 ? a.from : b.from,
    to: comparePlaces(place(a.to), place(b.to)) <= 0 ? a.to : b.to
  }))
}

export function holds (bytes, { from, to }) {
  return comparePlaces(bytes, place(from)) >= 0 && comparePlaces(bytes, place(to)) < 0
}

// The range [low, high) of the keys whose component behind `prefix` lies between the cuts.
export function keyRange (prefix, { from, to }, descending = false) {
  const turned = (cut) => ({ bytes: invert(cut.bytes), behind: !cut.behind })
  const [low, high] = descending ? [turned(to), turned(from)] : [from, to]
  const [start, end] = [low, high].map((cut) => place({ bytes: join(prefix, cut.bytes), behind: cut.behind }))
  return { low: start, high: end }
}

// The range of the ascending components themselves.
export const rangeBetween = (between) => keyRange(EMPTY, between)

// All keys that begin with `prefix`.
export const prefixRange = (prefix) => ({ low: prefix, high: next(prefix) })

export const ALL = { low: EMPTY, high: null }
