import { expect, test } from 'vitest'
import { placeOf, places } from './places'
import { height, project, width } from './sketch'

const at = (name: string) => {
  const place = placeOf(name)
  if (!place) throw new Error(name)
  return place
}

test('everything lies inside, north is up, east is right', () => {
  const spot = project(places)
  for (const p of places) {
    const { x, y } = spot(p)
    expect(x, p.name).toSatisfy((v: number) => v >= 0 && v <= width)
    expect(y, p.name).toSatisfy((v: number) => v >= 0 && v <= height)
  }
  expect(spot(at('Hamburg')).y).toBeLessThan(spot(at('München')).y)
  expect(spot(at('Köln')).x).toBeLessThan(spot(at('Berlin')).x)
})

test('as far in one direction as in the other', () => {
  const [berlin, leipzig] = [at('Berlin'), at('Leipzig')]
  const spot = project([berlin, leipzig])
  const [a, b] = [spot(berlin), spot(leipzig)]
  expect(Math.hypot(a.x - b.x, a.y - b.y) / a.kmToPx).toBeCloseTo(148.6, 0)
})

test('a single point stays finite', () => {
  const { x, y } = project([at('Ulm'), at('Ulm')])(at('Ulm'))
  expect([x, y]).toEqual([width / 2, height / 2])
})
