// Photos are usually larger than the demo accepts, so they are scaled down here. Smaller images are left unchanged.

const KINDS = ["image/jpeg", "image/png", "image/webp", "image/bmp"];
const QUALITY = 0.95;

// The file or a scaled-down copy, as {file, note}. note: how it was changed, if at all. limits: the most `pixels` of an
// image, and of its longer `side`.
export async function shrink(file, limits) {
  const same = {file, note: ""};
  if (!KINDS.includes(file.type)) return same;
  const address = URL.createObjectURL(file);
  try {
    return await redraw(file, address, limits) ?? same;
  } catch {
    // This browser cannot decode it. The server reports what is wrong.
    return same;
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function redraw(file, address, {pixels, side}) {
  const image = new Image();
  await new Promise((done, failed) => { Object.assign(image, {onload: done, onerror: failed, src: address}); });
  // Width and height after Exif orientation; drawImage applies it too.
  const {naturalWidth: width, naturalHeight: height} = image;
  const scale = Math.min(Math.sqrt(pixels / (width * height)), side / Math.max(width, height));
  if (scale >= 1) return null;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(width * scale));
  canvas.height = Math.max(1, Math.floor(height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const type = file.type === "image/jpeg" ? file.type : "image/png";
  const blob = await new Promise(done => { canvas.toBlob(done, type, QUALITY); });
  const note = `made smaller in this browser, from ${width}x${height} to ${canvas.width}x${canvas.height}`;
  return {file: new File([blob], file.name, {type}), note};
}
