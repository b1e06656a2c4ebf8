import { expect, test } from 'vitest'
import { draftOf, once } from './post'
import { stepsOf } from './transport'

const nothing = { title: '', note: '', from: '', to: '', start: '', end: '', size: 'medium' as const, weight: '', price: '', photo: '' }

test('what was typed becomes a draft', () => {
  const draft = draftOf({ ...nothing, title: 'Kommode', from: 'leipzig', to: 'Hamburg', weight: '30,5', price: '60,50', photo: 'abc' })
  expect(draft).toMatchObject({
    title: 'Kommode', from: { name: 'Leipzig', lat: 51.34 }, to: { name: 'Hamburg' }, weight_kg: 31, price_cents: 6050, photo: 'abc',
  })
})

test('what makes no sense is left to the API, which names all of it', () => {
  expect(draftOf({ ...nothing, from: 'Atlantis', price: 'viel' })).toMatchObject({
    from: { name: 'Atlantis', lat: 0, lng: 0 }, price_cents: 0, weight_kg: 0, window: { start: '0001-01-01T00:00:00Z' },
  })
})

test('a field complains once', () => {
  expect(once([{ field: 'to', code: 'required' }, { field: 'to', code: 'no_position' }, { field: 'from', code: 'required' }]))
    .toEqual([{ field: 'to', code: 'required' }, { field: 'from', code: 'required' }])
})

test('the way of a transport shows where it stands, also off the usual way', () => {
  expect(stepsOf('offer_pending').at).toBe(0)
  expect(stepsOf('in_delivery').steps[stepsOf('in_delivery').at]).toBe('in_delivery')
  expect(stepsOf('cancelled')).toEqual({ steps: ['created', 'cancelled'], at: 1 })
})
