// Plans (protocols/query/1): the candidates of a query over a manifest that have one access path.

import { EMPTY, hex, join } from './bytes.mjs'
import { encode } from './block.mjs'
import { Refused } from './errors.mjs'
import { component, cuts, intersect, keyRange, prefixRange } from './keys.mjs'
import { parseSortPath } from './manifest.mjs'
import { conjunctsOf, isScalar, RANGES, termsOf } from './query.mjs'

const CHOICES_MAX = 512
const CANDIDATES_MAX = 512

export function collectionOf (query, manifest) {
  const collection = manifest.collections.get(query.collection)
  if (collection === undefined) throw new Refused(`no collection ${query.collection}`)
  return collection
}

// The candidates, in their order: {kind, plan, parts, ordered, reverse, repeats, residual, bound, fixed, tail, chosen},
// of kind 'one', with one part {paths, tree, primary, range, beginning}. `conjuncts`: others than those of the query.
export function candidatesOf (query, manifest, conjuncts = conjunctsOf(query.condition)) {
  const collection = collectionOf(query, manifest)
  const primary = { paths: [collection.key], tree: collection.primary, lists: [0n] }
  const found = new Map()
  for (const [name, index] of [...collection.indexes, ['', primary]]) {
    for (const candidate of candidatesOver(name, index, conjuncts, termsOf(query, collection), collection.key)) {
      const text = formOf(candidate.plan)
      if (!found.has(text) && found.size < CANDIDATES_MAX) found.set(text, candidate)
    }
  }
  return [...found.values()]
}

export const formOf = (value) => hex(encode(value))

// The conjuncts that are not among those bound.
export function withoutBound (conjuncts, bound) {
  const forms = new Set(bound.map(formOf))
  return conjuncts.filter((conjunct) => !forms.has(formOf(conjunct)))
}

function * candidatesOver (name, { paths, tree, lists }, conjuncts, terms, key) {
  const sortPaths = paths.map(parseSortPath)
  for (const choice of choicesOf(sortPaths, conjuncts)) {
    const chosen = choice.length
    const { prefix, range, repeats, bound } = rangeOf(choice, sortPaths, lists, conjuncts)
    const boundPaths = chosen + (bound.length > chosen ? 1 : 0)
    if (lists.slice(boundPaths).some((count) => count !== 0n)) continue
    const primary = name === ''
    const last = { path: key, descending: sortPaths.at(-1).descending }
    const tail = primary ? sortPaths : [...sortPaths.slice(chosen), last]
    const fixed = new Set(sortPaths.slice(0, chosen).filter((_, i) => lists[i] === 0n).map(({ path }) => path))
    const { ordered, reverse } = repeats ? { ordered: false, reverse: false } : directionOf(fixed, tail, terms, key)
    yield {
      kind: 'one',
      plan: [name, range.low, range.high, reverse],
      parts: [{ paths, tree, primary, range, beginning: primary ? EMPTY : prefix }],
      ordered,
      reverse,
      repeats,
      residual: withoutBound(conjuncts, bound),
      bound,
      fixed,
      tail,
      chosen
    }
  }
}

// Step 1: one equality for each of the first paths, in every way, the last path varying fastest.
function choicesOf (sortPaths, conjuncts) {
  let choices = [[]]
  for (const { path } of sortPaths) {
    const equalities = conjuncts.map((conjunct) => equalityAt(path, conjunct)).filter((equality) => equality !== null)
    if (equalities.length === 0) break
    choices = choices.flatMap((chosen) => equalities.map((equality) => [...chosen, equality])).slice(0, CHOICES_MAX)
  }
  return choices
}

function equalityAt (path, conjunct) {
  const [operator, at, operand] = conjunct
  if (at !== path) return null
  if (operator === '=' && !Array.isArray(operand)) return { conjunct, value: operand }
  if (operator === 'in' && operand.length === 1 && isScalar(operand[0])) return { conjunct, value: operand[0] }
  return null
}

// Steps 2 and 3.
function rangeOf (chosen, sortPaths, lists, conjuncts) {
  const prefix = join(...chosen.map(({ value }, i) => component(value, sortPaths[i].descending)))
  const bound = chosen.map(({ conjunct }) => conjunct)
  const following = sortPaths[chosen.length]
  let ranges = conjuncts.filter(([operator, path]) => RANGES.includes(operator) && path === following?.path)
  if (ranges.length === 0) return { prefix, range: prefixRange(prefix), repeats: false, bound }
  const repeats = lists[chosen.length] !== 0n
  if (repeats) ranges = ranges.slice(0, 1)
  const between = intersect(ranges.map(([operator, , operand]) => cuts(operator, operand)))
  return { prefix, range: keyRange(prefix, between, following.descending), repeats, bound: [...bound, ...ranges] }
}

// Step 5: whether entries come in the order of the terms, and how they must be read for that.
export function directionOf (fixed, tail, terms, key) {
  const wanted = terms.filter(({ path }) => !fixed.has(path))
  const place = tail.findIndex(({ path }) => path === key)
  const given = tail.slice(0, place + 1)
  const same = (turned) => given.length === wanted.length && given.every(({ path, descending }, i) =>
    path === wanted[i].path && (descending !== wanted[i].descending) === turned)
  if (fixed.has(key) || wanted.length === 0 || same(false)) return { ordered: true, reverse: false }
  return { ordered: same(true), reverse: same(true) }
}
