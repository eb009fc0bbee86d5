// Trees (protocols/tree/1): nodes, what is checked of each, the rule that cuts them, and walks.
//
// A walk is a generator. It yields each block that it needs as {digest, bytesMax} and is sent the bytes, whose
// digest is already checked; what it returns is its result.

import { createHash } from 'node:crypto'
import { compare, equal } from './bytes.mjs'
import { CHUNK_BYTES_MAX, decode, encode, isBytes, isInteger, Link } from './block.mjs'
import { must } from './errors.mjs'
import { KEY_BYTES_MAX } from './keys.mjs'

const VALUE_BYTES_MAX = 2048
const ITEMS_MAX = 2048
const LEVEL_MAX = 31
const COUNT_MAX = 2n ** 53n - 1n

// A node in every respect that can be told from its bytes: {level, keys, values, count} or
// {level, keys, links, counts, count}. Counts are BigInts.
export function readNode (bytes) {
  must(bytes.length <= CHUNK_BYTES_MAX, 'a chunk that is too large')
  const parts = decode(bytes)
  must(Array.isArray(parts) && isInteger(parts[0], 0, LEVEL_MAX), 'not a node')
  const [level, keys] = [Number(parts[0]), parts[1]]
  must(parts.length === (level === 0 ? 3 : 4) && parts.slice(1).every(Array.isArray), 'a node of another form')
  must(parts.slice(1).every((list) => list.length === keys.length), 'lists of unequal lengths')
  must(keys.length <= ITEMS_MAX, 'a node of too many items')
  must(keys.every((key) => isBytes(key) && key.length <= KEY_BYTES_MAX), 'a key that is none')
  must(keys.every((key, i) => i === 0 || compare(keys[i - 1], key) < 0), 'keys that do not increase')
  return level === 0 ? leaf(keys, parts[2]) : inner(level, keys, parts[2], parts[3])
}

function leaf (keys, values) {
  const isValue = (value) => value instanceof Link || (isBytes(value) && value.length <= VALUE_BYTES_MAX)
  must(values.every(isValue), 'a value that is none')
  return { level: 0, keys, values, count: BigInt(keys.length) }
}

function inner (level, keys, links, counts) {
  must(keys.length > 0, 'an inner node without children')
  must(links.every((link) => link instanceof Link), 'a child that is no link')
  must(counts.every((count) => isInteger(count, 1, COUNT_MAX)), 'a count that is none')
  return { level, keys, links, counts, count: counts.reduce((a, b) => a + b) }
}

// What a parent says of its child number i.
export const promised = ({ level, keys, links, counts }, i) =>
  ({ link: links[i], level: level - 1, key: keys[i], count: counts[i] })

export function * need ({ link, level, key, count }) {
  const node = readNode(yield { digest: link.digest, bytesMax: CHUNK_BYTES_MAX })
  must(node.level === level && node.keys.length > 0 && equal(node.keys[0], key), 'another child than its parent says')
  must(node.count === count, 'a child with another count')
  return node
}

// `tree` is {root, count}, as a manifest gives it.
export function * needRoot ({ root, count }) {
  const node = readNode(yield { digest: root.digest, bytesMax: CHUNK_BYTES_MAX })
  must(node.count === count, 'a count that the tree does not have')
  must(node.level === 0 || node.keys.length > 1, 'a root with a single child')
  return node
}

// The position of the last key that is at most `key`; the first one if there is none.
export function lastAtMost (keys, key) {
  const behind = keys.findIndex((other) => compare(other, key) > 0)
  return Math.max(behind === -1 ? keys.length - 1 : behind - 1, 0)
}

const below = (key, high) => high === null || compare(key, high) < 0
export const inRange = (key, { low, high }) => compare(key, low) >= 0 && below(key, high)

// The positions of the children that may hold keys of a range.
export function childrenOf (node, { low, high }) {
  const positions = []
  for (let i = lastAtMost(node.keys, low); i < node.keys.length && below(node.keys[i], high); i += 1) positions.push(i)
  return positions
}

export const isEmpty = (tree, { low, high }) => tree.count === 0n || !below(low, high)

// The walk "entries of a range". `visit` is a generator that is given the entries of each leaf that lie in the
// range, as [[key, value]...], none if there are none, and returns true to end the walk.
export function * walkEntries (tree, range, reverse, visit) {
  if (isEmpty(tree, range)) return
  const pending = [function * () { return yield * needRoot(tree) }]
  while (pending.length > 0) {
    const node = yield * pending.pop()()
    if (node.level > 0) {
      const children = childrenOf(node, range).map((i) => () => need(promised(node, i)))
      pending.push(...(reverse ? children : children.reverse()))
    } else {
      const entries = node.keys.map((key, i) => [key, node.values[i]]).filter(([key]) => inRange(key, range))
      if (yield * visit(reverse ? entries.reverse() : entries)) return
    }
  }
}

