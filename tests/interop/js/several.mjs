// The entries of several access paths at once (protocols/query/1): those that all of them have, or any. Positions are
// tails: what stands in a key behind its fixed beginning.

import { compare, join } from './bytes.mjs'
import { childrenOf, inRange, lastAtMost, need, needRoot, promised } from './tree.mjs'

const BATCH = 64
const ZERO = Uint8Array.of(0)

// The part of a range behind a position. The least key above p is p and a zero byte.
export function behind ({ low, high }, position, reverse) {
  if (position === null) return { low, high }
  if (reverse) return { low, high: least(high, position) }
  const start = join(position, ZERO)
  return { low: compare(start, low) > 0 ? start : low, high }
}

const least = (high, key) => high === null || compare(key, high) < 0 ? key : high

const tailOf = (part, key) => key.subarray(part.beginning.length)

const behindTail = (part, tail, reverse) => behind(part.range, tail && join(part.beginning, tail), reverse)

// The part of a range from a tail on.
function fromTail ({ range: { low, high }, beginning }, tail, reverse) {
  const key = join(beginning, tail)
  if (reverse) return { low, high: least(high, join(key, ZERO)) }
  return { low: compare(key, low) > 0 ? key : low, high }
}

// The first entry of a range, or the last one: {key, value, tail}, or null.
function * jump (part, range, reverse) {
  const found = reverse ? yield * lastIn(part.tree, range) : yield * firstIn(part.tree, range)
  return found && { ...found, tail: tailOf(part, found.key) }
}

function * firstIn (tree, { low, high }) {
  for (let sought = low; sought !== null && inRange(sought, { low, high });) {
    let following = null
    let node = yield * needRoot(tree)
    while (node.level > 0) {
      const i = lastAtMost(node.keys, sought)
      following = node.keys[i + 1] ?? following
      node = yield * need(promised(node, i))
    }
    const i = node.keys.findIndex((key) => compare(key, sought) >= 0)
    if (i !== -1) return inRange(node.keys[i], { low, high }) ? { key: node.keys[i], value: node.values[i] } : null
    sought = following
  }
  return null
}

function * lastIn (tree, { low, high }) {
  const lastBelow = (keys) => keys.findLastIndex((key) => high === null || compare(key, high) < 0)
  let node = yield * needRoot(tree)
  while (node.level > 0) node = yield * need(promised(node, Math.max(lastBelow(node.keys), 0)))
  const i = lastBelow(node.keys)
  return i !== -1 && inRange(node.keys[i], { low, high }) ? { key: node.keys[i], value: node.values[i] } : null
}

// Gives `visit` entries in batches.
class Batches {
  constructor (visit) {
    Object.assign(this, { visit, entries: [], ended: false })
  }

  * add (entry) {
    this.entries.push(entry)
    if (this.entries.length === BATCH) yield * this.finish()
  }

  * finish () {
    const entries = this.entries
    this.entries = []
    if (entries.length > 0 && !this.ended) this.ended = yield * this.visit(entries)
  }
}

export function * walkAll ({ parts, reverse }, position, visit) {
  const batches = new Batches(visit)
  const [leader] = parts
  let first = yield * jump(leader, behindTail(leader, position, reverse), reverse)
  while (first !== null && !batches.ended) {
    const givers = [{ part: leader, key: first.key, value: first.value }]
    let other = first
    for (const part of parts.slice(1)) {
      other = yield * jump(part, fromTail(part, first.tail, reverse), reverse)
      if (other === null || compare(other.tail, first.tail) !== 0) break
      givers.push({ part, key: other.key, value: other.value })
    }
    if (other === null) break
    if (givers.length === parts.length) {
      yield * batches.add({ position: first.tail, givers })
      if (!batches.ended) first = yield * jump(leader, behindTail(leader, first.tail, reverse), reverse)
    } else {
      first = yield * jump(leader, fromTail(leader, other.tail, reverse), reverse)
    }
  }
  yield * batches.finish()
}

export function * walkAny ({ parts, reverse }, position, visit) {
  const batches = new Batches(visit)
  const sources = parts.map((part) => new Leaves(part, behindTail(part, position, reverse), reverse))
  while (!batches.ended) {
    for (let empty = waiting(sources); empty.length > 0; empty = waiting(sources)) {
      for (const source of empty) yield * source.readLeaf()
    }
    const inHand = sources.filter(({ entries }) => entries.length > 0)
    if (inHand.length === 0) break
    const tails = inHand.map(({ part, entries }) => tailOf(part, entries[0][0])).sort(compare)
    const tail = reverse ? tails.at(-1) : tails[0]
    const givers = inHand.filter(({ part, entries }) => compare(tailOf(part, entries[0][0]), tail) === 0)
    const taken = givers.map(({ part, entries }) => ({ part, entry: entries.shift() }))
    yield * batches.add({ position: tail, givers: taken.map(({ part, entry: [key, value] }) => ({ part, key, value })) })
  }
  yield * batches.finish()
}

const waiting = (sources) => sources.filter(({ entries, ended }) => entries.length === 0 && !ended)

// The entries of a part's range, leaf by leaf.
class Leaves {
  constructor (part, range, reverse) {
    Object.assign(this, { part, range, reverse, entries: [], ended: false })
    this.pending = part.tree.count === 0n || !inRange(range.low, range) ? [] : [() => needRoot(part.tree)]
    this.ended = this.pending.length === 0
  }

  // Down to the next leaf; where the first key of a node is behind the range already, there may be none.
  * readLeaf () {
    for (let isLeaf = false; !isLeaf && this.pending.length > 0;) {
      const node = yield * this.pending.pop()()
      isLeaf = node.level === 0
      if (isLeaf) {
        const entries = node.keys.map((key, i) => [key, node.values[i]]).filter(([key]) => inRange(key, this.range))
        this.entries = this.reverse ? entries.reverse() : entries
      } else {
        const children = childrenOf(node, this.range).map((i) => () => need(promised(node, i)))
        this.pending.push(...(this.reverse ? children : children.reverse()))
      }
    }
    this.ended = this.pending.length === 0
  }
}
