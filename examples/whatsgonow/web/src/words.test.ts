import { expect, test } from 'vitest'
import { languages, say, wordOr, type Language, type Word } from './words'

const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort()

test.each(Object.keys(languages) as Language[])('%s says every word, with the same values in it', (language) => {
  for (const [word, german] of Object.entries(languages.de)) {
    const text = languages[language][word as Word]
    expect(text, word).toBeTruthy()
    expect(holes(text), word).toEqual(holes(german))
  }
})

test('values are put in, and a missing one shows', () => {
  expect(say('de', 'offer.accept', { price: '20 €' })).toBe('20 € annehmen')
  expect(say('en', 'offer.accept')).toBe('Accept {price}')
})

test('an unknown code has a word all the same', () => {
  expect(wordOr('problem.brand_new', 'problem.broken')).toBe('problem.broken')
  expect(wordOr('problem.away', 'problem.broken')).toBe('problem.away')
})
