import { useState, type FormEvent } from 'react'
import { api } from '../api'
import { useApp, useDoing } from '../app-state'
import { Field, ProblemNote } from '../parts'
import { go, Link } from '../route'

export function Account() {
  const { say, person, setPerson, announce } = useApp()
  const [password, setPassword] = useState('')
  const leaving = useDoing()
  const deleting = useDoing()

  const signOut = () => leaving.act(async () => {
    await api.signOut()
    setPerson(null)
    go('/')
  })
  const remove = (e: FormEvent) => {
    e.preventDefault()
    void deleting.act(async () => {
      await api.deleteAccount(password)
      setPerson(null)
      announce(say('account.deleted'))
      go('/')
    })
  }
  if (!person) {
    return (
      <>
        <h1>{say('account.title')}</h1>
        {person === null && <p><Link className="button" href="/sign-in?then=/account">{say('sign.in')}</Link></p>}
      </>
    )
  }
  return (
    <div className="narrow">
      <h1>{say('account.title')}</h1>
      <section className="panel">
        <p><strong>{person.name}</strong><br /><span className="quiet">{person.email}</span></p>
        <ProblemNote problem={leaving.problem} />
        <button type="button" className="second" disabled={leaving.busy} onClick={() => { void signOut() }}>{say('account.out')}</button>
      </section>
      <section className="panel">
        <h2>{say('account.delete')}</h2>
        <p className="quiet">{say('account.delete.what')}</p>
        <form onSubmit={remove} noValidate>
          <ProblemNote problem={deleting.problem} />
          <Field label={say('account.delete.confirm')}>
            {(p) => <input {...p} type="password" value={password} onChange={(e) => { setPassword(e.target.value) }} autoComplete="current-password" />}
          </Field>
          <button type="submit" className="danger" disabled={deleting.busy}>{say('account.delete.do')}</button>
        </form>
      </section>
    </div>
  )
}
