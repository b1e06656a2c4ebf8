import { Problem } from './api'

const longest = 1600

/**
 * shrink makes a JPEG of at most 1600 pixels of whatever the phone took: quick to send,
 * upright, and without the place and the device that cameras write into pictures.
 */
export async function shrink(file: Blob): Promise<Blob> {
  const picture = await createImageBitmap(file, { imageOrientation: 'from-image' }).catch(() => {
    throw new Problem('not_a_photo')
  })
  const factor = Math.min(1, longest / Math.max(picture.width, picture.height))
  const canvas = document.createElement('canvas')
  canvas.width = Math.round(picture.width * factor)
  canvas.height = Math.round(picture.height * factor)
  canvas.getContext('2d')?.drawImage(picture, 0, 0, canvas.width, canvas.height)
  picture.close()
  return new Promise((done, failed) => {
    canvas.toBlob((blob) => {
      if (blob) done(blob)
      else failed(new Problem('not_a_photo'))
    }, 'image/jpeg', 0.82)
  })
}