// The walk "count of a range".
export function * walkCount (tree, range) {
  if (isEmpty(tree, range)) return 0n
  if (range.low.length === 0 && range.high === null) return tree.count
  let nodes = [yield * needRoot(tree)]
  let count = 0n
  while (nodes.length > 0) {
    const needed = []
    for (const node of nodes) {
      if (node.level === 0) {
        count += BigInt(node.keys.filter((key) => inRange(key, range)).length)
      } else {
        for (const i of childrenOf(node, range)) {
          if (isWhole(node, i, range)) count += node.counts[i]
          else needed.push(promised(node, i))
        }
      }
    }
    nodes = []
    for (const child of needed) nodes.push(yield * need(child))
  }
  return count
}

function isWhole (node, i, { low, high }) {
  if (compare(node.keys[i], low) < 0) return false
  return high === null || (i + 1 < node.keys.length && compare(node.keys[i + 1], high) <= 0)
}

// The walk "values of keys": for each of the sorted keys its value, undefined where there is none. The specification
// can be read as if it needed nothing in an empty tree; its vectors need the root.
export function * walkValues (tree, keys) {
  let level = [{ node: yield * needRoot(tree), keys }]
  const values = []
  while (level.length > 0) {
    const children = []
    for (const { node, keys } of level) {
      if (node.level > 0) children.push(...shared(node, keys))
      else for (const key of keys) values.push(node.values[node.keys.findIndex((other) => equal(other, key))])
    }
    level = []
    for (const { child, keys } of children) level.push({ node: yield * need(child), keys })
  }
  return values
}

// The children that hold these keys, each once, with those keys.
function shared (node, keys) {
  const children = new Map()
  for (const key of keys) {
    const i = lastAtMost(node.keys, key)
    children.set(i, [...children.get(i) ?? [], key])
  }
  return [...children].map(([i, keys]) => ({ child: promised(node, i), keys }))
}

// Cutting.

export function priority (salt, level, key) {
  const hash = createHash('sha256').update(salt).update(Uint8Array.of(level)).update(key)
  return hash.digest().subarray(0, 8)
}

// The items before which a level is cut: the pass with a stack.
export function cutsOf (items, salt, level, weightMax) {
  const ends = [0]
  for (const { weight } of items) ends.push(ends.at(-1) + weight)
  const priorities = items.map(({ key }) => priority(salt, level, key))
  const stack = []
  const cuts = []
  const takeOff = (end) => {
    const gap = stack.pop()
    if (ends[end] - ends[stack.at(-1) ?? 0] > weightMax) cuts.push(gap)
  }
  for (let i = 1; i < items.length; i += 1) {
    while (stack.length > 0 && compare(priorities[stack.at(-1)], priorities[i]) > 0) takeOff(i)
    stack.push(i)
  }
  while (stack.length > 0) takeOff(items.length)
  return cuts.sort((a, b) => a - b)
}

// The tree of sorted [key, value] entries: {root, count, blocks}, blocks by the text of their names.
export function build (entries, salt, weightMax) {
  const blocks = new Map()
  const store = (value) => {
    const bytes = encode(value)
    const link = Link.of(bytes)
    blocks.set(link.text, bytes)
    return link
  }
  const weightOf = ([key, value]) => key.length + (value instanceof Link ? 36 : value.length) + 16
  let items = entries.map((entry) => ({ key: entry[0], value: entry[1], count: 1n, weight: weightOf(entry) }))
  if (items.length === 0) return { root: store([0n, [], []]), count: 0n, blocks }
  for (let level = 0; level === 0 || items.length > 1; level += 1) {
    const bounds = [0, ...cutsOf(items, salt, level, weightMax), items.length]
    const runs = bounds.slice(1).map((end, i) => items.slice(bounds[i], end))
    items = runs.map((run) => {
      const lists = [run.map((item) => item.key), run.map((item) => item.value)]
      if (level > 0) lists.push(run.map((item) => item.count))
      const count = run.reduce((sum, item) => sum + item.count, 0n)
      return { key: run[0].key, value: store([BigInt(level), ...lists]), count, weight: run[0].key.length + 48 }
    })
  }
  return { root: items[0].value, count: items[0].count, blocks }
}
