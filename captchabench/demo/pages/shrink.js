// Photographs are larger than the demo reads. They are made smaller here; what is small enough stays as it is.

const KINDS = ["image/jpeg", "image/png", "image/webp", "image/bmp"];
const QUALITY = 0.95;

// The file, or a smaller one; note: what was done to it, if anything. limits: `pixels` of an image, `side` at most.
export async function shrink(file, limits) {
  const same = {file, note: ""};
  if (!KINDS.includes(file.type)) return same;
  const address = URL.createObjectURL(file);
  try {
    return await redraw(file, address, limits) ?? same;
  } catch {
    // No image to this browser: the server says what is wrong with it.
    return same;
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function redraw(file, address, {pixels, side}) {
  const image = new Image();
  await new Promise((done, failed) => { Object.assign(image, {onload: done, onerror: failed, src: address}); });
  // Upright, as Exif's orientation has it; so is what is drawn.
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
