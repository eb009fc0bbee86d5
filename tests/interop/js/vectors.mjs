// Checks this client against the vectors of the specifications: `node vectors.mjs`. Prints how many cases of each
// list hold and which lists concern no client; ends with 1 if a case does not hold or a list is unknown.

import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { base64url } from 'multiformats/bases/base64'
import { answerOf, Ask, orderRows } from './ask.mjs'
import { decode, digest, encode, Link } from './block.mjs'
import { compare, EMPTY, equal, hex, next, unhex } from './bytes.mjs'
import { candidateFor } from './combine.mjs'
import { format, parse } from './dagjson.mjs'
import { PeerError, Refused } from './errors.mjs'
import { contradict, isAddress, peerId, readHead } from './head.mjs'
import { Heads } from './heads.mjs'
import { component, cuts, intersect, key, keyRange, readComponent } from './keys.mjs'
import { meets } from './condition.mjs'
import { entriesOf, entryKeys, isName, readManifest } from './manifest.mjs'
import { frame, Frames, readReply, Replies, requestFrame } from './message.mjs'
import { candidatesOf } from './plan.mjs'
import { conditionOf, makeQuery, readQuery, sortKey, termsOf } from './query.mjs'
import { isPath, primaryKey, projection, readRecord, valuesAt } from './record.mjs'
import { build, cutsOf, priority, readNode, walkCount, walkEntries, walkValues } from './tree.mjs'
import { Progress, Walk, walkPlan } from './walk.mjs'
import { Want } from './want.mjs'
import { wordsOf } from './words.mjs'

const NAMES = ['block', 'keys', 'tree', 'manifest', 'head', 'query', 'message', 'ask', 'want', 'heads']
const NOT_OURS = 'concerns the side that answers'
const NOW = 1800000000000

// Cases are objects; what is in them stays as it is written: bytes in hexadecimal, values as in block.mjs.
const object = (value) => value instanceof Map ? Object.fromEntries(value) : value

function vectorsOf (name) {
  const file = new URL(`../../../protocols/${name}/1/vectors.json`, import.meta.url)
  const lists = [...parse(readFileSync(file, 'utf8'))]
  const casesOf = (name, list) => name !== 'in_order' && Array.isArray(list) ? list.map(object) : object(list)
  return Object.fromEntries(lists.map(([name, list]) => [name, casesOf(name, list)]))
}

const all = Object.fromEntries(NAMES.map((name) => [name, vectorsOf(name)]))

function same (found, expected) {
  if (!isDeepStrictEqual(found, expected)) throw new Error(`${shown(found)} instead of ${shown(expected)}`)
}

const shown = (value) => {
  try {
    return format(value).slice(0, 200)
  } catch {
    return String(value)
  }
}

function refused (attempt) {
  try {
    attempt()
  } catch (error) {
    if (error instanceof Refused) return
    throw error
  }
  throw new Error('was not refused')
}

const orNull = (attempt) => {
  try {
    return attempt()
  } catch (error) {
    if (error instanceof Refused) return null
    throw error
  }
}

const bytesOrNull = (text) => text === null ? null : unhex(text)
const hexOrNull = (bytes) => bytes === null ? null : hex(bytes)

// The trees of the vectors.

const sorted = (entries) => entries.sort((a, b) => compare(a[0], b[0]))
const unique = (entries) => [...new Map(entries.map((entry) => [hex(entry[0]), entry])).values()]

function numberedEntries (length) {
  return sorted(unique(Array.from({ length }, (_, i) => {
    const key = digest(Buffer.from(String(i))).slice(0, 4 + i % 29)
    const times = 1 + key[0] % 3
    return [key, new Uint8Array(Buffer.concat(Array(times).fill(digest(key))))]
  })))
}

const built = new Map()
function numberedTree ({ salt, max_weight: weightMax, entries }) {
  const name = `${salt} ${weightMax} ${entries}`
  if (!built.has(name)) built.set(name, build(numberedEntries(Number(entries)), unhex(salt), Number(weightMax)))
  return built.get(name)
}

// Drives a walk from blocks by the text of their names: {needs, result}.
function drive (generator, blocks) {
  const needs = []
  let result
  const walk = new Walk((function * () { result = yield * generator })())
  while (walk.needed !== null) {
    needs.push(new Link(walk.needed).text)
    walk.supply(blocks.get(needs.at(-1)))
  }
  return { needs, result }
}

