import { expect, test } from 'vitest'
import { cents, format, instant, whole } from './format'

test.each([
  ['25', 2500], ['25,5', 2550], ['25.50', 2550], [' 1 200 € ', 120000], ['0,99', 99],
  ['', 0], ['zehn', 0], ['1e9', 0], ['-5', 0], ['1,234', 0], ['1.2.3', 0],
])('%o euros are %d cents', (typed, want) => { expect(cents(typed)).toBe(want) })

test.each([['12', 12], ['12,2', 13], ['', 0], ['schwer', 0], ['-1', 0]])('%o kg are %d', (typed, want) => {
  expect(whole(typed)).toBe(want)
})

test('a time that was not typed is the one the API takes for missing', () => {
  expect(instant('')).toBe('0001-01-01T00:00:00Z')
  expect(instant('2026-11-23T08:00')).toBe(new Date(2026, 10, 23, 8).toISOString())
})

test('round sums have no cents', () => {
  expect(format.euros('de', 2500)).toBe('25\u00a0€')
  expect(format.euros('de', 2550)).toBe('25,50\u00a0€')
})
