// What every page needs to know: the language, who is signed in, and when to look again.
import { createContext, use, useEffect, useEffectEvent, useState } from 'react'
import { Problem, type Person } from './api'
import type { Language, Word } from './words'

export interface AppState {
  language: Language
  setLanguage: (language: Language) => void
  say: (word: Word, values?: Record<string, string | number>) => string
  person: Person | null | undefined // undefined: not known yet
  setPerson: (person: Person | null) => void
  changes: number // rises whenever something happened to the person's transports
  announce: (text: string) => void
}

export const AppContext = createContext<AppState | null>(null)

export function useApp(): AppState {
  const state = use(AppContext)
  if (!state) throw new Error('useApp outside of the app')
  return state
}

interface Loaded<T> { key: string; value?: T; problem?: Problem }

const problemOf = (e: unknown) => (e instanceof Problem ? e : new Problem('broken'))

/**
 * useLoad fetches what a page shows, anew whenever the key changes or again is called.
 * While it looks again, the last value stays.
 */
export function useLoad<T>(key: string, load: () => Promise<T>) {
  const [loaded, setLoaded] = useState<Loaded<T>>({ key })
  const [tries, setTries] = useState(0)
  const { changes } = useApp()
  const run = useEffectEvent(load)

  useEffect(() => {
    let late = false
    run().then(
      (value) => { if (!late) setLoaded({ key, value }) },
      (e: unknown) => {
        if (!late) setLoaded((was) => ({ key, value: was.key === key ? was.value : undefined, problem: problemOf(e) }))
      },
    )
    return () => { late = true }
  }, [key, tries, changes])

  const current = loaded.key === key ? loaded : { key }
  return {
    value: current.value,
    problem: current.problem,
    again: () => { setTries((n) => n + 1) },
    put: (value: T) => { setLoaded({ key, value }) },
  }
}

/** useDoing runs one thing at a time that a person asked for, and keeps what went wrong. */
export function useDoing() {
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<Problem>()
  const act = async (thing: () => Promise<void>) => {
    if (busy) return
    setBusy(true)
    setProblem(undefined)
    try {
      await thing()
    } catch (e) {
      setProblem(problemOf(e))
    } finally {
      setBusy(false)
    }
  }
  return { busy, problem, act }
}
