import type { Change } from './api'

/**
 * follow calls seen for every change to the person's transports, until the returned
 * function is called. The browser comes back by itself after a stream ends; only when it
 * gave up, because it got another answer than a stream, a new one is opened.
 */
export function follow(seen: (change: Change) => void): () => void {
  let source: EventSource
  let pause: ReturnType<typeof setTimeout> | undefined
  const open = () => {
    source = new EventSource('/api/events')
    source.addEventListener('change', (e: MessageEvent<string>) => { seen(JSON.parse(e.data) as Change) })
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED) pause = setTimeout(open, 5000)
    })
  }
  open()
  return () => {
    clearTimeout(pause)
    source.close()
  }
}
