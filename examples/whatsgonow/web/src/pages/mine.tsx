import { api, type Transport } from '../api'
import { useApp, useLoad } from '../app-state'
import { Card, Loading, ProblemNote, StatusTag } from '../parts'
import { Link } from '../route'

export function Mine() {
  const { say, person } = useApp()
  return (
    <>
      <h1>{say('mine.title')}</h1>
      {person === null && <p><Link className="button" href="/sign-in?then=/mine">{say('sign.in')}</Link></p>}
      {person && <Lists />}
    </>
  )
}

function Lists() {
  const { say } = useApp()
  const { value, problem, again } = useLoad('mine', api.mine)
  if (!value) return problem ? <ProblemNote problem={problem} again={again} /> : <Loading />
  return (
    <div className="columns">
      <List title={say('mine.sending')} none={say('mine.sending.none')} ts={value.sending} />
      <List title={say('mine.driving')} none={say('mine.driving.none')} ts={value.driving} />
    </div>
  )
}

function List({ title, none, ts }: { title: string; none: string; ts: Transport[] }) {
  return (
    <section>
      <h2>{title}</h2>
      {ts.length === 0 && <p className="quiet">{none}</p>}
      <ul className="cards">{ts.map((t) => <Card key={t.id} t={t}><StatusTag status={t.status} /></Card>)}</ul>
    </section>
  )
}
