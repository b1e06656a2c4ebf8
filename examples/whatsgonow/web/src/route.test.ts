import { expect, test } from 'vitest'
import { pageOf } from './route'

const id = '0b8e7a4c-2f6d-4c5e-9a51-3f1d2c4b5a69'

test.each([
  ['/', { name: 'discover' }],
  ['/post', { name: 'post' }],
  ['/post/', { name: 'post' }],
  [`/t/${id}`, { name: 'transport', id }],
  ['/t/', { name: 'lost' }],
  ['/t/../account', { name: 'lost' }],
  ['/toString', { name: 'lost' }],
])('%s', (path, page) => { expect(pageOf(path)).toEqual(page) })