function collect (tree, range, reverse) {
  const entries = []
  return { entries, generator: walkEntries(tree, range, reverse, function * (some) { entries.push(...some) }) }
}

// The dataset of manifest/1, built from its records.
const dataset = (() => {
  const { records, manifest: text, cid } = all.manifest.dataset
  const bytes = unhex(text)
  const manifest = readManifest(bytes)
  const [collection] = manifest.collections.values()
  const blocks = new Map(records.map((record) => encode(record)).map((block) => [Link.of(block).text, block]))
  const rule = [manifest.rule.salt, Number(manifest.rule.max_weight)]
  const add = (expected, entries) => {
    const { root, count, blocks: more } = build(sorted(entries), ...rule)
    same([root.text, count], [expected.root.text, expected.count])
    for (const [name, block] of more) blocks.set(name, block)
  }
  const valueOf = (block) => block.length <= 2048 ? block : Link.of(block)
  add(collection.primary, records.map((record) => [primaryKey(record, collection.key), valueOf(encode(record))]))
  for (const index of collection.indexes.values()) {
    add(index.tree, records.flatMap((record) => entriesOf(record, encode(record), collection.key, index)))
  }
  same(Link.of(bytes).text, cid)
  return { records, bytes, manifest, link: Link.of(bytes), collection, blocks }
})()

const idOf = (record) => record.get('id')

function checkWalk (query, { plan, after, left, blocks, rows, groups, counted, position }) {
  const progress = new Progress(bytesOrNull(after), left === null ? null : Number(left))
  const candidate = candidateFor(plan, query, dataset.manifest)
  const { needs } = drive(walkPlan(query, dataset.collection, candidate, progress), dataset.blocks)
  same(needs.map((name) => hex(Link.fromText(name).digest.slice(0, 4))), blocks)
  same([progress.rows.map(({ primary }) => hex(primary)), progress.counted], [rows, counted])
  const counts = progress.groups && [...progress.groups.counts].sort(([a], [b]) => compare(unhex(a), unhex(b)))
  same(counts, groups)
  same(hexOrNull(progress.position), position)
}

// One check for each list of each specification.

