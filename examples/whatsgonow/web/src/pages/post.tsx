import { useEffect, useId, useRef, useState, type ChangeEvent, type FormEvent } from 'react'
import { api, type Draft, type Mistake, type Size } from '../api'
import { useApp, useDoing } from '../app-state'
import { cents, instant, whole } from '../format'
import { Field, PlaceList, ProblemNote, useMistakes } from '../parts'
import { shrink } from '../photo'
import { placeOf, places } from '../places'
import { go } from '../route'
import type { Word } from '../words'

const empty = {
  title: '', note: '', from: '', to: '', start: '', end: '', size: 'medium' as Size, weight: '', price: '', photo: '',
}
export type Typed = typeof empty

/** draftOf reads what was typed. What makes no sense stays empty: the API says what is wrong, all at once. */
export function draftOf(typed: Typed): Draft {
  const place = (name: string) => placeOf(name) ?? { name: name.trim(), lat: 0, lng: 0 }
  return {
    title: typed.title,
    note: typed.note,
    from: place(typed.from),
    to: place(typed.to),
    window: { start: instant(typed.start), end: instant(typed.end) },
    size: typed.size,
    weight_kg: whole(typed.weight),
    price_cents: cents(typed.price),
    ...(typed.photo ? { photo: typed.photo } : {}),
  }
}

/** once keeps the first mistake of each field: a place without a name needs no second complaint. */
export function once(mistakes: Mistake[]): Mistake[] {
  return mistakes.filter((m, i) => mistakes.findIndex((o) => o.field === m.field) === i)
}

const labels: Record<string, Word> = {
  'title': 'post.what', 'note': 'post.note', 'from': 'discover.from', 'to': 'discover.to',
  'window.start': 'post.start', 'window.end': 'post.end', 'size': 'size.label',
  'weight_kg': 'post.weight', 'price_cents': 'post.price', 'photo': 'post.photo',
}

const kept = 'whatsgonow:draft'

function restore(): Typed {
  try {
    return { ...empty, ...(JSON.parse(sessionStorage.getItem(kept) ?? '{}') as Partial<Typed>) }
  } catch {
    return empty
  }
}

export function Post() {
  const { say, person } = useApp()
  const [typed, setTyped] = useState(restore)
  const { busy, problem, act } = useDoing()
  const mistakes = once(problem?.mistakes ?? [])
  const mistake = useMistakes(mistakes)
  const list = useId()

  useEffect(() => { sessionStorage.setItem(kept, JSON.stringify(typed)) }, [typed])

  const bind = (field: keyof Typed) => ({
    value: typed[field],
    onChange: (e: ChangeEvent<HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>) => {
      setTyped({ ...typed, [field]: e.target.value })
    },
  })
  const send = (e: FormEvent) => {
    e.preventDefault()
    if (person === null) {
      go('/sign-in?then=/post')
      return
    }
    void act(async () => {
      const made = await api.post(draftOf(typed))
      setTyped(empty)
      sessionStorage.removeItem(kept)
      go(`/t/${made.id}`)
    })
  }
  return (
    <div className="narrow wide">
      <h1>{say('post.title')}</h1>
      <p className="lead">{say('post.lead')}</p>
      {person === null && <p className="tip">{say('post.guest')}</p>}
      <form className="panel" onSubmit={send} noValidate>
        {mistakes.length > 0 ? <Summary mistakes={mistakes} /> : <ProblemNote problem={problem} />}
        <Field id="title" label={say('post.what')} mistake={mistake('title')}>
          {(p) => <input {...p} {...bind('title')} maxLength={80} />}
        </Field>
        <div className="pair">
          <Field id="from" label={say('discover.from')} mistake={mistake('from')}>
            {(p) => <input {...p} {...bind('from')} list={list} autoComplete="off" />}
          </Field>
          <Field id="to" label={say('discover.to')} mistake={mistake('to')}>
            {(p) => <input {...p} {...bind('to')} list={list} autoComplete="off" />}
          </Field>
          <p className="hint">{say('place.hint')}</p>
        </div>
        <div className="pair">
          <Field id="window.start" label={say('post.start')} mistake={mistake('window.start')}>
            {(p) => <input {...p} {...bind('start')} type="datetime-local" />}
          </Field>
          <Field id="window.end" label={say('post.end')} mistake={mistake('window.end')}>
            {(p) => <input {...p} {...bind('end')} type="datetime-local" />}
          </Field>
        </div>
        <Sizes value={typed.size} choose={(size) => { setTyped({ ...typed, size }) }} />
        <div className="pair">
          <Field id="weight_kg" label={say('post.weight')} mistake={mistake('weight_kg')}>
            {(p) => <input {...p} {...bind('weight')} inputMode="decimal" />}
          </Field>
          <Field id="price_cents" label={say('post.price')} mistake={mistake('price_cents')}>
            {(p) => <input {...p} {...bind('price')} inputMode="decimal" />}
          </Field>
        </div>
        <Field id="note" label={say('post.note')} mistake={mistake('note')} hint={say('post.note.hint')} optional>
          {(p) => <textarea {...p} {...bind('note')} rows={3} />}
        </Field>
        <Photo id={typed.photo} mistake={mistake('photo')} put={(photo) => { setTyped({ ...typed, photo }) }} />
        <button type="submit" disabled={busy}>{say('post.send')}</button>
        <PlaceList id={list} names={places.map((p) => p.name)} />
      </form>
    </div>
  )
}

