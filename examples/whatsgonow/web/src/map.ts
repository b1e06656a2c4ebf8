// A street map, for who asks for one: a link, so that a map service outside the EU learns a route only when somebody
// follows it. The token is no secret, since every browser gets it; Mapbox binds it to the address of the stage.
import type { Point } from './api'

const token = import.meta.env.VITE_MAPBOX_TOKEN

export function mapOf(from: Point, to: Point) {
  const pin = (name: string, p: Point) => `pin-s-${name}(${p.lng.toFixed(4)},${p.lat.toFixed(4)})`
  return `https://api.mapbox.com/styles/v1/mapbox/streets-v12/static/${pin('a', from)},${pin('b', to)}/auto/640x360?access_token=${token}`
}
