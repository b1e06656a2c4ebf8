import { expect, test } from 'vitest'
import { placeOf, places } from './places'

test('every place is read, once, and lies in the middle of Europe', () => {
  expect(places.length).toBeGreaterThan(60)
  expect(new Set(places.map((p) => p.name)).size).toBe(places.length)
  for (const p of places) {
    expect(p.lat, p.name).toSatisfy((lat: number) => lat > 45 && lat < 56)
    expect(p.lng, p.name).toSatisfy((lng: number) => lng > 5 && lng < 25)
  }
})

test.each([
  ['münchen', 'München'], ['Munchen', 'München'], [' lodz ', 'Łódź'], ['POZNAN', 'Poznań'], ['halle (saale)', 'Halle (Saale)'],
  ['', undefined], ['Atlantis', undefined],
])('%o is %o', (typed, name) => { expect(placeOf(typed)?.name).toBe(name) })
