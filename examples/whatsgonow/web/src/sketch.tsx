// A map without a map: where things lie to each other is enough to judge a detour, and
// no map service learns who goes where.
import type { Place, Point } from './api'
import { useApp } from './app-state'
import { places } from './places'

export const width = 640
export const height = 360
const margin = 56

/**
 * project returns a projection that fits the points into the sketch: equirectangular,
 * with longitudes shrunk as they are at the middle latitude.
 */
export function project(points: Point[]) {
  const lats = points.map((p) => p.lat)
  const lngs = points.map((p) => p.lng)
  const [south, north] = [Math.min(...lats), Math.max(...lats)]
  const [west, east] = [Math.min(...lngs), Math.max(...lngs)]
  const shrink = Math.cos((((south + north) / 2) * Math.PI) / 180)
  const scale = Math.min(
    (width - 2 * margin) / Math.max((east - west) * shrink, 0.2),
    (height - 2 * margin) / Math.max(north - south, 0.2),
  )
  return (p: Point) => ({
    x: width / 2 + (p.lng - (west + east) / 2) * shrink * scale,
    y: height / 2 - (p.lat - (south + north) / 2) * scale,
    kmToPx: scale / 111.2,
  })
}

type Spot = ReturnType<ReturnType<typeof project>>

/** bow is a gently curved line, so that there and back do not hide each other. */
function bow(a: Spot, b: Spot, bend = 0.12) {
  const [mx, my] = [(a.x + b.x) / 2 - (b.y - a.y) * bend, (a.y + b.y) / 2 + (b.x - a.x) * bend]
  return `M${a.x.toFixed(1)} ${a.y.toFixed(1)}Q${mx.toFixed(1)} ${my.toFixed(1)} ${b.x.toFixed(1)} ${b.y.toFixed(1)}`
}

/** landmarks are large towns for orientation, none too close to another or to the ends. */
function landmarks(at: (p: Point) => Spot, taken: Spot[]) {
  const shown: (Place & Spot)[] = []
  for (const p of places.slice(0, 40)) {
    const spot = at(p)
    const inside = spot.x > 90 && spot.x < width - 90 && spot.y > 18 && spot.y < height - 14
    const free = [...taken, ...shown].every((o) => Math.hypot(o.x - spot.x, (o.y - spot.y) * 2) > 116)
    if (inside && free) shown.push({ ...p, ...spot })
    if (shown.length === 7) break
  }
  return shown
}

interface SketchProps {
  from: Place
  to: Place
  detour?: number
  ways?: { id: string; from: Place; to: Place }[]
}

export function Sketch({ from, to, detour = 0, ways = [] }: SketchProps) {
  const { say } = useApp()
  const at = project([from, to, ...ways.flatMap((w) => [w.from, w.to])])
  const [a, b] = [at(from), at(to)]
  const ends = ways.flatMap((w) => [at(w.from), at(w.to)])
  return (
    <svg
      className="sketch" viewBox={`0 0 ${String(width)} ${String(height)}`} role="img"
      aria-label={say('discover.sketch', { from: from.name, to: to.name, n: ways.length })}
    >
      {landmarks(at, [a, b, ...ends]).map((p) => (
        <g key={p.name} className="landmark">
          <circle cx={p.x} cy={p.y} r="3" />
          {leftOf(p, a, b)
            ? <text x={p.x - 9} y={p.y + 5} textAnchor="end">{p.name}</text>
            : <text x={p.x + 9} y={p.y + 5}>{p.name}</text>}
        </g>
      ))}
      {detour > 0 && (
        <line className="corridor" x1={a.x} y1={a.y} x2={b.x} y2={b.y} strokeWidth={Math.min(150, Math.max(16, detour * a.kmToPx))} />
      )}
      <line className="route" x1={a.x} y1={a.y} x2={b.x} y2={b.y} />
      {ways.map((w, i) => {
        const [p, d] = [at(w.from), at(w.to)]
        return (
          <g key={w.id} className="ride">
            <path d={bow(p, d, 0.1 + 0.05 * (i % 3))} />
            <circle cx={p.x} cy={p.y} r="4" />
            <circle cx={d.x} cy={d.y} r="5" />
          </g>
        )
      })}
      {ways.map((w, i) => <Marker key={w.id} spot={at(w.from)} n={i + 1} shift={ways.slice(0, i).filter((o) => o.from.name === w.from.name).length} />)}
      {[{ ...a, name: from.name }, { ...b, name: to.name }].map((end) => (
        <g key={end.name} className="end">
          <circle cx={end.x} cy={end.y} r="6.5" />
          <text x={end.x} y={end.y + (end.y > height - 40 ? -14 : 26)} textAnchor={anchor(end.x)}>{end.name}</text>
        </g>
      ))}
    </svg>
  )
}

/** leftOf tells on which side of the line from a to b a spot lies, so that its name stays clear of it. */
function leftOf(spot: Spot, a: Spot, b: Spot) {
  if (Math.abs(b.y - a.y) < 40) return false
  return spot.x < a.x + ((spot.y - a.y) / (b.y - a.y)) * (b.x - a.x)
}

/** anchor keeps names near the edge inside the picture. */
function anchor(x: number) {
  if (x < 70) return 'start'
  return x > width - 70 ? 'end' : 'middle'
}

function Marker({ spot, n, shift }: { spot: Spot; n: number; shift: number }) {
  const [x, y] = [spot.x + shift * 22, spot.y - 20]
  return (
    <g className="marker">
      <circle cx={x} cy={y} r="11" />
      <text x={x} y={y + 4.5} textAnchor="middle">{n}</text>
    </g>
  )
}
