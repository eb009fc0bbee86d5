// Manifests (protocols/manifest/1): index entries, and the block that lists collections and their trees.

import { compare, equal, join } from './bytes.mjs'
import { CHUNK_BYTES_MAX, decode, digest, encode, fieldsOf, isBytes, isInteger, Link } from './block.mjs'
import { isListOf, meets, mustBeCondition, pathsIn, TIME } from './condition.mjs'
import { must } from './errors.mjs'
import { key as keyOf, KEY_BYTES_MAX } from './keys.mjs'
import { isPath, isSortPath, isWords, parseSortPath, primaryKey, projection, valuesAt } from './record.mjs'

const LISTED_MAX = 1024
const DIGEST_BYTES = 32
const VALUE_BYTES_MAX = 2048
const PATHS_MAX = 8
const EVERYTHING = ['and']
const COUNT_MAX = 2n ** 53n - 1n

export const isName = (value) => typeof value === 'string' && /^[a-z0-9][a-z0-9_.-]{0,63}$/.test(value)

// The keys of the entries that a record gives to an index, in ascending order.
export function entryKeys (record, collectionKey, sortPaths) {
  const paths = sortPaths.map(parseSortPath)
  const found = paths.map(({ path }) => valuesAt(record, path))
  must(found.filter(({ list }) => list).length <= 1, 'lists at two paths of an index')
  primaryKey(record, collectionKey)
  const [primary] = valuesAt(record, collectionKey).values
  const directions = [...paths.map(({ descending }) => descending), paths.at(-1).descending]
  const extend = (choices, { values }) => choices.flatMap((chosen) => values.map((value) => [...chosen, value]))
  const keys = found.reduce(extend, [[]]).map((chosen) => keyOf([...chosen, primary], directions)).sort(compare)
  const distinct = keys.filter((key, i) => i === 0 || !equal(keys[i - 1], key))
  must(distinct.length <= LISTED_MAX, 'a list of too many values')
  must(distinct.every((key) => key.length <= KEY_BYTES_MAX), 'an entry with a key that is too long')
  return distinct
}

// The entries [key, value] that a record gives to an index {paths, where, include}.
export function entriesOf (record, bytes, collectionKey, { paths, where, include }) {
  if (!meets(record, where)) return []
  const keys = entryKeys(record, collectionKey, paths)
  const included = include.length > 0 ? encode(projection(record, include)) : new Uint8Array(0)
  const value = join(digest(bytes), included)
  must(value.length <= VALUE_BYTES_MAX, 'an entry with a value that is too long')
  return keys.map((key) => [key, value])
}

export const givesEntry = (record, bytes, collectionKey, index, key, value) =>
  entriesOf(record, bytes, collectionKey, index).some((entry) => equal(entry[0], key) && equal(entry[1], value))

// The digest in an entry's value, and what stands for the record behind it.
export function takeApart (value, { include }) {
  must(isBytes(value) && value.length >= DIGEST_BYTES, 'an entry of an index that is no digest')
  must(include.length > 0 || value.length === DIGEST_BYTES, 'an entry with more than a digest')
  return { digest: value.subarray(0, DIGEST_BYTES), included: value.subarray(DIGEST_BYTES) }
}

// The manifest in a block: {rule, collections}, collections and indexes as Maps by name, in the order of names.
export function readManifest (bytes) {
  must(bytes.length <= CHUNK_BYTES_MAX, 'a manifest that is too large')
  const fields = fieldsOf(decode(bytes), ['version', 'rule', 'collections'])
  must(fields.version === 1n, 'another version of manifests')
  const rule = fieldsOf(fields.rule, ['salt', 'max_weight'])
  must(isBytes(rule.salt) && rule.salt.length <= 32, 'a salt that is none')
  must(isInteger(rule.max_weight, 4096, 32768), 'a MAX that is none')
  return { rule, collections: readNamed(fields.collections, 256, readCollection) }
}

function readNamed (map, sizeMax, read) {
  must(map instanceof Map && map.size <= sizeMax && [...map.keys()].every(isName), 'not a map by names')
  const byName = [...map].sort(([a], [b]) => a < b ? -1 : 1)
  return new Map(byName.map(([name, value]) => [name, read(value)]))
}

function readCollection (value) {
  const { key, time, order, primary, indexes } = fieldsOf(value, ['key', 'time', 'order', 'primary', 'indexes'])
  must(isPath(key) && (time === null || isPath(time)), 'a path that is none')
  mustBeSortPaths(order, 0)
  return { key, time, order, primary: readTree(primary), indexes: readNamed(indexes, 64, readIndex) }
}

// An index {paths, tree, lists, where, include, unique}, with what stands for the fields that are not there.
function readIndex (value) {
  const optional = ['where', 'include', 'unique'].filter((name) => value instanceof Map && value.has(name))
  const fields = fieldsOf(value, ['paths', 'tree', 'lists', ...optional])
  const { paths, tree, lists, where = EVERYTHING, include = [], unique = false } = fields
  mustBeSortPaths(paths, 1)
  must(Array.isArray(lists) && lists.length === paths.length, 'not as many lists as paths')
  must(lists.every((count) => isInteger(count, 0, COUNT_MAX)), 'a count that is none')
  if (optional.includes('where')) mustBeWhere(where)
  if (optional.includes('include')) must(arePaths(include, PATHS_MAX), 'included paths that are none')
  must(!optional.includes('unique') || unique === true, 'neither unique nor not')
  return { paths, tree: readTree(tree), lists, where, include, unique }
}

function mustBeWhere (where) {
  mustBeCondition(where)
  must(where[0] !== 'and' || where.length > 1, 'a condition that holds always')
  must(!pathsIn(where).includes(TIME), "a condition about a collection's time")
}

// Are these different paths, none of them words?
export const arePaths = (paths, lengthMax) =>
  isListOf(paths, lengthMax, (path) => isPath(path) && !isWords(path)) && new Set(paths).size === paths.length

function mustBeSortPaths (paths, lengthMin) {
  must(Array.isArray(paths) && paths.length >= lengthMin && paths.length <= PATHS_MAX, 'too few or too many sort paths')
  must(paths.every(isSortPath), 'a sort path that is none')
  must(new Set(paths.map((text) => parseSortPath(text).path)).size === paths.length, 'one path twice')
}

function readTree (value) {
  must(Array.isArray(value) && value.length === 2 && value[0] instanceof Link, 'not a tree')
  must(isInteger(value[1], 0, COUNT_MAX), 'a count that is none')
  return { root: value[0], count: value[1] }
}
