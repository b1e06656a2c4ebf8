import { useState, type FormEvent } from 'react'
import { api, type Entry, type Offer, type Status, type Verb, type View } from '../api'
import { useApp, useDoing, useLoad } from '../app-state'
import { cents, format } from '../format'
import { mapOf } from '../map'
import { Field, Icon, Loading, ProblemNote, StatusTag, useMistakes, Way } from '../parts'
import { Link } from '../route'
import { Sketch } from '../sketch'
import { wordOr, type Word } from '../words'

/** Done is how a change to the transport comes back to the page. */
type Done = (view: View) => void

export function TransportPage({ id }: { id: string }) {
  const { say, language, person } = useApp()
  const { value: v, problem, again, put } = useLoad(`${id} ${person?.id ?? ''}`, () => api.look(id))
  if (!v) return problem ? <ProblemNote problem={problem} again={again} /> : <Loading />
  return (
    <article className="transport">
      <button type="button" className="plain back" onClick={() => { history.back() }}><Icon name="back" /> {say('transport.back')}</button>
      <header>
        <StatusTag status={v.status} />
        <h1>{v.title || say('transport.untitled')}</h1>
        <p className="lead"><Way t={v} /></p>
        <p className="quiet">{say('transport.by', { name: v.sender.name ?? say('transport.someone') })}</p>
      </header>
      <div className="columns">
        <div>
          <div className="panel map"><Sketch from={v.from} to={v.to} /></div>
          <p><a href={mapOf(v.from, v.to)} target="_blank" rel="noreferrer">{say('transport.map')}</a></p>
          <Facts v={v} />
          {v.note && <p className="note">{v.note}</p>}
          {v.photo && <img className="photo" src={api.photo(v.photo)} alt={say('transport.photo', { title: v.title })} />}
        </div>
        <div>
          <ProblemNote problem={problem} again={again} />
          {v.handover_code && <Handover code={v.handover_code} />}
          <Actions v={v} done={put} />
          {v.part !== '' && <Offers v={v} done={put} />}
          {v.can.includes('propose') && !v.offers.some((o) => o.can.length > 0) && <MakeOffer v={v} done={put} />}
          {v.part === '' && <p><Link className="button" href={`/sign-in?then=/t/${v.id}`}>{say('transport.signIn')}</Link></p>}
          <Steps status={v.status} />
          {v.history.length > 0 && (
            <details className="panel">
              <summary>{say('transport.history')}</summary>
              <ol className="history">
                {v.history.filter(tells).map((e, i) => (
                  <li key={i}>
                    <time dateTime={e.at}>{format.moment(language, e.at)}</time>
                    <span>{say(wordOr(`history.${e.verb}`, 'transport.history'))} <span className="quiet">({say(wordOr(`part.${e.part}`, 'part.clock'))})</span></span>
                  </li>
                ))}
              </ol>
            </details>
          )}
          <WaysOut v={v} done={put} />
        </div>
      </div>
    </article>
  )
}

/** tells is false for what the offer's own line says already. */
const tells = (e: Entry) => e.offer || (e.verb !== 'propose' && e.verb !== 'accept')

function Facts({ v }: { v: View }) {
  const { say, language } = useApp()
  const facts: [Word, string | undefined][] = [
    ['transport.window', format.days(language, v.window)],
    ['size.label', say(`size.${v.size}`)],
    ['transport.weight', `${String(v.weight_kg)} kg`],
    ['transport.price', format.euros(language, v.price_cents)],
    ['transport.deal', v.deal_cents === undefined ? undefined : format.euros(language, v.deal_cents)],
    ['transport.driver', v.driver.name],
  ]
  return (
    <dl className="facts">
      {facts.map(([word, fact]) => fact && <div key={word}><dt>{say(word)}</dt><dd>{fact}</dd></div>)}
    </dl>
  )
}

const usual: Status[] = ['created', 'deal_accepted', 'confirmed', 'in_delivery', 'delivered', 'completed']