const checks = {
  block: {
    names: ({ data, cid, text }) => {
      const link = Link.of(unhex(data))
      same([hex(link.bytes), link.text, Link.fromText(text)], [cid, text, link])
    },
    not_names: (text) => refused(() => Link.fromText(text)),
    values: ({ value, data }) => same([hex(encode(value)), decode(unhex(data))], [data, value]),
    not_canonical: ({ data }) => refused(() => decode(unhex(data)))
  },

  keys: {
    in_order: (value, i, values) => {
      if (i > 0) same(compare(component(values[i - 1]), component(value)) < 0, true)
      if (i > 0) same(compare(component(values[i - 1], true), component(value, true)) > 0, true)
    },
    components: ({ value, descending, key }) => {
      same(hex(component(value, descending)), key)
      const read = readComponent(unhex(key))
      same([hex(component(read.value, read.descending)), read.descending, read.end], [key, descending, key.length / 2])
    },
    keys: ({ values, descending, key: expected }) => same(hex(key(values, descending)), expected),
    not_keys: ({ key }) => refused(() => readComponent(unhex(key))),
    next: ({ prefix, next: expected }) => same(hexOrNull(next(unhex(prefix))), expected),
    ranges: ({ conditions, prefix, descending, low, high }) => {
      const range = keyRange(unhex(prefix), intersect(conditions.map((condition) => cuts(...condition))), descending)
      same([hex(range.low), hexOrNull(range.high)], [low, high])
    }
  },

  tree: {
    entries: () => {},
    priorities: ({ salt, level, key, priority: expected }) =>
      same(hex(priority(unhex(salt), Number(level), unhex(key))), expected),
    cuts: ({ salt, max_weight: weightMax, level, keys, weights, cuts }) => {
      const items = keys.map((key, i) => ({ key: unhex(key), weight: Number(weights[i]) }))
      same(cutsOf(items, unhex(salt), Number(level), Number(weightMax)), cuts.map(Number))
    },
    trees: (tree) => {
      const { root, count } = numberedTree(tree)
      same([root.text, count], [tree.root, tree.count])
    },
    chunks: ({ cid, data, level, keys, values, counts = [] }) => {
      const node = readNode(unhex(data))
      const items = node.values ?? node.links.map((link) => link.bytes)
      same([Link.of(unhex(data)).text, BigInt(node.level), node.keys.map(hex)], [cid, level, keys])
      same([items.map((item) => hex(item.bytes ?? item)), node.counts ?? []], [values, counts])
    },
    not_chunks: ({ data }) => refused(() => readNode(unhex(data))),
    not_trees: ({ root, count, blocks }) => {
      const byName = new Map(blocks.map(unhex).map((block) => [Link.of(block).text, block]))
      const { generator } = collect({ root: Link.fromText(root), count }, { low: EMPTY, high: null }, false)
      refused(() => drive(generator, byName))
    },
    walks: (walk) => {
      const tree = numberedTree(walk)
      const range = { low: unhex(walk.low ?? ''), high: bytesOrNull(walk.high ?? null) }
      if (walk.walk === 'count') {
        const { needs, result } = drive(walkCount(tree, range), tree.blocks)
        return same([needs, result], [walk.needs, walk.count])
      }
      if (walk.walk === 'values') {
        const { needs, result } = drive(walkValues(tree, walk.keys.map(unhex)), tree.blocks)
        return same([needs, result.map((value) => hexOrNull(value ?? null))], [walk.needs, walk.values])
      }
      const { entries, generator } = collect(tree, range, walk.reverse)
      const { needs } = drive(generator, tree.blocks)
      same([needs, BigInt(entries.length)], [walk.needs, walk.count])
      const expected = numberedEntries(Number(walk.entries)).filter(([key]) =>
        compare(key, range.low) >= 0 && (range.high === null || compare(key, range.high) < 0))
      same(entries, walk.reverse ? expected.reverse() : expected)
    }
  },

  manifest: {
    names: (text) => same(isName(text), true),
    not_names: (text) => same(isName(text), false),
    paths: (text) => same(isPath(text), true),
    not_paths: (text) => same(isPath(text), false),
    records: ({ data, digest: expected }) => {
      same(hex(encode(readRecord(unhex(data)))), data)
      same(hex(digest(unhex(data))), expected)
    },
    not_records: ({ data }) => refused(() => readRecord(unhex(data))),
    values_at: ({ record, cases }) => {
      for (const { path, values, list } of cases.map(object)) same(valuesAt(record, path), { values, list })
    },
    primary_keys: ({ record, path, key }) => same(orNull(() => hex(primaryKey(record, path))), key),
    entries: ({ record, key, paths, entries }) => {
      const found = orNull(() => entryKeys(record, key, paths).map(hex))
      // Where there are many, only how many.
      same(typeof entries === 'bigint' ? BigInt(found.length) : found, entries)
    },
    definitions: ({ record, key, entries, ...rest }) => {
      const index = { where: ['and'], include: [], ...rest }
      const found = orNull(() => entriesOf(record, encode(record), key, index))
      same(found && found.map((entry) => entry.map(hex)), entries)
    },
    words: ({ text, words }) => same(wordsOf([text]), words),
    manifests: ({ cid, data, manifest }) => {
      const { collections } = readManifest(unhex(data))
      same([Link.of(unhex(data)).text, hex(encode(manifest))], [cid, data])
      same([...collections.keys()], [...manifest.get('collections').keys()])
    },
    not_manifests: ({ data }) => refused(() => readManifest(unhex(data))),
    dataset: () => {}
  },

  head: {
    identity: ({ public_key: publicKey, peer_id: expected }) => same(peerId(unhex(publicKey)), expected),
    heads: ({ envelope, address, sequence, time, expires, delegations, manifest }) => {
      const head = readHead(unhex(envelope))
      const read = [head.address, head.sequence, head.time, head.expires ?? null, head.manifest.text]
      same(read, [address, sequence, time, expires ?? null, manifest])
      const said = head.delegations.map(({ key, dataset, from, to }) => [peerId(key), dataset === null, from, peerId(to)])
      same(said, (delegations ?? []).map(object).map(({ key, all, from, to }) => [key, all, from, to]))
      same(isAddress(address), true)
    },
    contradictions: ({ heads, contradict: expected }) => {
      const [one, other] = heads.map((envelope) => readHead(unhex(envelope)))
      same([contradict(one, other), contradict(other, one)], [expected, expected])
    },
    not_heads: ({ envelope }) => refused(() => readHead(unhex(envelope))),
    not_addresses: (text) => same(isAddress(text), false)
  },

  query: {
    dataset: () => {},
    blocks: () => {},
    queries: ({ query, digest: expected }) => same(hex(makeQuery(query).digest), expected),
    not_queries: ({ data }) => refused(() => readQuery(unhex(data))),
    plans: ({ query: parts, candidates, met, answer }) => {
      const query = makeQuery(parts)
      const found = candidatesOf(query, dataset.manifest).map(({ plan: [index, low, high, reverse], ...rest }) => ({
        index,
        low: hex(low),
        high: hexOrNull(high),
        reverse,
        ordered: rest.ordered,
        repeats: rest.repeats,
        covered: rest.covered,
        grouped: rest.grouped,
        residual: BigInt(rest.residual.length)
      }))
      same(found, candidates.map(object))
      const condition = conditionOf(query, dataset.collection)
      same(dataset.records.filter((record) => meets(record, condition)).map(idOf), met)
      for (const candidate of query.count ? [] : candidatesOf(query, dataset.manifest)) {
        const progress = new Progress(null, query.limit === null || query.grouped !== null ? null : Number(query.limit))
        drive(walkPlan(query, dataset.collection, candidate, progress), dataset.blocks)
        same(answerOf(query, candidate, progress.rows, progress.groups), answer)
      }
    },
    walks: ({ query, ...walk }) => checkWalk(makeQuery(all.query.queries[query].query), walk),
    combined: ({ query: parts, plan, ordered, reverse, covered, residual, walks }) => {
      const query = makeQuery(parts)
      const found = candidateFor(plan, query, dataset.manifest)
      const said = [found.ordered, found.reverse, found.covered, BigInt(found.residual.length)]
      same(said, [ordered, reverse, covered, residual])
      for (const walk of walks) checkWalk(query, object(walk))
    },
    not_plans: ({ query, plan }) => refused(() => candidateFor(plan, makeQuery(query), dataset.manifest)),
    cursors: ({ query: parts, plan, last, cursor }) => {
      const query = makeQuery(parts)
      const { ordered, parts: [{ index: { paths } }] } = candidateFor(plan, query, dataset.manifest)
      const [start, link, ofPlan, isOrdered, position] = decode(base64url.baseDecode(cursor))
      same([start, link, ofPlan, isOrdered], [query.digest.slice(0, 16), dataset.link, plan, ordered])
      const record = dataset.records.find((other) => hex(primaryKey(other, dataset.collection.key)) === last)
      const keys = ordered ? entryKeys(record, dataset.collection.key, paths) : []
      const sorted = ordered ? [] : [sortKey(record, termsOf(query, dataset.collection))]
      same([...keys, ...sorted].some((key) => equal(key, position)), true)
    }
  },

  message: {
    frames: ({ body, frame: expected }) => {
      same(hex(frame(unhex(body))), expected)
      same([...new Frames().receive(unhex(expected))].map(hex), [body])
    },
    not_frames: ({ stream }) => refused(() => [...new Frames().receive(unhex(stream))]),
    requests: ({ frame: expected, number, fields }) =>
      same(hex(requestFrame(number, Object.fromEntries(fields))), expected),
    not_requests: NOT_OURS,
    blocks: ({ frames, blocks }) => {
      const found = []
      const replies = new Replies(7, { block: (bytes) => found.push(bytes) })
      for (const body of new Frames().receive(unhex(frames.join('')))) replies.receive(body)
      same(found.map((bytes, i) => bytes !== null && i === 2 ? hex(Link.of(bytes).bytes) : hexOrNull(bytes)), blocks)
    },
    packed: ({ body, blocks }) => {
      const found = []
      const number = decode(unhex(body))[0]
      const replies = new Replies(number, { request: { packed: true }, block: (bytes) => found.push(hexOrNull(bytes)) })
      replies.receive(unhex(body))
      same(found, blocks)
    },
    not_replies: ({ bodies }) => refused(() => {
      const replies = new Replies(7, { request: { packed: true }, open () {}, block () {}, end () {} })
      for (const body of bodies.map(unhex)) replies.receive(body)
    })
  },

  ask: {
    dataset: () => {},
    head: (text) => same(readHead(unhex(text)).manifest, dataset.link),
    exchanges: ({ request, replies, error, complete, rows, count, position }) => {
      const ask = asking(request)
      if (error !== undefined) return same(errorOf(() => converse(ask, request, replies)), error)
      converse(ask, request, replies)
      const limit = ask.query.count ? null : ask.query.limit
      const found = orderRows(ask.progress.rows, ask.candidate, limit).map(({ record }) => idOf(record))
      same([ask.complete, found, ask.progress.counted], [complete, rows, count])
      same(hexOrNull(ask.progress.position), position)
    },
    not_answers: ({ request, replies }) => refused(() => converse(asking(request), request, replies)),
    not_requests: NOT_OURS
  },

  want: {
    exchanges: ({ request, wanted, replies, blocks }) => {
      const want = wanting(request, wanted)
      converse(want, request, replies)
      same(want.blocks.map((bytes) => bytes === null ? null : hex(Link.of(bytes).bytes)), blocks)
      same(want.complete, blocks.length === wanted.length)
    },
    not_answers: ({ request, wanted, replies }) => refused(() => converse(wanting(request, wanted), request, replies)),
    not_requests: NOT_OURS
  },

  heads: {
    exchanges: ({ request, replies, known }) => {
      const heads = new Heads(fieldsOf(request).datasets)
      converse(heads, request, replies)
      const found = [...heads.entries].map(([address, { heads, providers }]) =>
        ({ address, heads: heads.map(({ envelope }) => hex(envelope)), providers }))
      same(found, known.map(object))
      same(heads.complete, true)
    },
    not_answers: ({ request, replies }) =>
      refused(() => converse(new Heads(fieldsOf(request).datasets), request, replies)),
    not_requests: NOT_OURS
  }
}

