import { useId, useState, type FormEvent } from 'react'
import { api, type Match, type Place, type Size } from '../api'
import { useApp, useLoad } from '../app-state'
import { Card, Field, Icon, Loading, PlaceList, ProblemNote } from '../parts'
import { placeOf, places } from '../places'
import { go, useQuery } from '../route'
import { Sketch } from '../sketch'

const sizes: Size[] = ['small', 'medium', 'large', 'xlarge']
const detours = [10, 25, 50, 100, 200]

interface Search { from: Place; to: Place; detour: number; room: string }

/** The search stands in the address, so that it can be kept, shared and gone back to. */
function searchOf(query: URLSearchParams): Search | undefined {
  const [from, to] = [placeOf(query.get('from') ?? 'Leipzig'), placeOf(query.get('to') ?? 'Hamburg')]
  return from && to && { from, to, detour: Number(query.get('detour') ?? 50), room: query.get('room') ?? '' }
}

export function Discover() {
  const { say } = useApp()
  const query = useQuery()
  const search = searchOf(query)
  return (
    <div className="discover">
      <section className="ask">
        <h1>{say('discover.title')}</h1>
        <p className="lead">{say('discover.lead')}</p>
        <SearchForm key={query.toString()} search={search} />
      </section>
      {search && <Results key={query.toString()} search={search} />}
    </div>
  )
}

function SearchForm({ search }: { search: Search | undefined }) {
  const { say } = useApp()
  const list = useId()
  const [from, setFrom] = useState(search?.from.name ?? '')
  const [to, setTo] = useState(search?.to.name ?? '')
  const [detour, setDetour] = useState(String(search?.detour ?? 50))
  const [room, setRoom] = useState(search?.room ?? '')
  const [asked, setAsked] = useState(false)
  const unknown = (typed: string) => (asked && !placeOf(typed) ? say('place.unknown') : undefined)

  const ask = (e: FormEvent) => {
    e.preventDefault()
    setAsked(true)
    const [start, end] = [placeOf(from), placeOf(to)]
    if (!start || !end) return
    const next = new URLSearchParams({ from: start.name, to: end.name, detour })
    if (room) next.set('room', room)
    go('/?' + next.toString())
  }
  return (
    <form className="panel" onSubmit={ask} noValidate role="search">
      <div className="ends">
        <Field label={say('discover.from')} mistake={unknown(from)}>
          {(p) => <input {...p} list={list} value={from} onChange={(e) => { setFrom(e.target.value) }} onFocus={(e) => { e.target.select() }} autoComplete="off" />}
        </Field>
        <button type="button" className="swap" aria-label={say('discover.swap')} onClick={() => { setFrom(to); setTo(from) }}>
          <Icon name="swap" />
        </button>
        <Field label={say('discover.to')} mistake={unknown(to)}>
          {(p) => <input {...p} list={list} value={to} onChange={(e) => { setTo(e.target.value) }} onFocus={(e) => { e.target.select() }} autoComplete="off" />}
        </Field>
      </div>
      <div className="pair">
        <Field label={say('discover.detour')}>
          {(p) => (
            <select {...p} value={detour} onChange={(e) => { setDetour(e.target.value) }}>
              {detours.map((km) => <option key={km} value={km}>{km} km</option>)}
            </select>
          )}
        </Field>
        <Field label={say('discover.room')}>
          {(p) => (
            <select {...p} value={room} onChange={(e) => { setRoom(e.target.value) }}>
              <option value="">{say('size.any')}</option>
              {sizes.map((s) => <option key={s} value={s}>{say(`size.${s}`)}</option>)}
            </select>
          )}
        </Field>
      </div>
      <button type="submit">{say('discover.search')}</button>
      <PlaceList id={list} names={places.map((p) => p.name)} />
    </form>
  )
}

function Results({ search }: { search: Search }) {
  const { say } = useApp()
  const { value, problem, again } = useLoad('find', () => api.find(search))
  const matches = value?.matches ?? []
  const found = value && (matches.length === 0
    ? say('discover.found.none')
    : say(matches.length === 1 ? 'discover.found.one' : 'discover.found.many', { n: matches.length }))
  return (
    <section className="results">
      <div className="panel map">
        <Sketch from={search.from} to={search.to} detour={search.detour} ways={matches.slice(0, 9)} />
      </div>
      <ProblemNote problem={problem} again={again} />
      {!value && !problem && <Loading />}
      <div className="found">
        <h2 aria-live="polite">{found}</h2>
        {value && <p className="quiet">{say('discover.route', { km: Math.round(value.route_km) })}</p>}
      </div>
      <ul className="cards">
        {matches.map((m, i) => <Card key={m.id} t={m} {...(i < 9 ? { mark: i + 1 } : {})}><Detour m={m} /></Card>)}
      </ul>
    </section>
  )
}

function Detour({ m }: { m: Match }) {
  const { say } = useApp()
  const km = Math.round(m.detour_km)
  return <span className="detour">{km === 0 ? say('discover.on') : say('discover.extra', { km })}</span>
}
