// Plans (protocols/query/1): the candidates of a query over a manifest that have one access path.

import { EMPTY, join } from './bytes.mjs'
import { conjunctsOf, formOf, imply, isJoint, isScalar, pathsIn, RANGES } from './condition.mjs'
import { Refused } from './errors.mjs'
import { component, cuts, intersect, keyRange, prefixRange } from './keys.mjs'
import { beginsWith, parseSortPath } from './record.mjs'
import { conditionOf, termsOf, wantsRows } from './query.mjs'

const CHOICES_MAX = 512
const CANDIDATES_MAX = 512

export function collectionOf (query, manifest) {
  const collection = manifest.collections.get(query.collection)
  if (collection === undefined) throw new Refused(`no collection ${query.collection}`)
  return collection
}

export const conjunctsOver = (query, manifest) => conjunctsOf(conditionOf(query, collectionOf(query, manifest)))

// The candidates, in their order: {kind, plan, parts, ordered, reverse, repeats, covered, grouped, residual, bound,
// fixed, tail, chosen}, of kind 'one', with one part {index, tree, primary, range, beginning}. `conjuncts`: others than
// those of the query.
export function candidatesOf (query, manifest, conjuncts = conjunctsOver(query, manifest)) {
  const collection = collectionOf(query, manifest)
  const primary = { paths: [collection.key], tree: collection.primary, lists: [0n], where: ['and'], include: [] }
  const found = new Map()
  for (const [name, index] of [...collection.indexes, ['', primary]]) {
    if (!imply(conjuncts, index.where)) continue
    for (const candidate of candidatesOver(name, index, conjuncts, query, collection)) {
      const text = formOf(candidate.plan)
      if (!found.has(text) && found.size < CANDIDATES_MAX) found.set(text, candidate)
    }
  }
  return [...found.values()]
}

// The conjuncts that are not among those bound.
export function withoutBound (conjuncts, bound) {
  const forms = new Set(bound.map(formOf))
  return conjuncts.filter((conjunct) => !forms.has(formOf(conjunct)))
}

function * candidatesOver (name, index, conjuncts, query, collection) {
  const { paths, tree, lists } = index
  const { key } = collection
  const terms = termsOf(query, collection)
  const sortPaths = paths.map(parseSortPath)
  const primary = name === ''
  for (const choice of choicesOf(sortPaths, conjuncts)) {
    const chosen = choice.length
    const { prefix, range, ranges, ...found } = rangeOf(choice, sortPaths, lists, conjuncts)
    const isOfGroups = query.grouped !== null && query.grouped.path === sortPaths[chosen]?.path && !found.repeats
    const repeats = found.repeats || (isOfGroups && lists[chosen] !== 0n)
    const before = chosen + (isOfGroups || ranges.length > 0 ? 1 : 0)
    if (lists.slice(before).some((count) => count !== 0n)) continue
    const bound = [...found.bound, ...ranges, ...boundBy(index, conjuncts)]
    const residual = withoutBound(conjuncts, bound)
    const last = { path: key, descending: sortPaths.at(-1).descending }
    const tail = primary ? sortPaths : [...sortPaths.slice(chosen), last]
    const fixed = new Set(sortPaths.slice(0, chosen).filter((_, i) => lists[i] === 0n).map(({ path }) => path))
    const { ordered, reverse } = repeats ? { ordered: false, reverse: false } : directionOf(fixed, tail, terms, key)
    const isAboutGroups = conjuncts.some((one) => !isJoint(one) && one[1] === query.grouped?.path)
    const part = { index, tree, primary, range, beginning: primary ? EMPTY : prefix }
    yield {
      kind: 'one',
      plan: [name, range.low, range.high, reverse],
      parts: [part],
      ordered,
      reverse,
      repeats,
      covered: isCovered(query, [part], residual, ordered ? [] : terms),
      grouped: isOfGroups && residual.length === 0 && !(repeats && isAboutGroups),
      residual,
      bound,
      fixed,
      tail,
      chosen
    }
  }
}

// The conjuncts that the index's own condition says already.
function boundBy ({ where }, conjuncts) {
  const forms = conjunctsOf(where).map(formOf)
  return conjuncts.filter((conjunct) => forms.includes(formOf(conjunct)))
}

// Step 8: whether all that the query looks at stands in the entries.
export function isCovered (query, parts, residual, terms) {
  if (wantsRows(query) && query.select === null) return false
  const wanted = query.select ?? (query.grouped === null ? [] : [query.grouped.path])
  const paths = [...wanted, ...residual.flatMap(pathsIn), ...terms.map(({ path }) => path)]
  return parts.every(({ primary, index: { include } }) => !primary && include.length > 0 &&
    paths.every((path) => include.some((included) => beginsWith(path, included))))
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

// Steps 2 and 3, but for what is said of groups and of the index's condition.
function rangeOf (chosen, sortPaths, lists, conjuncts) {
  const prefix = join(...chosen.map(({ value }, i) => component(value, sortPaths[i].descending)))
  const bound = chosen.map(({ conjunct }) => conjunct)
  const following = sortPaths[chosen.length]
  const hasLists = following !== undefined && lists[chosen.length] !== 0n
  let ranges = conjuncts.filter((conjunct) => conjunct[1] === following?.path && hasRange(conjunct, hasLists))
  if (ranges.length === 0) return { prefix, range: prefixRange(prefix), ranges, repeats: false, bound }
  if (hasLists) ranges = ranges.slice(0, 1)
  const between = intersect(ranges.map(([operator, , operand]) => cuts(operator, operand)))
  return { prefix, range: keyRange(prefix, between, following.descending), ranges, repeats: hasLists, bound }
}

const hasRange = ([operator, , operand], hasLists) =>
  RANGES.includes(operator) || (operator === '!=' && operand === null && !hasLists)

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
