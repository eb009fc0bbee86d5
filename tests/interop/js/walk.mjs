// The walk of a plan (protocols/query/1): which blocks it needs, in order, and what it finds.

import { equal, hex, invert } from './bytes.mjs'
import { digest, encode, isBytes, RECORD_BYTES_MAX } from './block.mjs'
import { meets } from './condition.mjs'
import { must } from './errors.mjs'
import { Groups, walkGroups } from './groups.mjs'
import { readComponent } from './keys.mjs'
import { givesEntry, takeApart } from './manifest.mjs'
import { sortKey, termsOf, wantsRows } from './query.mjs'
import { primaryKey, projection, readRecord } from './record.mjs'
import { behind, walkAll, walkAny } from './several.mjs'
import { walkCount, walkEntries } from './tree.mjs'

const BATCH = 64

// Where a walk has come to: its rows {record, digest, primary, position, sortKey}, the position, and, of a count from
// inner nodes or of entries alone, what was counted, and of groups from them, which. `batch`: rows of entries whose
// records have come, of a batch that is not whole yet. A position is the key of an entry, or its tail if there are
// several access paths. Of a covered candidate a row's record is what its entry includes.
export class Progress {
  constructor (after, left) {
    const found = { rows: [], batch: [], counted: null, groups: null }
    Object.assign(this, { ...found, position: after, left, seen: new Set() })
  }

  // Step 3 of a batch. Where an answer pauses within one, what has come of it is as certain as a whole one.
  takeBatch ({ residual, repeats }, terms) {
    for (const row of this.batch) {
      if (this.left === 0) break
      this.position = row.position
      if (!residual.every((condition) => meets(row.record, condition))) continue
      if (repeats && this.seen.has(hex(row.primary))) continue
      if (repeats) this.seen.add(hex(row.primary))
      this.rows.push({ ...row, sortKey: sortKey(row.record, terms) })
      if (this.left !== null) this.left -= 1
    }
    this.batch = []
  }

  takeGroups (groups, position) {
    this.groups.addAll(groups)
    if (position !== null) this.position = position
  }
}

// The walk of a candidate, a generator as in tree.mjs; what it finds is put in `progress`.
export function * walkPlan (query, collection, candidate, progress) {
  const [{ tree, range, beginning }] = candidate.parts
  if (candidate.grouped) {
    progress.groups = new Groups()
    const rest = behind(range, progress.position, false)
    yield * walkGroups(tree, rest, beginning.length, (...found) => progress.takeGroups(...found))
    return
  }
  const isBareCount = query.count && !candidate.repeats && candidate.residual.length === 0
  if (isBareCount && candidate.kind === 'one') {
    progress.counted = yield * walkCount(tree, range)
    return
  }
  if (isBareCount) progress.counted ??= 0n
  if (!candidate.ordered || !wantsRows(query)) progress.left = null
  if (progress.left === 0) return
  const terms = termsOf(query, collection)
  yield * ENTRIES[candidate.kind](candidate, progress.position, function * (entries) {
    while (entries.length > 0) {
      const wanted = progress.left !== null && candidate.residual.length === 0 ? progress.left : BATCH
      const batch = entries.slice(0, Math.min(wanted, BATCH))
      entries = entries.slice(batch.length)
      if (isBareCount) countBatch(batch, progress)
      else yield * walkBatch(batch, collection, candidate, terms, progress)
      if (progress.left === 0) return true
    }
    return false
  })
}

// The entries of a plan behind a position, a generator of needs. `visit` is given some of them after the other, as
// {position, givers}: givers are the parts that have the entry, each with its key and its value there.
const ENTRIES = { one: walkOne, all: walkAll, any: walkAny }

function * walkOne ({ parts: [part], reverse }, position, visit) {
  const asEntry = ([key, value]) => ({ position: key, givers: [{ part, key, value }] })
  const range = behind(part.range, position, reverse)
  yield * walkEntries(part.tree, range, reverse, (entries) => visit(entries.map(asEntry)))
}

function countBatch (batch, progress) {
  progress.counted = (progress.counted ?? 0n) + BigInt(batch.length)
  progress.position = batch.at(-1).position
}

function * walkBatch (batch, collection, candidate, terms, progress) {
  for (const entry of batch) {
    const [{ part, value }] = entry.givers
    if (candidate.covered) {
      progress.batch.push(readIncluded(entry))
    } else {
      const isHere = part.primary && isBytes(value)
      const bytes = isHere ? value : yield { digest: digestIn(entry), bytesMax: RECORD_BYTES_MAX }
      progress.batch.push(readEntry(entry, bytes, collection))
    }
  }
  progress.takeBatch(candidate, terms)
}

function digestIn ({ givers }) {
  const [first, ...others] = givers.map(({ part, value }) =>
    part.primary ? value.digest : takeApart(value, part.index).digest)
  must(others.every((other) => equal(first, other)), 'an entry of one record here and of another there')
  return first
}

// The record that an entry leads to, checked against it.
function readEntry ({ position, givers }, bytes, collection) {
  const record = readRecord(bytes)
  const primary = primaryKey(record, collection.key)
  for (const { part, key, value } of givers) {
    if (part.primary) must(equal(primary, key), 'a record under another primary key')
    else must(givesEntry(record, bytes, collection.key, part.index, key, value), 'an entry that the record does not give')
  }
  return { record, digest: digest(bytes), primary, position }
}

// What an entry includes, in place of the record.
function readIncluded (entry) {
  const { position, givers: [{ part, key, value }] } = entry
  const { included } = takeApart(value, part.index)
  const record = readRecord(included)
  must(equal(encode(projection(record, part.index.include)), included), 'more included than the index includes')
  return { record, digest: digestIn(entry), primary: primaryIn(key, part.index), position }
}

// The primary key in a key of an index, as an ascending component.
function primaryIn (key, { paths }) {
  let start = 0
  for (let i = 0; i < paths.length; i += 1) start = readComponent(key, start).end
  const primary = key.slice(start)
  return paths.at(-1).startsWith('-') ? invert(primary) : primary
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