/** stepsOf is the way a transport goes, with where it left it at the end. */
export function stepsOf(status: Status): { steps: Status[]; at: number } {
  const now = status === 'offer_pending' ? 'created' : status
  const at = usual.indexOf(now)
  return at >= 0 ? { steps: usual, at } : { steps: ['created', now], at: 1 }
}

function Steps({ status }: { status: Status }) {
  const { say } = useApp()
  const { steps, at } = stepsOf(status)
  return (
    <section className="panel">
      <h2>{say('transport.steps')}</h2>
      <ol className="steps">
        {steps.map((s, i) => (
          <li key={s} className={i < at ? 'past' : i === at ? 'now' : 'to-come'} aria-current={i === at ? 'step' : undefined}>
            {say(`status.${s === 'created' && status === 'offer_pending' ? status : s}`)}
          </li>
        ))}
      </ol>
    </section>
  )
}

function Handover({ code }: { code: string }) {
  const { say } = useApp()
  return (
    <section className="panel handover">
      <h2>{say('handover.title')}</h2>
      <p className="code">{code}</p>
      <p className="hint">{say('handover.hint')}</p>
    </section>
  )
}

const onwards = ['confirm', 'pick-up', 'complete', 'resolve'] as const
const outs = ['dispute', 'cancel'] as const
type Doing = (typeof onwards)[number] | (typeof outs)[number]

/** Actions lead the transport on. */
function Actions({ v, done }: { v: View; done: Done }) {
  const can = onwards.filter((verb) => v.can.includes(verb))
  if (can.length === 0 && !v.can.includes('deliver')) return null
  return (
    <section className="panel">
      {v.can.includes('deliver') && <Deliver v={v} done={done} />}
      {can.map((verb) => <Act key={verb} v={v} verb={verb} done={done} />)}
    </section>
  )
}

/** WaysOut stand at the end, where no thumb comes by accident, and ask again. */
function WaysOut({ v, done }: { v: View; done: Done }) {
  const { say } = useApp()
  const can = outs.filter((verb) => v.can.includes(verb))
  if (can.length === 0) return null
  return (
    <div className="quietly">
      {can.map((verb) => (
        <Act key={verb} v={v} verb={verb} done={done} look="plain danger" sure={() => window.confirm(say(`sure.${verb}`))} />
      ))}
    </div>
  )
}

interface ActProps { v: View; verb: Doing; done: Done; look?: string; sure?: () => boolean }

function Act({ v, verb, done, look, sure = () => true }: ActProps) {
  const { say } = useApp()
  const { busy, problem, act } = useDoing()
  const run = () => {
    if (sure()) void act(async () => { done(await api.act(v.id, verb)) })
  }
  return (
    <>
      <ProblemNote problem={problem} />
      <button type="button" className={look} disabled={busy} onClick={run}>{say(`do.${verb}`)}</button>
    </>
  )
}

function Deliver({ v, done }: { v: View; done: Done }) {
  const { say } = useApp()
  const [code, setCode] = useState('')
  const { busy, problem, act } = useDoing()
  const mistake = useMistakes(problem?.mistakes)
  const send = (e: FormEvent) => {
    e.preventDefault()
    void act(async () => { done(await api.act(v.id, 'deliver', code)) })
  }
  return (
    <form onSubmit={send} noValidate>
      <ProblemNote problem={problem} />
      <Field label={say('handover.enter')} mistake={mistake('code')}>
        {(p) => (
          <input {...p} className="code" value={code} onChange={(e) => { setCode(e.target.value) }} placeholder="WGN-····-····" autoCapitalize="characters" autoComplete="off" spellCheck={false} />
        )}
      </Field>
      <button type="submit" disabled={busy}>{say('do.deliver')}</button>
    </form>
  )
}

