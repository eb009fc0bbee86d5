// Groups (protocols/query/1): the walk that counts the entries of an index by a component of their keys, and the
// answer to a grouped query.

import { compare, hex, unhex } from './bytes.mjs'
import { component, readComponent } from './keys.mjs'
import { childrenOf, inRange, isEmpty, need, needRoot, promised } from './tree.mjs'
import { valuesAt } from './record.mjs'

// How many of what, by ascending components.
export class Groups {
  constructor () {
    this.counts = new Map()
  }

  add (bytes, count) {
    const name = hex(bytes)
    this.counts.set(name, (this.counts.get(name) ?? 0n) + count)
  }

  addAll ({ counts }) {
    for (const [name, count] of counts) this.add(unhex(name), count)
  }

  // A record counts once for each distinct value.
  addRecord (record, path) {
    const components = valuesAt(record, path).values.map((value) => hex(component(value)))
    for (const name of new Set(components)) this.add(unhex(name), 1n)
  }

  // The answer: maps with a value and perhaps its count.
  rows ({ path, counts }, limit) {
    const groups = [...this.counts].map(([name, count]) => ({ bytes: unhex(name), count }))
    groups.sort((a, b) => (counts ? Number(b.count - a.count) : 0) || compare(a.bytes, b.bytes))
    const first = limit === null ? groups : groups.slice(0, Number(limit))
    return first.map(({ bytes, count }) => {
      const value = asInteger(readComponent(bytes).value)
      return new Map(counts ? [['value', value], ['count', count]] : [['value', value]])
    })
  }
}

// Larger floats that are whole were read as integers already, if one of 64 bits can hold them.
const asInteger = (value) => Number.isSafeInteger(value) ? BigInt(value) : value

// Counts the entries of a range by the component that begins at `start`. `visit` is given what has been counted since
// it was called last, and the position that holds for all of it.
export function * walkGroups (tree, range, start, visit) {
  if (isEmpty(tree, range)) return
  let groups = new Groups()
  const pending = [{ read: () => needRoot(tree), behind: null }]
  while (pending.length > 0) {
    const { read, behind, whole } = pending.pop()
    if (whole !== undefined) {
      groups.add(whole.group, whole.count)
      continue
    }
    const node = yield * read()
    if (node.level === 0) {
      const keys = node.keys.filter((key) => inRange(key, range))
      for (const key of keys) groups.add(groupOf(key, start).bytes, 1n)
      if (keys.length === 0) continue
      visit(groups, keys.at(-1))
      groups = new Groups()
      continue
    }
    const children = childrenOf(node, range).map((i) => {
      const later = node.keys[i + 1] ?? behind
      const whole = { group: onlyGroup(node.keys[i], later, range, start), count: node.counts[i] }
      return whole.group === null ? { read: () => need(promised(node, i)), behind: later } : { whole }
    })
    pending.push(...children.reverse())
  }
  visit(groups, null)
}

// The group of a key, as an ascending component, and where it ends in the key.
function groupOf (key, start) {
  const { value, end } = readComponent(key, start)
  return { bytes: component(value), end }
}

// The group in which all keys from `key` up to `behind` are, if that is known.
function onlyGroup (key, behind, { low, high }, start) {
  if (compare(key, low) < 0 || behind === null || (high !== null && compare(behind, high) > 0)) return null
  const { bytes, end } = groupOf(key, start)
  return compare(behind.subarray(0, end), key.subarray(0, end)) === 0 ? bytes : null
}
