// Manifests (protocols/manifest/1): records, what stands at a path of one, index entries, and the block that
// lists collections and their trees.

import { compare, equal } from './bytes.mjs'
import { CHUNK_BYTES_MAX, decode, encodeText, fieldsOf, isBytes, isInteger, Link, RECORD_BYTES_MAX } from './block.mjs'
import { must } from './errors.mjs'
import { component, isInt64, key as keyOf, KEY_BYTES_MAX } from './keys.mjs'

const LEVELS_MAX = 33
const PATH_BYTES_MAX = 256
const LISTED_MAX = 1024
const COUNT_MAX = 2n ** 53n - 1n

export const isName = (value) => typeof value === 'string' && /^[a-z0-9][a-z0-9_.-]{0,63}$/.test(value)

export function isPath (value) {
  if (typeof value !== 'string' || value.startsWith('-') || encodeText(value).length > PATH_BYTES_MAX) return false
  return value.split('.').every((step) => step !== '')
}

export const isSortPath = (value) => typeof value === 'string' && isPath(value.replace(/^-/, ''))

export const parseSortPath = (text) => ({ path: text.replace(/^-/, ''), descending: text.startsWith('-') })

// What a record may hold, `levels` deep at most.
export function isRecordValue (value, levels = LEVELS_MAX) {
  if (Array.isArray(value)) return levels > 0 && value.every((item) => isRecordValue(item, levels - 1))
  if (value instanceof Map) return levels > 0 && [...value.values()].every((item) => isRecordValue(item, levels - 1))
  if (typeof value === 'bigint') return isInt64(value)
  return !(value instanceof Link)
}

export function readRecord (bytes) {
  must(bytes.length <= RECORD_BYTES_MAX, 'a record that is too large')
  const record = decode(bytes)
  must(record instanceof Map && isRecordValue(record), 'not a record')
  return record
}

// The values at a path: {values, list}, where `list` tells that they are those of a list.
export function valuesAt (record, path) {
  return descend(record, path.split('.'))
}

function descend (value, steps) {
  if (Array.isArray(value)) {
    if (steps.length === 0) return { values: value, list: true }
    const maps = value.filter((item) => item instanceof Map)
    return { values: maps.flatMap((item) => descend(item, steps).values), list: true }
  }
  if (steps.length === 0) return { values: [value], list: false }
  return descend(value instanceof Map && value.has(steps[0]) ? value.get(steps[0]) : null, steps.slice(1))
}

// The primary key of a record, as an ascending component.
export function primaryKey (record, path) {
  const { values, list } = valuesAt(record, path)
  must(!list && (['string', 'bigint', 'number'].includes(typeof values[0]) || isBytes(values[0])), 'no primary key')
  const bytes = component(values[0])
  must(bytes.length <= KEY_BYTES_MAX, 'a primary key that is too long')
  return bytes
}

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

export const givesEntry = (record, collectionKey, sortPaths, key) =>
  entryKeys(record, collectionKey, sortPaths).some((other) => equal(other, key))

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

function readIndex (value) {
  const { paths, tree, lists } = fieldsOf(value, ['paths', 'tree', 'lists'])
  mustBeSortPaths(paths, 1)
  must(Array.isArray(lists) && lists.length === paths.length, 'not as many lists as paths')
  must(lists.every((count) => isInteger(count, 0, COUNT_MAX)), 'a count that is none')
  return { paths, tree: readTree(tree), lists }
}

function mustBeSortPaths (paths, lengthMin) {
  must(Array.isArray(paths) && paths.length >= lengthMin && paths.length <= 8, 'too few or too many sort paths')
  must(paths.every(isSortPath), 'a sort path that is none')
  must(new Set(paths.map((text) => parseSortPath(text).path)).size === paths.length, 'one path twice')
}

function readTree (value) {
  must(Array.isArray(value) && value.length === 2 && value[0] instanceof Link, 'not a tree')
  must(isInteger(value[1], 0, COUNT_MAX), 'a count that is none')
  return { root: value[0], count: value[1] }
}
