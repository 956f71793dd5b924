// State that this tab keeps while it shows another page: the choices and the pictures. Closing the tab deletes it.
// Behind a proxy, several programs may share one host and so one storage. Each name starts with this demo's path.
const PLACE = new URL(".", location.href).pathname;

export function keep(name, value) {
  try {
    sessionStorage.setItem(PLACE + name, JSON.stringify(value));
    return true;
  } catch {
    // The storage is full or disabled.
    return false;
  }
}

export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE + name));
  } catch {
    return null;
  }
}

let latest = null;

// Keep pictures, each {file, note, sample}. Those with a sample are loaded from the server again.
export async function keepPictures(pictures) {
  const mine = latest = {};
  const plain = await Promise.all(pictures.map(async ({file, note, sample}) => {
    if (sample) return {sample};
    return {name: file.name, type: file.type, note, bytes: await base64(file)};
  }));
  // Meanwhile the pictures were replaced or cleared.
  if (mine !== latest) return;
  if (!keep("pictures", plain)) keep("pictures", []);
}

export function forgetPictures() {
  latest = null;
  keep("pictures", null);
}

// The File of a picture that was kept.
export function asFile({name, type, bytes}) {
  return new File([Uint8Array.from(atob(bytes), character => character.charCodeAt(0))], name, {type});
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}
