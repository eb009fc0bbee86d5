// Records (protocols/manifest/1): what one is, the paths into it, the values there, and its projections.

import { decode, encodeText, isBytes, Link, RECORD_BYTES_MAX } from './block.mjs'
import { must } from './errors.mjs'
import { component, isInt64, KEY_BYTES_MAX } from './keys.mjs'
import { wordsOf } from './words.mjs'

const LEVELS_MAX = 33
const PATH_BYTES_MAX = 256
const WORDS = /^words\((.*)\)$/s

// The path inside of words, or null.
const insideOf = (path) => WORDS.exec(path)?.[1] ?? null

export const isWords = (path) => insideOf(path) !== null

export function isPath (value) {
  if (typeof value !== 'string' || encodeText(value).length > PATH_BYTES_MAX || value === 'time()') return false
  const inside = insideOf(value) ?? value
  return !/^(-|words\()/.test(inside) && inside.split('.').every((step) => step !== '')
}

export const isSortPath = (value) => typeof value === 'string' && isPath(value.replace(/^-/, ''))

export const parseSortPath = (text) => ({ path: text.replace(/^-/, ''), descending: text.startsWith('-') })

export const stepsOf = (path) => (insideOf(path) ?? path).split('.')

// Does `path` lead into what stands at `beginning`?
export function beginsWith (path, beginning) {
  const steps = stepsOf(path)
  return stepsOf(beginning).every((step, i) => step === steps[i])
}

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
  const found = descend(record, stepsOf(path))
  if (!isWords(path)) return found
  return { values: wordsOf(found.values.filter((value) => typeof value === 'string')), list: true }
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

// What of a record stands at some paths, none of them words.
export const projection = (record, paths) => project(record, paths.map(stepsOf))

function project (map, ways) {
  const projected = new Map()
  for (const name of new Set(ways.map(([step]) => step))) {
    const rests = ways.filter(([step]) => step === name).map(([, ...rest]) => rest)
    const value = map.get(name)
    if (value === undefined) continue
    if (rests.some((rest) => rest.length === 0)) projected.set(name, value)
    else if (value instanceof Map) projected.set(name, project(value, rests))
    else if (Array.isArray(value)) {
      projected.set(name, value.filter((item) => item instanceof Map).map((item) => project(item, rests)))
    }
  }
  return projected
}
