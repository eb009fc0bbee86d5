// Plans (protocols/query/1): the candidates of a query over a manifest, and the walk that each of them is.

import { compare, equal, hex, join } from './bytes.mjs'
import { digest, encode, isBytes, RECORD_BYTES_MAX } from './block.mjs'
import { must, Refused } from './errors.mjs'
import { component, cuts, intersect, keyRange, prefixRange } from './keys.mjs'
import { givesEntry, parseSortPath, primaryKey, readRecord } from './manifest.mjs'
import { conjunctsOf, isScalar, meets, RANGES, sortKey, termsOf } from './query.mjs'
import { walkCount, walkEntries } from './tree.mjs'

const CHOICES_MAX = 512
const CANDIDATES_MAX = 512
const BATCH = 64

export function collectionOf (query, manifest) {
  const collection = manifest.collections.get(query.collection)
  if (collection === undefined) throw new Refused(`no collection ${query.collection}`)
  return collection
}

// The candidates, in their order: {plan, ordered, repeats, residual, paths, tree, primary}.
export function candidatesOf (query, manifest) {
  const collection = collectionOf(query, manifest)
  const primary = { paths: [collection.key], tree: collection.primary, lists: [0n] }
  const found = new Map()
  for (const [name, index] of [...collection.indexes, ['', primary]]) {
    for (const candidate of candidatesOver(name, index, query, collection)) {
      const text = hex(encode(candidate.plan))
      if (!found.has(text) && found.size < CANDIDATES_MAX) found.set(text, candidate)
    }
  }
  return [...found.values()]
}

function * candidatesOver (name, { paths, tree, lists }, query, collection) {
  const sortPaths = paths.map(parseSortPath)
  const conjuncts = conjunctsOf(query.condition)
  const terms = termsOf(query, collection)
  for (const chosen of choicesOf(sortPaths, conjuncts)) {
    const { range, repeats, bound } = rangeOf(chosen, sortPaths, lists, conjuncts)
    const boundPaths = chosen.length + (bound.length > chosen.length ? 1 : 0)
    if (lists.slice(boundPaths).some((count) => count !== 0n)) continue
    const direction = repeats ? null : directionOf(chosen.length, sortPaths, lists, terms, collection.key)
    const boundForms = new Set(bound.map((conjunct) => hex(encode(conjunct))))
    yield {
      plan: [name, range.low, range.high, direction === 'backwards'],
      ordered: direction !== null,
      repeats,
      residual: conjuncts.filter((conjunct) => !boundForms.has(hex(encode(conjunct)))),
      paths,
      tree,
      primary: name === ''
    }
  }
}

// Step 1: one equality for each of the first paths, in every way, the last path varying fastest.
function choicesOf (sortPaths, conjuncts) {
  let choices = [[]]
  for (const { path } of sortPaths) {
    const equalities = conjuncts.map((conjunct) => equalityAt(path, conjunct)).filter((equality) => equality !== null)
    if (equalities.length === 0) break
    choices = choices.flatMap((chosen) => equalities.map((equality) => [...chosen, equality])).slice(0, CHOICES_MAX)
  }
  return choices
}

function equalityAt (path, conjunct) {
  const [operator, at, operand] = conjunct
  if (at !== path) return null
  if (operator === '=' && !Array.isArray(operand)) return { conjunct, value: operand }
  if (operator === 'in' && operand.length === 1 && isScalar(operand[0])) return { conjunct, value: operand[0] }
  return null
}

// Steps 2 and 3.
function rangeOf (chosen, sortPaths, lists, conjuncts) {
  const prefix = join(...chosen.map(({ value }, i) => component(value, sortPaths[i].descending)))
  const bound = chosen.map(({ conjunct }) => conjunct)
  const following = sortPaths[chosen.length]
  let ranges = conjuncts.filter(([operator, path]) => RANGES.includes(operator) && path === following?.path)
  if (ranges.length === 0) return { range: prefixRange(prefix), repeats: false, bound }
  const repeats = lists[chosen.length] !== 0n
  if (repeats) ranges = ranges.slice(0, 1)
  const between = intersect(ranges.map(([operator, , operand]) => cuts(operator, operand)))
  return { range: keyRange(prefix, between, following.descending), repeats, bound: [...bound, ...ranges] }
}

// Step 5: 'forwards' or 'backwards' if the entries come in the order of the terms, otherwise null.
function directionOf (chosen, sortPaths, lists, terms, key) {
  const fixed = new Set(sortPaths.slice(0, chosen).filter((_, i) => lists[i] === 0n).map(({ path }) => path))
  const wanted = terms.filter(({ path }) => !fixed.has(path))
  const given = sortPaths.slice(chosen)
  const place = given.findIndex(({ path }) => path === key)
  if (place !== -1) given.splice(place + 1)
  else given.push({ path: key, descending: sortPaths.at(-1).descending })
  const same = (turned) => given.length === wanted.length && given.every(({ path, descending }, i) =>
    path === wanted[i].path && (descending !== wanted[i].descending) === turned)
  if (fixed.has(key) || wanted.length === 0 || same(false)) return 'forwards'
  return same(true) ? 'backwards' : null
}