function Offers({ v, done }: { v: View; done: Done }) {
  const { say } = useApp()
  if (v.offers.length === 0 && v.part !== 'sender') return null
  if (v.offers.length === 0 && v.status !== 'created') return null
  return (
    <section className="panel">
      <h2>{say(v.part === 'sender' ? 'transport.offers' : 'transport.offer.mine')}</h2>
      {v.offers.length === 0 && <p className="quiet">{say('transport.offers.none')}</p>}
      <ul className="offers">{v.offers.map((o) => <OfferRow key={o.id} o={o} mine={v.part !== 'sender'} done={done} />)}</ul>
    </section>
  )
}

function OfferRow({ o, mine, done }: { o: Offer; mine: boolean; done: Done }) {
  const { say, language } = useApp()
  const [countering, setCountering] = useState(false)
  const { busy, problem, act } = useDoing()
  const counter: Verb = mine ? 'propose' : 'counter'
  const price = format.euros(language, o.price_cents)
  const answer = (verb: Verb, sum = 0) =>
    void act(async () => {
      done(await api.answer(o.id, verb, sum))
      setCountering(false)
    })
  return (
    <li className={`offer ${o.status}`}>
      <div className="offer-head">
        <span><strong>{o.driver.name}</strong><br /><span className="quiet">{say(`offer.status.${o.status}`)}</span></span>
        <span className="price">{price}</span>
      </div>
      {o.note && <p className="note">{o.note}</p>}
      <ProblemNote problem={problem} />
      {o.can.length > 0 && !countering && (
        <div className="buttons">
          {o.can.includes('accept') && <button type="button" disabled={busy} onClick={() => { answer('accept') }}>{say('offer.accept', { price })}</button>}
          {o.can.includes(counter) && <button type="button" className="second" onClick={() => { setCountering(true) }}>{say('offer.counter')}</button>}
          {o.can.includes('reject') && <button type="button" className="plain" disabled={busy} onClick={() => { answer('reject') }}>{say(mine && o.status === 'proposed' ? 'offer.withdraw' : 'offer.reject')}</button>}
        </div>
      )}
      {countering && <CounterForm busy={busy} mistakes={problem?.mistakes} send={(sum) => { answer(counter, sum) }} />}
    </li>
  )
}

function CounterForm({ busy, mistakes, send }: { busy: boolean; mistakes: { field: string; code: string }[] | undefined; send: (cents: number) => void }) {
  const { say } = useApp()
  const [price, setPrice] = useState('')
  const mistake = useMistakes(mistakes)
  return (
    <form className="inline" noValidate onSubmit={(e) => { e.preventDefault(); send(cents(price)) }}>
      <Field label={say('offer.price')} mistake={mistake('price_cents')}>
        {(p) => <input {...p} inputMode="decimal" value={price} autoFocus onChange={(e) => { setPrice(e.target.value) }} />}
      </Field>
      <button type="submit" disabled={busy}>{say('offer.counter.send')}</button>
    </form>
  )
}

function MakeOffer({ v, done }: { v: View; done: Done }) {
  const { say } = useApp()
  const [price, setPrice] = useState(String(v.price_cents / 100))
  const [note, setNote] = useState('')
  const { busy, problem, act } = useDoing()
  const mistake = useMistakes(problem?.mistakes)
  const send = (e: FormEvent) => {
    e.preventDefault()
    void act(async () => { done(await api.propose(v.id, cents(price), note)) })
  }
  return (
    <form className="panel" onSubmit={send} noValidate>
      <h2>{say('offer.make')}</h2>
      <ProblemNote problem={problem} />
      <Field label={say('offer.price')} mistake={mistake('price_cents')}>
        {(p) => <input {...p} inputMode="decimal" value={price} onChange={(e) => { setPrice(e.target.value) }} />}
      </Field>
      <Field label={say('offer.note')} mistake={mistake('note')} optional>
        {(p) => <textarea {...p} rows={2} value={note} onChange={(e) => { setNote(e.target.value) }} />}
      </Field>
      <button type="submit" disabled={busy}>{say('offer.send')}</button>
    </form>
  )
}
