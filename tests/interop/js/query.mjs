// Queries (protocols/query/1): conditions, what meets them, and the order of rows. Plans are in plan.mjs.

import { compare, invert, join } from './bytes.mjs'
import { decode, digest, encode, isBytes, isInteger } from './block.mjs'
import { must, Refused } from './errors.mjs'
import { component, cuts, holds, isInt64 } from './keys.mjs'
import { isName, isPath, isRecordValue, isSortPath, parseSortPath, valuesAt } from './manifest.mjs'

const QUERY_BYTES_MAX = 16384
const COMPARISONS_MAX = 64
const DEPTH_MAX = 16
const JOINTS = ['and', 'or', 'not']
export const RANGES = ['<', '<=', '>', '>=', 'starts with']

export const isScalar = (value) =>
  value === null || ['boolean', 'string', 'number'].includes(typeof value) || isBytes(value) || isInt64(value)

// The query whose canonical form `bytes` are: {collection, condition, order, limit, count, bytes, digest}.
export function readQuery (bytes) {
  must(bytes.length <= QUERY_BYTES_MAX, 'a query of too many bytes')
  const parts = decode(bytes)
  must(Array.isArray(parts) && parts.length === 5, 'a query of another form')
  const [collection, condition, order, limit, count] = parts
  must(isName(collection), 'a name that is none')
  must(countComparisons(condition, 0) <= COMPARISONS_MAX, 'too many comparisons')
  must(['declared', 'newest', 'oldest'].includes(order) || isOrder(order), 'an order that is none')
  must(limit === null || isInteger(limit, 1, 1000000), 'a limit that is none')
  must(typeof count === 'boolean', 'neither a count nor none')
  return { collection, condition, order, limit, count, bytes, digest: digest(bytes) }
}

export const makeQuery = (parts) => readQuery(encode(parts))

const isListOf = (value, lengthMax, isItem) =>
  Array.isArray(value) && value.length >= 1 && value.length <= lengthMax && value.every(isItem)

const isOrder = (order) => isListOf(order, 64, isSortPath)

// Refuses what is no condition.
function countComparisons (condition, depth) {
  must(Array.isArray(condition) && condition.length >= 1 && depth <= DEPTH_MAX, 'a condition that is none')
  const [operator, ...rest] = condition
  if (JOINTS.includes(operator)) {
    must(operator !== 'not' || rest.length === 1, 'a not of other than one condition')
    return rest.reduce((sum, part) => sum + countComparisons(part, depth + 1), 0)
  }
  must(rest.length === 2 && isPath(rest[0]) && isOperand(operator, rest[1]), 'a comparison that is none')
  return 1
}

function isOperand (operator, value) {
  switch (operator) {
    case '=': case '!=': return isRecordValue(value)
    case '<': case '<=': case '>': case '>=': return isScalar(value)
    case 'in': return isListOf(value, 256, (item) => isRecordValue(item))
    case 'starts with': return typeof value === 'string'
    case 'exists': return typeof value === 'boolean'
    default: return false
  }
}

export function meets (record, condition) {
  const [operator, ...rest] = condition
  switch (operator) {
    case 'and': return rest.every((part) => meets(record, part))
    case 'or': return rest.some((part) => meets(record, part))
    case 'not': return !meets(record, rest[0])
    case '=': return equals(record, ...rest)
    case '!=': return !equals(record, ...rest)
    case 'in': return rest[1].some((value) => equals(record, rest[0], value))
    case 'exists': return exists(record, rest[0].split('.')) === rest[1]
  }
  const range = cuts(operator, rest[1])
  return valuesAt(record, rest[0]).values.some((value) => holds(component(value), range))
}

function equals (record, path, value) {
  const wanted = component(value)
  const candidates = valuesAt(record, path).values
  const lists = Array.isArray(value) ? listsAt(record, path.split('.')) : []
  return [...candidates, ...lists].some((other) => compare(component(other), wanted) === 0)
}

// The whole lists at a path.
function listsAt (value, steps) {
  if (steps.length === 0) return Array.isArray(value) ? [value] : []
  if (Array.isArray(value)) return value.filter((item) => item instanceof Map).flatMap((item) => listsAt(item, steps))
  return value instanceof Map && value.has(steps[0]) ? listsAt(value.get(steps[0]), steps.slice(1)) : []
}

function exists (value, steps) {
  if (steps.length === 0) return true
  if (Array.isArray(value)) return value.some((item) => item instanceof Map && exists(item, steps))
  return value instanceof Map && value.has(steps[0]) && exists(value.get(steps[0]), steps.slice(1))
}

export const conjunctsOf = (condition) => condition[0] === 'and' ? condition.slice(1).flatMap(conjunctsOf) : [condition]

// The sort paths by which the rows are ordered: [{path, descending}...].
export function termsOf (query, collection) {
  if (query.count) return []
  const terms = firstTerms(query.order, collection).map(parseSortPath)
  const place = terms.findIndex(({ path }) => path === collection.key)
  if (place !== -1) return terms.slice(0, place + 1)
  return [...terms, { path: collection.key, descending: terms.at(-1)?.descending ?? false }]
}

function firstTerms (order, { time, order: declared }) {
  if (order === 'declared') return declared
  if (Array.isArray(order)) return order
  if (time === null) throw new Refused('a collection without a time has neither newest nor oldest')
  return [order === 'newest' ? `-${time}` : time]
}

// Rows sort by these bytes.
export function sortKey (record, terms) {
  return join(...terms.map(({ path, descending }) => {
    const sorted = valuesAt(record, path).values.map((value) => component(value)).sort(compare)
    const chosen = (descending ? sorted.at(-1) : sorted[0]) ?? component(null)
    return descending ? invert(chosen) : chosen
  }))
}
