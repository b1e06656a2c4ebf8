import { afterEach, expect, test, vi } from 'vitest'
import { api, Problem } from './api'

afterEach(() => { vi.unstubAllGlobals() })

const answer = (status: number, body: string, type = 'application/problem+json') => {
  const fetched = vi.fn<typeof fetch>(() => Promise.resolve(new Response(body, { status, headers: { 'Content-Type': type } })))
  vi.stubGlobal('fetch', fetched)
  return fetched
}

test('a problem keeps its code and all mistakes', async () => {
  answer(422, '{"code":"mistakes","errors":[{"field":"title","code":"required"},{"field":"to","code":"no_position"}]}')
  const problem = await api.mine().catch((e: unknown) => e)
  expect(problem).toBeInstanceOf(Problem)
  expect(problem).toMatchObject({ code: 'mistakes', mistakes: [{ field: 'title' }, { field: 'to' }] })
})

test.each([[502, 'away'], [500, 'broken']])('%d with a page from somewhere in between is %s', async (status, code) => {
  answer(status, '<html>', 'text/html')
  await expect(api.mine()).rejects.toMatchObject({ code })
})

test('no connection is a problem too', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('failed to fetch')))
  await expect(api.mine()).rejects.toMatchObject({ code: 'offline' })
})

test('a search is asked as the API reads it', async () => {
  const fetched = answer(200, '{"route_km":1,"matches":[]}', 'application/json')
  await api.find({ from: { lat: 51.34, lng: 12.37 }, to: { lat: 53.55, lng: 9.99 }, detour: 50, room: 'large' })
  expect(fetched.mock.calls[0]?.[0]).toBe('/api/transports?from=51.34%2C12.37&to=53.55%2C9.99&detour=50&room=large')
})
