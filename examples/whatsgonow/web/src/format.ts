import type { Language } from './words'

const euros = (language: Language, cents: number) =>
  new Intl.NumberFormat(language, {
    style: 'currency',
    currency: 'EUR',
    minimumFractionDigits: cents % 100 === 0 ? 0 : 2,
  }).format(cents / 100)

const day = (language: Language, iso: string) =>
  new Intl.DateTimeFormat(language, { weekday: 'short', day: 'numeric', month: 'short' }).format(new Date(iso))

const moment = (language: Language, iso: string) =>
  new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }).format(new Date(iso))

const days = (language: Language, window: { start: string; end: string }) => {
  const [start, end] = [day(language, window.start), day(language, window.end)]
  return start === end ? start : `${start} – ${end}`
}

export const format = { euros, moment, days }

/** cents reads a sum in euros as people type it; what is none is 0, which the API refuses. */
export function cents(typed: string): number {
  const clean = typed.trim().replace(/\s|€/g, '').replace(',', '.')
  return /^\d{1,7}(\.\d{1,2})?$/.test(clean) ? Math.round(Number(clean) * 100) : 0
}

/** whole reads a whole number, rounding up; what is none is 0. */
export function whole(typed: string): number {
  const clean = typed.trim().replace(',', '.')
  return /^\d{1,7}(\.\d+)?$/.test(clean) ? Math.ceil(Number(clean)) : 0
}

const never = '0001-01-01T00:00:00Z' // the API's zero time: missing

/** instant turns what a datetime-local field holds (local time) into a time for the API. */
export function instant(local: string): string {
  const at = new Date(local)
  return Number.isNaN(at.getTime()) ? never : at.toISOString()
}
