// Strings of bytes: what the language's own arrays leave out.

export const EMPTY = new Uint8Array(0)

export const join = (...parts) => new Uint8Array(Buffer.concat(parts))
export const compare = (a, b) => Buffer.compare(a, b)
export const equal = (a, b) => Buffer.compare(a, b) === 0
export const hex = (bytes) => Buffer.from(bytes).toString('hex')
export const invert = (bytes) => bytes.map((byte) => 255 - byte)

export function unhex (text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new TypeError(`not hexadecimal: ${text}`)
  return new Uint8Array(Buffer.from(text, 'hex'))
}

// The least string behind all that begin with `prefix`; null if there is none.
export function next (prefix) {
  let length = prefix.length
  while (length > 0 && prefix[length - 1] === 0xff) length -= 1
  if (length === 0) return null
  const bytes = prefix.slice(0, length)
  bytes[length - 1] += 1
  return bytes
}

// An unsigned integer, seven bits a byte, the lowest first.
export function uvarint (number) {
  const bytes = []
  for (; number >= 128; number = Math.floor(number / 128)) bytes.push(number % 128 + 128)
  return Uint8Array.of(...bytes, number)
}
