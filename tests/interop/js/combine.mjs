// Plans of several access paths at once (protocols/query/1), and the candidate that a plan is.

import { conjunctsOf, formOf, isScalar } from './condition.mjs'
import { must, Refused } from './errors.mjs'
import { candidatesOf, collectionOf, conjunctsOver, directionOf, isCovered, withoutBound } from './plan.mjs'
import { termsOf } from './query.mjs'

const PARTS_MAX = 64

// The candidate that a plan is; Refused if it is none.
export function candidateFor (plan, query, manifest) {
  if (!Array.isArray(plan) || plan.length !== 2) return singleFor(plan, candidatesOf(query, manifest))
  const [kind, plans] = plan
  must(kind === 'all' || kind === 'any', 'a plan of an unknown kind')
  must(Array.isArray(plans) && plans.length >= 2 && plans.length <= PARTS_MAX, 'a plan of too few or too many parts')
  const combined = kind === 'all' ? allOf(plans, query, manifest) : anyOf(plans, query, manifest)
  const { found, fixed, residual } = combined
  const [{ tail, parts: [{ primary }] }] = found
  must(found.every((part) => formOf(tailForm(part.tail)) === formOf(tailForm(tail))), 'parts with other tails')
  must(found.every((part) => !part.repeats && part.parts[0].primary === primary), 'parts that do not go together')
  const collection = collectionOf(query, manifest)
  const terms = termsOf(query, collection)
  const direction = directionOf(fixed, tail, terms, collection.key)
  const parts = found.flatMap(({ parts }) => parts)
  const covered = isCovered(query, parts, residual, direction.ordered ? [] : terms)
  return { kind, plan, parts, ...direction, repeats: false, covered, grouped: false, residual }
}

const tailForm = (tail) => tail.map(({ path, descending }) => [path, descending])

function singleFor (plan, candidates) {
  const form = formOf(plan)
  const candidate = candidates.find((other) => formOf(other.plan) === form)
  if (candidate === undefined) throw new Refused('a plan that is no candidate')
  return candidate
}

function allOf (plans, query, manifest) {
  const candidates = candidatesOf(query, manifest)
  const found = plans.map((plan) => singleFor(plan, candidates))
  must(found.every(({ chosen, parts: [{ primary }] }) => chosen > 0 && !primary), 'a part that is not narrowed down')
  must(new Set(found.map(({ bound }) => formOf(bound))).size === found.length, 'parts that bind the same')
  return {
    found,
    fixed: new Set(found.flatMap(({ fixed }) => [...fixed])),
    residual: withoutBound(conjunctsOver(query, manifest), found.flatMap(({ bound }) => bound))
  }
}

function anyOf (plans, query, manifest) {
  const conjuncts = conjunctsOver(query, manifest)
  for (const [i, conjunct] of conjuncts.entries()) {
    const branches = branchesOf(conjunct)
    if (branches.length !== plans.length) continue
    const others = conjuncts.filter((_, j) => j !== i)
    const candidates = branches.map((branch) => candidatesOf(query, manifest, [...others, ...conjunctsOf(branch)]))
    const found = plans.map((plan, j) => candidates[j].find((other) => formOf(other.plan) === formOf(plan)))
    if (!found.includes(undefined)) return { found, ...bindingOf(found, branches, conjuncts, conjunct) }
  }
  throw new Refused('a plan that is no candidate')
}

function branchesOf ([operator, ...rest]) {
  if (operator === 'or') return rest
  if (operator !== 'in' || !rest[1].every(isScalar)) return []
  const equalities = rest[1].map((value) => ['=', rest[0], value])
  return [...new Map(equalities.map((equality) => [formOf(equality), equality])).values()]
}

function bindingOf (found, branches, conjuncts, branching) {
  const isIn = (conjunct, others) => others.some((other) => formOf(other) === formOf(conjunct))
  const shared = conjuncts.filter((conjunct) => found.every(({ bound }) => isIn(conjunct, bound)))
  const binds = ({ residual }, branch) => !conjunctsOf(branch).some((conjunct) => isIn(conjunct, residual))
  const isBound = found.every((part, j) => binds(part, branches[j]))
  const paths = shared.map(([, path]) => path).filter((path) => found.every(({ fixed }) => fixed.has(path)))
  return { fixed: new Set(paths), residual: withoutBound(conjuncts, isBound ? [...shared, branching] : shared) }
}
