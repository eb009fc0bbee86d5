// The words of a text (protocols/manifest/1), by the table of characters that stands beside the specification.

import { readFileSync } from 'node:fs'
import { compare } from './bytes.mjs'
import { encodeText } from './block.mjs'

const TABLE = new URL('../../../protocols/manifest/1/word-characters.txt', import.meta.url)
const COUNTED = 64
const ALONE = [
  [0x0e00, 0x0eff], [0x1000, 0x109f], [0x1780, 0x17ff], [0x3005, 0x3007], [0x3041, 0x309f], [0x3400, 0x4dbf],
  [0x4e00, 0x9fff], [0xf900, 0xfaff], [0x20000, 0x3134f]
]
const DOTLESS_I = '\u0131'

const isIn = (ranges, character) => {
  const code = character.codePointAt()
  let [low, high] = [0, ranges.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (ranges[middle][1] < code) low = middle + 1
    else high = middle
  }
  return low < ranges.length && ranges[low][0] <= code
}

let table
function isOfWords (character) {
  const lines = () => readFileSync(TABLE, 'utf8').split('\n').filter((line) => /^[0-9A-F]/.test(line))
  table ??= lines().map((line) => line.split(' ').map((code) => parseInt(code, 16)))
  return isIn(table, character)
}

// Full case folding. The language has none, but character by character lower, upper and lower case come to the same;
// except that Cherokee folds to upper case, and that the i without a dot, whose upper case is I, stays what it is.
function fold (character) {
  if (/\p{Script=Cherokee}/u.test(character)) return character.toUpperCase()
  return character === DOTLESS_I ? character : character.toLowerCase().toUpperCase().toLowerCase()
}

// The distinct words of some texts, in the order of their bytes.
export function wordsOf (texts) {
  const found = new Set(texts.flatMap((text) => [...wordsIn(text)]))
  return [...found].sort((a, b) => compare(encodeText(a), encodeText(b)))
}

function * wordsIn (text) {
  const known = [...text].map((character) => isOfWords(character) ? character : ' ').join('')
  const folded = [...known.normalize('NFKC')].map(fold).join('').normalize('NFKC')
  let word = []
  for (const character of [...folded, ' ']) {
    const isAlone = isIn(ALONE, character)
    if (isOfWords(character) && !isAlone) {
      word.push(character)
      continue
    }
    if (word.length > 0) yield word.slice(0, COUNTED).join('')
    if (isAlone && isOfWords(character)) yield character
    word = []
  }
}