// The candidate that a plan is; Refused if it is none.
export function candidateFor (plan, candidates) {
  const form = encode(plan)
  const candidate = candidates.find((other) => equal(encode(other.plan), form))
  if (candidate === undefined) throw new Refused('a plan that is no candidate')
  return candidate
}

// Where a walk has come to: its rows {record, bytes, primary, entry, sortKey}, the position, and, of a count from
// inner nodes, what was counted. `batch`: entries whose records have come, of a batch that is not whole yet.
export class Progress {
  constructor (after, left) {
    Object.assign(this, { rows: [], batch: [], position: after, left, counted: null, seen: new Set() })
  }

  // Step 3 of a batch. Where an answer pauses within one, what has come of it is as certain as a whole one.
  takeBatch ({ residual, repeats }, terms) {
    for (const row of this.batch) {
      if (this.left === 0) break
      this.position = row.entry
      if (!residual.every((condition) => meets(row.record, condition))) continue
      if (repeats && this.seen.has(hex(row.primary))) continue
      if (repeats) this.seen.add(hex(row.primary))
      this.rows.push({ ...row, sortKey: sortKey(row.record, terms) })
      if (this.left !== null) this.left -= 1
    }
    this.batch = []
  }
}

// The walk of a candidate, a generator as in tree.mjs; what it finds is put in `progress`.
export function * walkPlan (query, collection, candidate, progress) {
  const [, low, high, reverse] = candidate.plan
  if (query.count && !candidate.repeats && candidate.residual.length === 0) {
    progress.counted = yield * walkCount(candidate.tree, { low, high })
    return
  }
  if (!candidate.ordered || query.count) progress.left = null
  if (progress.left === 0) return
  const terms = termsOf(query, collection)
  const range = behind(progress.position, { low, high }, reverse)
  yield * walkEntries(candidate.tree, range, reverse, function * (entries) {
    while (entries.length > 0) {
      const wanted = progress.left !== null && candidate.residual.length === 0 ? progress.left : BATCH
      const batch = entries.slice(0, Math.min(wanted, BATCH))
      entries = entries.slice(batch.length)
      yield * walkBatch(batch, collection, candidate, terms, progress)
      if (progress.left === 0) return true
    }
    return false
  })
}

// The part of a range behind a position. The least key above p is p and a zero byte.
function behind (position, { low, high }, reverse) {
  if (position === null) return { low, high }
  if (reverse) return { low, high: high === null || compare(position, high) < 0 ? position : high }
  const start = join(position, Uint8Array.of(0))
  return { low: compare(start, low) > 0 ? start : low, high }
}

function * walkBatch (batch, collection, candidate, terms, progress) {
  for (const [key, value] of batch) {
    const isHere = candidate.primary && isBytes(value)
    const bytes = isHere ? value : yield { digest: digestIn(value, candidate), bytesMax: RECORD_BYTES_MAX }
    progress.batch.push(readEntry(key, bytes, collection, candidate))
  }
  progress.takeBatch(candidate, terms)
}

function digestIn (value, { primary }) {
  if (primary) return value.digest
  must(isBytes(value) && value.length === 32, 'an entry of an index that is no digest')
  return value
}

// A record that an entry leads to, checked against it.
function readEntry (key, bytes, collection, { primary, paths }) {
  const record = readRecord(bytes)
  const own = primaryKey(record, collection.key)
  if (primary) must(equal(own, key), 'a record under another primary key')
  else must(givesEntry(record, collection.key, paths, key), 'an entry that the record does not give')
  return { record, bytes, primary: own, entry: key }
}

// The driver of a walk: it is given blocks and holds each to what the walk needs next.
export class Walk {
  constructor (generator) {
    this.generator = generator
    this.had = new Map()
    this.advance(undefined)
  }

  // The digest that is needed next; null if the walk has ended.
  get needed () {
    return this.need?.digest ?? null
  }

  supply (bytes) {
    must(this.need !== null, 'a block more than the walk needs')
    must(bytes.length <= this.need.bytesMax, 'a block that is too large')
    must(equal(digest(bytes), this.need.digest), 'a block that is not the one that the walk needs next')
    this.had.set(hex(this.need.digest), bytes)
    this.advance(bytes)
  }

  // A block that is needed again is not sent again.
  advance (bytes) {
    do {
      const { done, value } = this.generator.next(bytes)
      this.need = done ? null : value
      bytes = done ? undefined : this.had.get(hex(value.digest))
    } while (bytes !== undefined)
  }
}
