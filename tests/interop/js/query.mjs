// Queries (protocols/query/1): what they say, and the order of rows. Conditions are in condition.mjs, plans in plan.mjs.

import { compare, invert, join } from './bytes.mjs'
import { decode, digest, encode, isInteger } from './block.mjs'
import { isListOf, mapPaths, mustBeCondition, pathsIn, TIME } from './condition.mjs'
import { must, Refused } from './errors.mjs'
import { component } from './keys.mjs'
import { arePaths, isName } from './manifest.mjs'
import { isPath, isSortPath, parseSortPath, valuesAt } from './record.mjs'

const QUERY_BYTES_MAX = 16384
const PATHS_MAX = 64
const ROWS = { count: false, select: null, grouped: null }

// The query whose canonical form `bytes` are: {collection, condition, order, limit, count, select, grouped, bytes,
// digest}. `select`: the paths that are wanted of each record, or null; `grouped`: {path, counts}, or null.
export function readQuery (bytes) {
  must(bytes.length <= QUERY_BYTES_MAX, 'a query of too many bytes')
  const parts = decode(bytes)
  must(Array.isArray(parts) && parts.length === 5, 'a query of another form')
  const [collection, condition, order, limit, wanted] = parts
  must(isName(collection), 'a name that is none')
  mustBeCondition(condition)
  must(['declared', 'newest', 'oldest'].includes(order) || isListOf(order, PATHS_MAX, isSortPath), 'an order that is none')
  must(limit === null || isInteger(limit, 1, 1000000), 'a limit that is none')
  const kind = readWanted(wanted)
  must(kind.grouped === null || order === 'declared', 'groups in an order')
  return { collection, condition, order, limit, ...kind, bytes, digest: digest(bytes) }
}

function readWanted (wanted) {
  if (typeof wanted === 'boolean') return { ...ROWS, count: wanted }
  must(Array.isArray(wanted) && wanted.length >= 1, 'nothing that can be wanted')
  const [kind, ...paths] = wanted
  if (kind === 'select') {
    must(arePaths(paths, PATHS_MAX), 'selected paths that are none')
    return { ...ROWS, select: paths }
  }
  must(['count by', 'distinct'].includes(kind) && paths.length === 1 && isPath(paths[0]), 'nothing that can be wanted')
  return { ...ROWS, grouped: { path: paths[0], counts: kind === 'count by' } }
}

export const makeQuery = (parts) => readQuery(encode(parts))

// The condition of a query, with the collection's time in its place.
export function conditionOf (query, collection) {
  if (!pathsIn(query.condition).includes(TIME)) return query.condition
  return mapPaths(query.condition, (path) => path === TIME ? timeOf(collection) : path)
}

function timeOf ({ time }) {
  if (time === null) throw new Refused('a collection without a time')
  return time
}

// Does the query want rows, and not a number or groups?
export const wantsRows = ({ count, grouped }) => !count && grouped === null

// The sort paths by which the rows are ordered: [{path, descending}...].
export function termsOf (query, collection) {
  if (!wantsRows(query)) return []
  const terms = firstTerms(query.order, collection).map(parseSortPath)
  const place = terms.findIndex(({ path }) => path === collection.key)
  if (place !== -1) return terms.slice(0, place + 1)
  return [...terms, { path: collection.key, descending: terms.at(-1)?.descending ?? false }]
}

function firstTerms (order, collection) {
  if (order === 'declared') return collection.order
  if (Array.isArray(order)) return order
  return [order === 'newest' ? `-${timeOf(collection)}` : timeOf(collection)]
}

// Rows sort by these bytes.
export function sortKey (record, terms) {
  return join(...terms.map(({ path, descending }) => {
    const sorted = valuesAt(record, path).values.map((value) => component(value)).sort(compare)
    const chosen = (descending ? sorted.at(-1) : sorted[0]) ?? component(null)
    return descending ? invert(chosen) : chosen
  }))
}