// Conversations.

const numberOf = (request) => decode([...new Frames().receive(unhex(request))][0])[0]
const fieldsOf = (request) => Object.fromEntries(decode([...new Frames().receive(unhex(request))][0])[1])

function asking (request) {
  const { dataset: address, query, known, budget, ...rest } = fieldsOf(request)
  const ours = { known: known ? dataset.bytes : null, budget: Number(budget), now: NOW }
  return new Ask({ ...rest, ...ours, address, query: readQuery(query) })
}

function wanting (request, wanted) {
  const links = wanted.map((text) => Link.fromBytes(unhex(text)))
  const { cids, root, keys, budget, packed } = fieldsOf(request)
  return cids === undefined ? Want.records(root, keys, links, budget, packed) : Want.blocks(links, budget, packed)
}

// The conversation must ask as the vector does, and then hears the vector's replies, up to the end of the stream.
function converse (conversation, request, replies) {
  same(hex(requestFrame(numberOf(request), conversation.request)), request)
  const heard = new Replies(numberOf(request), conversation)
  const frames = new Frames()
  for (const reply of replies) for (const body of frames.receive(unhex(reply))) heard.receive(body)
  frames.mustBeEmpty()
  heard.mustHaveEnded()
}

function errorOf (attempt) {
  try {
    attempt()
  } catch (error) {
    if (error instanceof PeerError) return error.code
    throw error
  }
}

let failures = 0
for (const name of NAMES) {
  for (const [list, cases] of Object.entries(all[name])) {
    const check = checks[name][list]
    if (check === NOT_OURS) {
      console.log(`${name} ${list}: ${NOT_OURS}`)
      continue
    }
    const every = Array.isArray(cases) ? cases : [cases]
    let held = 0
    for (const [i, one] of every.entries()) {
      try {
        check(one, i, every)
        held += 1
      } catch (error) {
        console.error(`${name} ${list} ${i} (${one?.name ?? ''}): ${error.stack}`)
      }
    }
    failures += every.length - held
    console.log(`${name} ${list}: ${held} of ${every.length}`)
  }
}
process.exitCode = failures > 0 ? 1 : 0
