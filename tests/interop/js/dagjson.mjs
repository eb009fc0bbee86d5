// Values as text: DAG-JSON, as the vectors and the command line write them.
//
// JSON.parse reads 1.0 as 1, which is another value here, so this reads for itself.

import { base64 } from 'multiformats/bases/base64'
import { isBytes, Link } from './block.mjs'
import { UsageError } from './errors.mjs'

const MARK = /([[\]{}:,])/
const WORD = /(true|false|null)/
const NUMBER = /(-?(?:0|[1-9]\d*))(\.\d+)?([eE][+-]?\d+)?/
const STRING = /("(?:[^"\\\x00-\x1f]|\\.)*")/
const TOKEN = new RegExp(`\\s*(?:${[MARK, WORD, NUMBER, STRING].map(({ source }) => source).join('|')})\\s*`, 'y')

class Parser {
  constructor (text) {
    this.text = text
    this.at = 0
    this.advance()
  }

  fail (what) {
    throw new UsageError(`${what} near character ${this.at} of ${this.text.slice(0, 60)}`)
  }

  advance () {
    this.mark = this.word = this.integer = this.float = this.string = undefined
    this.ended = this.at === this.text.length
    if (this.ended) return
    TOKEN.lastIndex = this.at
    const match = TOKEN.exec(this.text)
    if (match === null) this.fail('this is no JSON')
    this.at = TOKEN.lastIndex
    const [, mark, word, digits, fraction, exponent, string] = match
    Object.assign(this, { mark, word, string })
    if (digits !== undefined && (fraction ?? exponent) === undefined) this.integer = BigInt(digits)
    else if (digits !== undefined) this.float = Number(digits + (fraction ?? '') + (exponent ?? ''))
  }

  expect (mark) {
    if (this.mark !== mark) this.fail(`a ${mark} is missing`)
    this.advance()
  }

  scalar () {
    if ((this.word ?? this.string) !== undefined) return JSON.parse(this.word ?? this.string)
    return this.integer ?? this.float ?? this.fail('a value is missing')
  }

  value () {
    if (this.mark === '[') return this.list()
    if (this.mark === '{') return special(this.map())
    const value = this.scalar()
    this.advance()
    return value
  }

  list () {
    const items = []
    this.expect('[')
    while (this.mark !== ']') {
      if (items.length > 0) this.expect(',')
      items.push(this.value())
    }
    this.advance()
    return items
  }

  map () {
    const items = new Map()
    this.expect('{')
    while (this.mark !== '}') {
      if (items.size > 0) this.expect(',')
      const name = this.string === undefined ? this.fail('a name is missing') : this.scalar()
      if (items.has(name)) this.fail('a name given twice')
      this.advance()
      this.expect(':')
      items.set(name, this.value())
    }
    this.advance()
    return items
  }
}

// {"/": text} is a link, {"/": {"bytes": text}} bytes.
function special (map) {
  const inner = map.size === 1 ? map.get('/') : undefined
  if (typeof inner === 'string') return Link.fromText(inner)
  if (inner instanceof Map && inner.size === 1 && typeof inner.get('bytes') === 'string') {
    return base64.baseDecode(inner.get('bytes'))
  }
  return map
}

export function parse (text) {
  const parser = new Parser(text)
  const value = parser.value()
  if (!parser.ended) parser.fail('something follows')
  return value
}

const formatPair = ([name, item]) => `${JSON.stringify(name)}:${format(item)}`

export function format (value) {
  if (Array.isArray(value)) return `[${value.map(format).join(',')}]`
  if (value instanceof Map) return `{${[...value].map(formatPair).join(',')}}`
  if (value instanceof Link) return `{"/":"${value.text}"}`
  if (isBytes(value)) return `{"/":{"bytes":"${base64.baseEncode(value)}"}}`
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'number') return /[.e]/.test(String(value)) ? String(value) : `${value}.0`
  return JSON.stringify(value)
}
