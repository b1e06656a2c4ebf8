import { useCallback, useEffect, useEffectEvent, useMemo, useRef, useState } from 'react'
import { api, type Person } from './api'
import { AppContext, useApp, type AppState } from './app-state'
import { follow } from './events'
import { Account } from './pages/account'
import { Discover } from './pages/discover'
import { Mine } from './pages/mine'
import { Post } from './pages/post'
import { SignIn } from './pages/sign-in'
import { TransportPage } from './pages/transport'
import { Icon } from './parts'
import { Link, pageOf, usePath, type Page } from './route'
import { languages, say, wordOr, type Language } from './words'

const remembered = 'whatsgonow:language'

function firstLanguage(): Language {
  const kept = localStorage.getItem(remembered)
  return kept && kept in languages ? (kept as Language) : 'de'
}

export function App() {
  const [language, setLanguage] = useState(firstLanguage)
  const [person, setPerson] = useState<Person | null>()
  const [changes, setChanges] = useState(0)
  const [news, setNews] = useState('')

  useEffect(() => {
    document.documentElement.lang = language
    localStorage.setItem(remembered, language)
  }, [language])

  useEffect(() => {
    api.session().then((s) => { setPerson(s.person) }, () => { setPerson(null) })
  }, [])

  const seen = useEffectEvent((verb: string) => {
    setChanges((n) => n + 1)
    setNews(say(language, 'news', { what: say(language, wordOr(`history.${verb}`, 'nav.mine')) }))
  })
  const id = person?.id
  useEffect(() => (id ? follow((c) => { seen(c.verb) }) : undefined), [id])

  useEffect(() => {
    const gone = setTimeout(() => { setNews('') }, 6000)
    return () => { clearTimeout(gone) }
  }, [news])

  const speak = useCallback<AppState['say']>((word, values) => say(language, word, values), [language])
  const state = useMemo<AppState>(
    () => ({ language, setLanguage, say: speak, person, setPerson, changes, announce: setNews }),
    [language, speak, person, changes],
  )
  return (
    <AppContext value={state}>
      <Frame />
      <div className="news" role="status" aria-live="polite">{news && <p>{news}</p>}</div>
    </AppContext>
  )
}

const tabs = [
  { href: '/', page: 'discover' },
  { href: '/post', page: 'post' },
  { href: '/mine', page: 'mine' },
  { href: '/account', page: 'account' },
] as const

function Frame() {
  const { say, person } = useApp()
  const path = usePath()
  const page = pageOf(path)
  const main = useRef<HTMLElement>(null)
  const shown = useRef(path)

  useEffect(() => {
    if (shown.current === path) return // the first page keeps the browser's own focus
    shown.current = path
    window.scrollTo(0, 0)
    main.current?.focus()
  }, [path])

  return (
    <>
      <a className="skip" href="#main">{say('skip')}</a>
      <header className="top">
        <Link href="/" className="brand"><img src="/icon.svg" alt="" width="28" height="28" /> whatsgonow</Link>
        <nav aria-label={say('nav.label')}>
          {tabs.map((tab) => {
            const guest = tab.page === 'account' && !person
            const here = tab.page === page.name || (guest && page.name === 'sign-in')
            return (
              <Link key={tab.page} href={guest ? '/sign-in' : tab.href} aria-current={here ? 'page' : undefined}>
                <Icon name={tab.page} /><span>{say(guest ? 'nav.signIn' : `nav.${tab.page}`)}</span>
              </Link>
            )
          })}
        </nav>
      </header>
      <main id="main" ref={main} tabIndex={-1}><Show page={page} /></main>
      <Footer />
    </>
  )
}

function Show({ page }: { page: Page }) {
  const { say } = useApp()
  switch (page.name) {
    case 'discover': return <Discover />
    case 'post': return <Post />
    case 'mine': return <Mine />
    case 'sign-in': return <SignIn />
    case 'account': return <Account />
    case 'transport': return <TransportPage key={page.id} id={page.id} />
    case 'lost': return <h1>{say('lost')}</h1>
  }
}

function Footer() {
  const { say, language, setLanguage } = useApp()
  const [runs, setRuns] = useState<{ release?: string; stage?: string }>({})
  useEffect(() => {
    api.health().then(setRuns, () => undefined)
  }, [])
  return (
    <footer>
      <p>{say('app.claim')}</p>
      <label>
        <span className="hidden">{say('language')}</span>
        <select value={language} onChange={(e) => { setLanguage(e.target.value as Language) }}>
          <option value="de">Deutsch</option>
          <option value="en">English</option>
          <option value="pl">Polski</option>
        </select>
      </label>
      {runs.release && (
        <p className="quiet" title={runs.release}>
          {say('release', { release: runs.release.replace(/^sha256:/, '').slice(0, 12) })}{runs.stage && ` · ${runs.stage}`}
        </p>
      )}
    </footer>
  )
}
