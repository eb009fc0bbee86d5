// Messages (protocols/message/1): frames, requests, and the replies to one of them.

import { inflateRawSync } from 'node:zlib'

import { EMPTY, equal, join, uvarint } from './bytes.mjs'
import { decode, encode, isBytes, isInteger } from './block.mjs'
import { must, PeerError } from './errors.mjs'

const FRAME_BYTES_MAX = 65536
const UNPACKED_BYTES_MAX = 65536
const PARTS_BYTES_MAX = 1048576
const NUMBER_MAX = 2n ** 32n - 1n
const ERROR_TEXT_MAX = 500
const CODES = ['unknown', 'missing', 'refused', 'malformed', 'busy']

export function frame (body) {
  if (body.length < 1 || body.length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${body.length} bytes`)
  return join(uvarint(body.length), body)
}

export const requestFrame = (number, fields) => frame(encode([BigInt(number), new Map(Object.entries(fields))]))

// Bytes of a stream in, bodies of frames out.
export class Frames {
  constructor () {
    this.pending = EMPTY
  }

  * receive (bytes) {
    this.pending = join(this.pending, bytes)
    for (let length = this.lengthSize(); length > 0; length = this.lengthSize()) {
      const size = this.pending.subarray(0, length).reduceRight((sum, byte) => sum * 128 + byte % 128, 0)
      must(size >= 1 && size <= FRAME_BYTES_MAX, 'a frame that is empty or too long')
      must(equal(uvarint(size), this.pending.subarray(0, length)), 'a length in a longer form')
      if (this.pending.length < length + size) return
      const body = this.pending.slice(length, length + size)
      this.pending = this.pending.slice(length + size)
      yield body
    }
  }

  // How many bytes the next frame's length has; 0 while it has not come whole.
  lengthSize () {
    const end = this.pending.findIndex((byte) => byte < 128)
    must(end < 3 && (end !== -1 || this.pending.length < 3), 'a length without an end')
    return end + 1
  }

  mustBeEmpty () {
    must(this.pending.length === 0, 'a stream that ends within a frame')
  }
}

// The replies to one request. Bodies in; what they say is told to a conversation, by its methods open(fields),
// block(bytes or null) and end(fields).
export class Replies {
  constructor (number, conversation) {
    this.number = BigInt(number)
    this.conversation = conversation
    this.mayBePacked = conversation.request?.packed === true
    this.parts = []
    this.ended = false
  }

  receive (body) {
    const [number, kind, ...rest] = readReply(body)
    must(number === this.number && !this.ended, 'a reply to no request')
    if (kind === 'part') return this.part(rest[0])
    if (kind === 'blocks') return this.blocks(rest[0])
    if (kind === 'packed') {
      must(this.mayBePacked, 'packed where that was not asked for')
      return this.blocks(unpack(rest[0]))
    }
    must(this.parts.length === 0 || kind === 'error', `${kind} within a block`)
    if (kind === 'open') return this.conversation.open(rest[0])
    this.ended = true
    if (kind === 'error') throw new PeerError(...rest)
    this.conversation.end(rest[0])
  }

  mustHaveEnded () {
    must(this.ended, 'a stream that ends within an answer')
  }

  part (bytes) {
    this.parts.push(bytes)
    must(this.parts.reduce((sum, part) => sum + part.length, 0) <= PARTS_BYTES_MAX, 'parts of too many bytes')
  }

  blocks (blocks) {
    must(this.parts.length === 0 || blocks[0] !== null, 'null behind a part')
    const [first, ...others] = blocks
    const whole = this.parts.length === 0 ? first : join(...this.parts, first)
    this.parts = []
    for (const block of [whole, ...others]) this.conversation.block(block)
  }
}

export function unpack (bytes) {
  const { buffer, engine } = inflate(bytes)
  must(engine.bytesWritten === bytes.length, 'bytes behind what was packed')
  const blocks = decode(new Uint8Array(buffer))
  must(areBlocks(blocks), 'not a list of blocks')
  return blocks
}

function inflate (bytes) {
  try {
    return inflateRawSync(bytes, { info: true, maxOutputLength: UNPACKED_BYTES_MAX })
  } catch (error) {
    return must(false, `not packed: ${error.message}`)
  }
}

export function readReply (body) {
  const reply = decode(body)
  must(Array.isArray(reply) && isInteger(reply[0], 0, NUMBER_MAX), 'not a reply')
  const [, kind, ...rest] = reply
  must(rest.length === (kind === 'error' ? 2 : 1) && isSound(kind, rest), 'a reply of another form')
  return reply
}

const isItem = (block) => block === null || isBytes(block)
const areBlocks = (blocks) => Array.isArray(blocks) && blocks.length > 0 && blocks.every(isItem)

function isSound (kind, [first, second]) {
  switch (kind) {
    case 'open': case 'end': return first instanceof Map
    case 'part': return isBytes(first) && first.length > 0
    case 'packed': return isBytes(first)
    case 'blocks': return areBlocks(first)
    case 'error': return CODES.includes(first) && typeof second === 'string' && [...second].length <= ERROR_TEXT_MAX
    default: return false
  }
}
