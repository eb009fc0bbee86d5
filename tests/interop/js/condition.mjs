// Conditions (protocols/query/1): what meets them, and whether some imply another one.

import { compare, equal, hex } from './bytes.mjs'
import { encode, isBytes } from './block.mjs'
import { must } from './errors.mjs'
import { comparePlaces, component, cuts, holds, isInt64, prefixRange, rangeBetween } from './keys.mjs'
import { isPath, isRecordValue, isWords, stepsOf, valuesAt } from './record.mjs'

const COMPARISONS_MAX = 64
const LISTED_MAX = 256
const DEPTH_MAX = 16
const JOINTS = ['and', 'or', 'not']
const EQUALITIES = ['=', 'in']
export const RANGES = ['<', '<=', '>', '>=', 'starts with']
export const TIME = 'time()'

export const isJoint = ([operator]) => JOINTS.includes(operator)

export const isScalar = (value) =>
  value === null || ['boolean', 'string', 'number'].includes(typeof value) || isBytes(value) || isInt64(value)

// A value's canonical form, as text.
export const formOf = (value) => hex(encode(value))

export const isListOf = (value, lengthMax, isItem) =>
  Array.isArray(value) && value.length >= 1 && value.length <= lengthMax && value.every(isItem)

// Refuses what is no condition.
export function mustBeCondition (condition) {
  must(countComparisons(condition, 0) <= COMPARISONS_MAX, 'too many comparisons')
}

function countComparisons (condition, depth) {
  must(Array.isArray(condition) && condition.length >= 1, 'a condition that is none')
  const [operator, ...rest] = condition
  if (JOINTS.includes(operator)) {
    must(depth < DEPTH_MAX, 'conditions nested too deep')
    must(operator !== 'not' || rest.length === 1, 'a not of other than one condition')
    return rest.reduce((sum, part) => sum + countComparisons(part, depth + 1), 0)
  }
  must(rest.length === 2 && (isPath(rest[0]) || rest[0] === TIME), 'a comparison that is none')
  must(isOperand(operator, rest[1]), 'an operator or a value that is none')
  return 1
}

function isOperand (operator, value) {
  switch (operator) {
    case '=': case '!=': return isRecordValue(value)
    case '<': case '<=': case '>': case '>=': return isScalar(value)
    case 'in': return isListOf(value, LISTED_MAX, (item) => isRecordValue(item))
    case 'starts with': return typeof value === 'string'
    case 'exists': return typeof value === 'boolean'
    default: return false
  }
}

// The paths of all its comparisons.
export const pathsIn = (condition) => isJoint(condition) ? condition.slice(1).flatMap(pathsIn) : [condition[1]]

// The condition with another path in each comparison.
export function mapPaths (condition, change) {
  const [operator, ...rest] = condition
  if (isJoint(condition)) return [operator, ...rest.map((part) => mapPaths(part, change))]
  return [operator, change(rest[0]), rest[1]]
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
    case 'exists': return exists(record, stepsOf(rest[0])) === rest[1]
  }
  const range = cuts(operator, rest[1])
  return valuesAt(record, rest[0]).values.some((value) => holds(component(value), range))
}

function equals (record, path, value) {
  const wanted = component(value)
  const candidates = valuesAt(record, path).values
  const lists = Array.isArray(value) && !isWords(path) ? listsAt(record, stepsOf(path)) : []
  return [...candidates, ...lists].some((other) => equal(component(other), wanted))
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

// Do these conditions together imply the one that is wanted?
export function imply (known, wanted) {
  const [operator, ...parts] = wanted
  if (operator === 'and') return parts.every((part) => imply(known, part))
  const form = formOf(wanted)
  if (known.some((one) => formOf(one) === form || eachPartImplies(one, wanted))) return true
  if (operator === 'or') return parts.some((part) => imply(known, part))
  return operator !== 'not' && known.some((one) => !isJoint(one) && isStronger(one, wanted))
}

const eachPartImplies = ([operator, ...parts], wanted) =>
  operator === 'or' && parts.length > 0 && parts.every((part) => imply([part], wanted))

function isStronger (one, [operator, path, value]) {
  const [ownOperator, ownPath] = one
  if (ownPath !== path || ![...EQUALITIES, ...RANGES].includes(ownOperator)) return false
  const isEquality = EQUALITIES.includes(ownOperator)
  if (operator === 'exists') return value && !listed(one).includes(null)
  if (EQUALITIES.includes(operator)) {
    const allowed = listed([operator, path, value]).map(formOfComponent)
    return isEquality && listed(one).every((other) => allowed.includes(formOfComponent(other)))
  }
  if (!RANGES.includes(operator)) return false
  const outer = rangeBetween(cuts(operator, value))
  const inner = isEquality ? listed(one).map((other) => prefixRange(component(other))) : [rangeBetween(cuts(ownOperator, one[2]))]
  return inner.every(({ low, high }) => compare(outer.low, low) <= 0 && comparePlaces(high, outer.high) <= 0)
}

const formOfComponent = (value) => hex(component(value))
const listed = ([operator, , value]) => operator === 'in' ? value : [value]
