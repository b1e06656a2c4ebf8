// The pieces that several pages are made of.
import { useId, type ReactNode } from 'react'
import type { Mistake, Problem, Status, Transport } from './api'
import { useApp } from './app-state'
import { format } from './format'
import { Link } from './route'
import { wordOr } from './words'

const icons = {
  discover: 'M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm5 11.5L20 20',
  post: 'M12 5v14M5 12h14',
  mine: 'M4 8l8-4 8 4v8l-8 4-8-4V8Zm0 0l8 4 8-4M12 12v8',
  account: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-7 8c.8-3.5 3.6-5 7-5s6.2 1.5 7 5',
  swap: 'M7 4v15m0 0-3-3m3 3 3-3M17 20V5m0 0-3 3m3-3 3 3',
  back: 'M14 6l-6 6 6 6',
  arrow: 'M4 12h15m0 0-5-5m5 5-5 5',
}

export function Icon({ name }: { name: keyof typeof icons }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={icons[name]} />
    </svg>
  )
}

interface FieldProps {
  label: string
  mistake?: string | undefined
  hint?: string
  optional?: boolean
  id?: string
  children: (props: { id: string; 'aria-invalid'?: true; 'aria-describedby'?: string }) => ReactNode
}

/** A Field ties a label, a hint and a mistake to whatever is typed into. */
export function Field({ label, mistake, hint, optional, id, children }: FieldProps) {
  const { say } = useApp()
  const own = useId()
  const at = id ?? own
  const about = [hint && `${at}-hint`, mistake && `${at}-mistake`].filter(Boolean).join(' ')
  return (
    <div className="field">
      <label htmlFor={at}>
        {label} {optional && <span className="quiet">({say('optional')})</span>}
      </label>
      {children({
        id: at,
        ...(mistake ? { 'aria-invalid': true as const } : {}),
        ...(about ? { 'aria-describedby': about } : {}),
      })}
      {mistake && <p className="mistake" id={`${at}-mistake`}>{mistake}</p>}
      {hint && <p className="hint" id={`${at}-hint`}>{hint}</p>}
    </div>
  )
}

/** useMistakes finds the words for what is wrong with a field. */
export function useMistakes(mistakes: Mistake[] | undefined) {
  const { say } = useApp()
  return (field: string) => {
    const found = mistakes?.find((m) => m.field === field)
    return found && say(wordOr(`mistake.${found.code}`, 'mistake.other'))
  }
}

export function ProblemNote({ problem, again }: { problem: Problem | undefined; again?: () => void }) {
  const { say } = useApp()
  if (!problem) return null
  return (
    <div className="problem" role="alert">
      <p>{say(wordOr(`problem.${problem.code}`, 'problem.broken'))}</p>
      {again && <button type="button" className="plain" onClick={again}>{say('again')}</button>}
    </div>
  )
}

export function Loading() {
  const { say } = useApp()
  return <p className="loading" role="status">{say('loading')}</p>
}

export function StatusTag({ status }: { status: Status }) {
  const { say } = useApp()
  return <span className={`tag ${status}`}>{say(`status.${status}`)}</span>
}

export function PlaceList({ id, names }: { id: string; names: string[] }) {
  return <datalist id={id}>{names.map((n) => <option key={n} value={n} />)}</datalist>
}

export function Way({ t }: { t: Pick<Transport, 'from' | 'to'> }) {
  return <span className="way">{t.from.name} <Icon name="arrow" /> {t.to.name}</span>
}

/** A Card is a transport in a list. */
export function Card({ t, mark, children }: { t: Transport; mark?: number; children?: ReactNode }) {
  const { say, language } = useApp()
  return (
    <li className="card">
      <Link href={`/t/${t.id}`}>
        {mark !== undefined && <span className="mark" aria-hidden="true">{mark}</span>}
        <span className="card-main">
          <strong>{t.title || say('transport.untitled')}</strong>
          <Way t={t} />
          <span className="quiet">{format.days(language, t.window)} · {say(`size.${t.size}`)} · {t.weight_kg} kg</span>
        </span>
        <span className="card-side">
          <span className="price">{format.euros(language, t.deal_cents ?? t.price_cents)}</span>
          {children}
        </span>
      </Link>
    </li>
  )
}
