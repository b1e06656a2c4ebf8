// The API's nouns and verbs, as the Go side in internal/ writes them.

export interface Point { lat: number; lng: number }
export interface Place extends Point { name: string }
export type Size = 'small' | 'medium' | 'large' | 'xlarge'

export interface Draft {
  title: string
  note: string
  from: Place
  to: Place
  window: { start: string; end: string }
  size: Size
  weight_kg: number
  price_cents: number
  photo?: string
}

export type Status =
  | 'created' | 'offer_pending' | 'deal_accepted' | 'confirmed' | 'in_delivery' | 'delivered'
  | 'completed' | 'cancelled' | 'expired' | 'in_dispute' | 'resolved'
export type OfferStatus = 'proposed' | 'countered' | 'accepted' | 'rejected' | 'expired'
export type Part = '' | 'bidder' | 'sender' | 'driver' | 'manager' | 'clock'

export type Verb =
  | 'post' | 'propose' | 'counter' | 'accept' | 'reject' | 'reopen' | 'confirm' | 'pick-up'
  | 'deliver' | 'complete' | 'cancel' | 'expire' | 'dispute' | 'resolve'

export interface Transport extends Draft {
  id: string
  status: Status
  sender: { name?: string }
  driver: { name?: string }
  deal_cents?: number
  created_at: string
  updated_at: string
}

export interface Match extends Transport { detour_km: number; score: number }

export interface Offer {
  id: string
  driver: { name?: string }
  status: OfferStatus
  price_cents: number
  note: string
  can: Verb[]
}

export interface Entry {
  at: string
  offer: boolean
  verb: Verb
  to: Status | OfferStatus
  part: Part
}

export interface View extends Transport {
  part: Part
  can: Verb[]
  offers: Offer[]
  history: Entry[]
  handover_code?: string
}

export interface Person { id: string; name: string; email: string; manager: boolean }

export interface Change { transport: string; offer: boolean; verb: Verb; status: Status | OfferStatus }

export interface Mistake { field: string; code: string }

/** What went wrong, as application/problem+json says it. */
export class Problem extends Error {
  constructor(readonly code: string, readonly mistakes: Mistake[] = []) {
    super(code)
  }
}

async function call<T>(method: string, path: string, body?: object | Blob): Promise<T> {
  let answer: Response
  try {
    answer = await fetch('/api' + path, {
      method,
      body: body instanceof Blob ? body : body && JSON.stringify(body),
    })
  } catch {
    throw new Problem('offline')
  }
  const json = answer.headers.get('Content-Type')?.includes('json')
  if (!answer.ok) {
    const said = json ? ((await answer.json()) as { code?: string; errors?: Mistake[] }) : {}
    throw new Problem(said.code ?? (answer.status >= 502 ? 'away' : 'broken'), said.errors)
  }
  return (json ? await answer.json() : undefined) as T
}

export interface RouteQuery { from: Point; to: Point; detour: number; room?: string }

export const api = {
  health: () => call<{ release?: string; stage?: string }>('GET', '/health'),

  session: () => call<{ person: Person | null }>('GET', '/session'),
  register: (name: string, email: string, password: string) =>
    call<{ person: Person }>('POST', '/account', { name, email, password }),
  signIn: (email: string, password: string) => call<{ person: Person }>('POST', '/session', { email, password }),
  signOut: () => call<undefined>('DELETE', '/session'),
  deleteAccount: (password: string) => call<undefined>('DELETE', '/account', { password }),

  find: (q: RouteQuery) => {
    const at = (p: Point) => `${String(p.lat)},${String(p.lng)}`
    const query = new URLSearchParams({ from: at(q.from), to: at(q.to), detour: String(q.detour) })
    if (q.room) query.set('room', q.room)
    return call<{ route_km: number; matches: Match[] }>('GET', `/transports?${query.toString()}`)
  },
  mine: () => call<{ sending: Transport[]; driving: Transport[] }>('GET', '/mine'),
  look: (id: string) => call<View>('GET', `/transports/${id}`),
  post: (draft: Draft) => call<View>('POST', '/transports', draft),
  propose: (id: string, price_cents: number, note: string) =>
    call<View>('POST', `/transports/${id}/offers`, { price_cents, note }),
  act: (id: string, verb: Verb, code = '') => call<View>('POST', `/transports/${id}/${verb}`, { code }),
  answer: (offer: string, verb: Verb, price_cents = 0) =>
    call<View>('POST', `/offers/${offer}/${verb}`, { price_cents }),

  upload: (photo: Blob) => call<{ id: string }>('POST', '/uploads', photo),
  photo: (id: string) => `/api/uploads/${id}`,
}