/** The Summary names all mistakes, takes the focus, and leads to each field. */
function Summary({ mistakes }: { mistakes: Mistake[] }) {
  const { say } = useApp()
  const mistake = useMistakes(mistakes)
  const box = useRef<HTMLDivElement>(null)
  useEffect(() => { box.current?.focus() }, [])
  const lead = mistakes.length === 1 ? say('post.mistakes.one') : say('post.mistakes.many', { n: mistakes.length })
  const jump = (field: string) => { document.getElementById(field)?.focus() }
  return (
    <div className="problem" role="alert" tabIndex={-1} ref={box}>
      <p>{lead}</p>
      <ul>
        {mistakes.map(({ field }) => (
          <li key={field}>
            <a href={`#${field}`} onClick={(e) => { e.preventDefault(); jump(field) }}>
              {say(labels[field] ?? 'problem.mistakes')}: {mistake(field)}
            </a>
          </li>
        ))}
      </ul>
    </div>
  )
}

function Sizes({ value, choose }: { value: Size; choose: (size: Size) => void }) {
  const { say } = useApp()
  return (
    <fieldset className="sizes" id="size">
      <legend>{say('size.label')}</legend>
      {(['small', 'medium', 'large', 'xlarge'] as const).map((s, i) => (
        <label key={s}>
          <input type="radio" name="size" checked={s === value} onChange={() => { choose(s) }} />
          <svg viewBox="0 0 40 40" aria-hidden="true"><rect x={20 - (6 + i * 4)} y={34 - 2 * (6 + i * 4)} width={2 * (6 + i * 4)} height={2 * (6 + i * 4)} rx="3" /></svg>
          <span>{say(`size.${s}`)}</span>
        </label>
      ))}
    </fieldset>
  )
}

function Photo({ id, mistake, put }: { id: string; mistake: string | undefined; put: (id: string) => void }) {
  const { say } = useApp()
  const { busy, problem, act } = useDoing()
  const choose = (e: ChangeEvent<HTMLInputElement>) => {
    const file = e.target.files?.[0]
    if (file) void act(async () => { put((await api.upload(await shrink(file))).id) })
  }
  return (
    <>
      <Field id="photo" label={say('post.photo')} mistake={mistake} hint={say('post.photo.hint')} optional>
        {(p) => <input {...p} type="file" accept="image/*" onChange={choose} disabled={busy} />}
      </Field>
      <ProblemNote problem={problem} />
      {id && (
        <div className="preview">
          <img src={api.photo(id)} alt={say('post.photo')} />
          <button type="button" className="plain" onClick={() => { put('') }}>{say('post.photo.remove')}</button>
        </div>
      )}
    </>
  )
}
