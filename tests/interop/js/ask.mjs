// Ask (protocols/ask/1), the asker's side: a query in, the proof of its answer back. Nothing that the peer says is
// believed: the plan must be one that we would have found, and each block the one that its walk needs next.

import { compare, equal } from './bytes.mjs'
import { digest, encode, fieldsOf, isBytes } from './block.mjs'
import { candidateFor } from './combine.mjs'
import { must } from './errors.mjs'
import { Groups } from './groups.mjs'
import { mustNotBeFromTheFuture, readHead } from './head.mjs'
import { readManifest } from './manifest.mjs'
import { collectionOf } from './plan.mjs'
import { termsOf } from './query.mjs'
import { projection } from './record.mjs'
import { Progress, Walk, walkPlan } from './walk.mjs'

export const PROTOCOL = '/rhizome/ask/1'
export const BUDGET_MAX = 4194304

// One request and its answer. `options`: address, query (query.mjs); `manifest`, the link of one, and `known`, its
// bytes if we have them; `plan`, `after`, `limit` (BigInt), `budget`, `scan`; `now` in milliseconds.
export class Ask {
  constructor (options) {
    const { address, query, now, manifest = null, known = null, plan = null, after = null, limit = null } = options
    const { budget = BUDGET_MAX, scan = false } = options
    Object.assign(this, { address, query, named: manifest, known, plan, after, now })
    this.request = {
      dataset: address,
      query: query.bytes,
      manifest,
      known: known !== null,
      plan,
      after,
      limit,
      budget: BigInt(budget),
      scan
    }
    this.budget = Math.min(budget, BUDGET_MAX)
    this.bytes = 0
    this.blocks = 0
    this.walk = null
    this.complete = null
    this.progress = new Progress(after, limit === null ? null : Number(limit))
  }

  open (fields) {
    must(this.walk === null, 'two openings')
    const { head, manifest, plan } = fieldsOf(fields, ['head', 'manifest', 'plan'])
    must(isBytes(head), 'a head that is none')
    this.head = readHead(head)
    must(this.head.address === this.address, 'the head of another dataset')
    mustNotBeFromTheFuture(this.head, this.now)
    must(this.named === null || this.head.manifest.equals(this.named), 'another manifest than the one asked for')
    must(this.known === null ? isBytes(manifest) : manifest === null, 'a manifest that is known, or none')
    const bytes = this.known ?? manifest
    must(equal(digest(bytes), this.head.manifest.digest), 'a manifest that the head does not lead to')
    this.manifestBytes = bytes
    this.manifest = readManifest(bytes)
    must(this.plan === null || equal(encode(plan), encode(this.plan)), 'another plan than the one asked for')
    this.candidate = candidateFor(plan, this.query, this.manifest)
    this.collection = collectionOf(this.query, this.manifest)
    this.walk = new Walk(walkPlan(this.query, this.collection, this.candidate, this.progress))
  }

  block (bytes) {
    must(this.walk !== null, 'blocks before the opening')
    must(bytes !== null, 'null instead of a block')
    this.bytes += bytes.length
    this.blocks += 1
    must(this.bytes <= this.budget, 'bytes beyond the budget')
    this.walk.supply(bytes)
  }

  end (fields) {
    must(this.walk !== null, 'no opening')
    const { complete } = fieldsOf(fields, ['complete'])
    must(complete === (this.walk.needed === null), 'complete where it is not, or the reverse')
    if (!complete) this.progress.takeBatch(this.candidate, termsOf(this.query, this.collection))
    const { position } = this.progress
    const moved = position !== null && (this.after === null || !equal(position, this.after))
    must(complete || moved || this.budget < BUDGET_MAX, 'an answer that pauses without having reached a new position')
    this.complete = complete
    this.stalled = !complete && !moved
  }
}

// The rows of an answer, of all its pieces, in order.
export function orderRows (rows, { ordered }, limit) {
  const inOrder = ordered ? rows : rows.toSorted((a, b) => compare(a.sortKey, b.sortKey))
  return limit === null ? inOrder : inOrder.slice(0, Number(limit))
}

// What the rows of all pieces, or the groups counted by them, come to as the answer to a query that is no count.
export function answerOf (query, candidate, rows, groups) {
  if (query.grouped !== null) return (groups ?? groupsOf(rows, query.grouped)).rows(query.grouped, query.limit)
  const found = orderRows(rows, candidate, query.limit).map(({ record }) => record)
  return query.select === null ? found : found.map((record) => projection(record, query.select))
}

function groupsOf (rows, { path }) {
  const groups = new Groups()
  for (const { record } of rows) groups.addRecord(record, path)
  return groups
}
