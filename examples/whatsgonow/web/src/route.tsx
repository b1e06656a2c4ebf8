// Routing with the history API: a handful of pages need no library.
import { useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from 'react'

export type Page =
  | { name: 'discover' | 'post' | 'mine' | 'sign-in' | 'account' | 'lost' }
  | { name: 'transport'; id: string }

export function pageOf(path: string): Page {
  const transport = /^\/t\/([0-9a-f-]{36})$/.exec(path)
  if (transport?.[1]) return { name: 'transport', id: transport[1] }
  switch (path.replace(/(?<=.)\/$/, '')) {
    case '/': return { name: 'discover' }
    case '/post': return { name: 'post' }
    case '/mine': return { name: 'mine' }
    case '/sign-in': return { name: 'sign-in' }
    case '/account': return { name: 'account' }
  }
  return { name: 'lost' }
}

const moved = 'whatsgonow:moved'

/** go shows another page; with replace, the one that is left is not in the history. */
export function go(to: string, replace = false) {
  if (replace) history.replaceState(null, '', to)
  else history.pushState(null, '', to)
  window.dispatchEvent(new Event(moved))
}

function subscribe(tell: () => void) {
  window.addEventListener('popstate', tell)
  window.addEventListener(moved, tell)
  return () => {
    window.removeEventListener('popstate', tell)
    window.removeEventListener(moved, tell)
  }
}

export const usePath = () => useSyncExternalStore(subscribe, () => location.pathname)
export const useQuery = () => new URLSearchParams(useSyncExternalStore(subscribe, () => location.search))

type LinkProps = AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }

export function Link({ href, ...rest }: LinkProps) {
  const follow = (e: MouseEvent) => {
    if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return
    e.preventDefault()
    go(href)
  }
  return <a href={href} onClick={follow} {...rest} />
}
