// Asks a peer: `node main.mjs MULTIADDR [ADDRESS] QUERY [--budget BYTES] [--scan]`.
//
// QUERY is a query's canonical form as DAG-JSON: ["posts", ["=", "tags", "cats"], "newest", 5, false]. Without an
// ADDRESS the peer is asked which datasets it serves, which must be one. Rows and groups are printed as lines of DAG-JSON
// (a count as a number), what was proven as one line of JSON on stderr, with the number of rows in each answer. Ends
// with 1 if an answer had to be refused.

import { parseArgs } from 'node:util'
import { answerOf, Ask, BUDGET_MAX, orderRows, PROTOCOL as ASK } from './ask.mjs'
import { Link } from './block.mjs'
import { compare, equal, hex } from './bytes.mjs'
import { format, parse } from './dagjson.mjs'
import { must, PeerError, Refused, UsageError } from './errors.mjs'
import { Groups } from './groups.mjs'
import { mustNotBeFromTheFuture } from './head.mjs'
import { Heads, PROTOCOL as HEADS } from './heads.mjs'
import { Peer } from './peer.mjs'
import { makeQuery, wantsRows } from './query.mjs'
import { readNode } from './tree.mjs'
import { PROTOCOL as WANT, Want } from './want.mjs'

function readArguments () {
  const { values, positionals } = parseArgs({
    options: { budget: { type: 'string', default: String(BUDGET_MAX) }, scan: { type: 'boolean', default: false } },
    allowPositionals: true
  })
  if (![2, 3].includes(positionals.length)) throw new UsageError('what is wanted is MULTIADDR [ADDRESS] QUERY')
  const query = makeQuery(parse(positionals.at(-1)))
  const address = positionals.length === 3 ? positionals[1] : null
  return { multiaddr: positionals[0], address, query, budget: Number(values.budget), scan: values.scan }
}

async function onlyDataset (peer) {
  const { entries } = await peer.converse(HEADS, new Heads())
  if (entries.size !== 1) throw new UsageError(`choose one of the datasets: ${[...entries.keys()].join(' ')}`)
  return [...entries.keys()][0]
}

async function newestHead (peer, address, now) {
  const { entries } = await peer.converse(HEADS, new Heads([address]))
  const { heads = [] } = entries.get(address) ?? {}
  if (heads.length === 0) throw new UsageError(`the peer knows no head of ${address}`)
  for (const head of heads) mustNotBeFromTheFuture(head, now)
  return { head: heads[0], equivocates: heads.length === 2 }
}

// Asks until the answer is complete: {row, found, answers, last}: one of the rows, if there are any, and what is printed.
async function answer (peer, { address, query, budget, scan, now }, newest) {
  const limit = wantsRows(query) ? query.limit : null
  const answers = []
  const rows = new Map()
  let groups = null
  let next = {}
  for (let complete = false; !complete;) {
    const ask = new Ask({ address, query, limit, budget, scan, now, ...next })
    await peer.converse(ASK, ask)
    if (ask.stalled) budget *= 2
    must(ask.head.sequence >= newest.sequence, 'a head that is older than one we know')
    answers.push(ask)
    // Of a plan that repeats, a record may have come in an earlier piece.
    for (const row of ask.progress.rows) if (!rows.has(hex(row.primary))) rows.set(hex(row.primary), row)
    if (ask.progress.groups !== null) (groups ??= new Groups()).addAll(ask.progress.groups)
    const left = limit === null || !ask.candidate.ordered ? null : limit - BigInt(rows.size)
    const { head, manifestBytes: known, candidate: { plan }, progress: { position: after } } = ask
    next = { manifest: head.manifest, known, plan, after, limit: left }
    complete = ask.complete
  }
  const last = answers.at(-1)
  const all = [...rows.values()]
  if (query.count) return { row: undefined, found: [last.progress.counted ?? BigInt(rows.size)], answers, last }
  const inOrder = orderRows(all, last.candidate, null)
  const isInOrder = (row, i) => i === 0 || compare(inOrder[i - 1].sortKey, row.sortKey) < 0
  must(!wantsRows(query) || inOrder.every(isInOrder), 'rows out of order')
  return { row: inOrder[0], found: answerOf(query, last.candidate, all, groups), answers, last }
}

// What ask has shown, fetched once more by want: the manifest and the primary's root by name, a record by its key.
async function fetchAgain (peer, { head, manifest, manifestBytes }, query, row) {
  const { root } = manifest.collections.get(query.collection).primary
  const blocks = await peer.converse(WANT, Want.blocks([head.manifest, root]))
  must(blocks.complete && blocks.blocks.every((bytes) => bytes !== null), 'blocks that the peer must have')
  must(equal(blocks.blocks[0], manifestBytes), 'another manifest')
  const names = [head.manifest.text, root.text]
  must(readNode(blocks.blocks[1]).keys.length > 0 || row === undefined, 'a row of a collection without records')
  if (row === undefined) return names
  const link = new Link(row.digest)
  const records = await peer.converse(WANT, Want.records(root, [row.primary], [link]))
  must(records.complete && records.blocks[0] !== null, 'a record that the peer must have')
  return [...names, link.text]
}

async function main () {
  const given = readArguments()
  const now = Date.now()
  const peer = await Peer.dial(given.multiaddr)
  try {
    const address = given.address ?? await onlyDataset(peer)
    const { head, equivocates } = await newestHead(peer, address, now)
    const { row, found, answers, last } = await answer(peer, { ...given, address, now }, head)
    const fetched = await fetchAgain(peer, last, given.query, row)
    const { kind, plan } = last.candidate
    for (const value of found) console.log(format(value))
    console.error(JSON.stringify({
      dataset: address,
      sequence: Number(last.head.sequence),
      equivocates,
      kind,
      indexes: (kind === 'one' ? [plan] : plan[1]).map(([index]) => index),
      ordered: last.candidate.ordered,
      repeats: last.candidate.repeats,
      covered: last.candidate.covered,
      grouped: last.candidate.grouped,
      residual: last.candidate.residual.length,
      answers: answers.map((ask) => ask.progress.rows.length),
      blocks: answers.reduce((sum, ask) => sum + ask.blocks, 0),
      bytes: answers.reduce((sum, ask) => sum + ask.bytes, 0),
      fetched
    }))
  } finally {
    await peer.close()
  }
}

try {
  await main()
} catch (error) {
  const kinds = [[Refused, 'refused'], [PeerError, 'the peer says'], [UsageError, 'usage']]
  const [, kind] = kinds.find(([type]) => error instanceof type) ?? [null, 'failed']
  console.error(`${kind}: ${kind === 'failed' ? error.stack : error.message}`)
  process.exitCode = error instanceof Refused ? 1 : 2
}
