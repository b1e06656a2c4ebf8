import { expect, test } from 'vitest'
import { mapOf } from './map'
import { placeOf } from './places'

test('longitude first, four digits, about eleven metres', () => {
  const [berlin, hamburg] = [placeOf('Berlin'), placeOf('Hamburg')]
  if (!berlin || !hamburg) throw new Error('places')
  expect(mapOf(berlin, hamburg)).toMatch(/pin-s-a\(13\.\d{4},52\.\d{4}\),pin-s-b\((9|10)\.\d{4},53\.\d{4}\)\/auto/)
})
