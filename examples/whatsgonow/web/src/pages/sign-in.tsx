import { useEffect, useState, type FormEvent } from 'react'
import { api } from '../api'
import { useApp, useDoing } from '../app-state'
import { Field, ProblemNote, useMistakes } from '../parts'
import { go, useQuery } from '../route'

export function SignIn() {
  const { say, person, setPerson } = useApp()
  const [isNew, setNew] = useState(false)
  const [name, setName] = useState('')
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const { busy, problem, act } = useDoing()
  const mistake = useMistakes(problem?.mistakes)
  const wanted = useQuery().get('then') ?? ''
  const then = /^\/(?![/\\])/.test(wanted) ? wanted : '/mine' // only ever a page of ours

  useEffect(() => { if (person) go(then, true) }, [person, then])

  const send = (e: FormEvent) => {
    e.preventDefault()
    void act(async () => {
      setPerson((isNew ? await api.register(name, email, password) : await api.signIn(email, password)).person)
    })
  }
  return (
    <div className="narrow">
      <h1>{say(isNew ? 'sign.up' : 'sign.in')}</h1>
      <p className="lead">{say(isNew ? 'sign.up.lead' : 'sign.in.lead')}</p>
      <form className="panel" onSubmit={send} noValidate>
        <ProblemNote problem={problem} />
        {isNew && (
          <Field label={say('field.name')} mistake={mistake('name')}>
            {(p) => <input {...p} value={name} onChange={(e) => { setName(e.target.value) }} autoComplete="name" />}
          </Field>
        )}
        <Field label={say('field.email')} mistake={mistake('email')}>
          {(p) => <input {...p} type="email" value={email} onChange={(e) => { setEmail(e.target.value) }} autoComplete="username" />}
        </Field>
        <Field label={say('field.password')} mistake={mistake('password')} {...(isNew ? { hint: say('field.password.hint') } : {})}>
          {(p) => (
            <input {...p} type="password" value={password} onChange={(e) => { setPassword(e.target.value) }} autoComplete={isNew ? 'new-password' : 'current-password'} />
          )}
        </Field>
        <button type="submit" disabled={busy}>{say(isNew ? 'sign.up' : 'sign.in')}</button>
        <button type="button" className="plain" onClick={() => { setNew(!isNew) }}>{say(isNew ? 'sign.to.in' : 'sign.to.up')}</button>
      </form>
    </div>
  )
}
