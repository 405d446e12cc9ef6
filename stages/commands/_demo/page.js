// The page: unpacks the runtime and the model, answers for each image as `predict` does, and shows it.

const card = JSON.parse(document.getElementById("card").textContent)
const percent = value => `${(100 * value).toFixed(1)} %`

async function unpacked(id) {
  const element = document.getElementById(id)
  const bytes = Uint8Array.from(atob(element.textContent), letter => letter.charCodeAt(0))
  element.remove()
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))
  return new Uint8Array(await new Response(stream).arrayBuffer())
}

async function started() {
  const script = URL.createObjectURL(new Blob([await unpacked("runtime")], { type: "text/javascript" }))
  const ort = await import(script)
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmBinary = (await unpacked("wasm")).buffer
  return [ort, await ort.InferenceSession.create(await unpacked("model"))]
}

const ready = started()

// Of one image file: what `predict` says of it.
async function answered(file) {
  const [ort, session] = await ready
  const how = card.preprocessing, image = packed(await decoded(file, how.channels), how)
  const inputs = new ort.Tensor("uint8", image.data, [1, how.px, how.px, how.channels])
  const outputs = await session.run({ inputs })
  const p = [...outputs.predictions.data], classes = card.classes, most = p.indexOf(Math.max(...p))
  const found = { classes: Object.fromEntries(classes.map((name, index) => [name, p[index]])), sets: {} }
  const calibration = card.calibration
  if (!calibration) return { ...found, label: classes[most], answer: classes[most], probability: p[most] }
  const { decision, sets } = calibration.task
  let chosen = most
  if (decision) {
    const own = classes.indexOf(decision.label), others = p.map((value, index) => index === own ? -1 : value)
    chosen = p[own] >= decision.threshold ? own : others.indexOf(Math.max(...others))
  }
  for (const [name, each] of Object.entries(sets)) {
    found.sets[name] = classes.filter((_, index) => p[index] >= each.lowest || index === chosen)
  }
  const unlike = outputs.distance.data[0] / calibration.limit
  return { ...found, label: classes[chosen], probability: p[chosen], unlike,
           answer: unlike > 1 ? "unlike the training images" : classes[chosen] }
}

function text(tag, content, parent) {
  const element = document.createElement(tag)
  element.textContent = content
  parent.append(element)
  return element
}

function show(file, found) {
  const box = document.createElement("article"), picture = document.createElement("img"), words = document.createElement("div")
  picture.src = URL.createObjectURL(file)
  picture.alt = file.name
  box.append(picture, words)
  text("h2", found.answer, words)
  if (found.unlike !== undefined) {
    const far = `Distance to the training images: ${found.unlike.toFixed(2)}; above 1 an image is unlike them`
    text("p", found.unlike > 1 ? `${far}, and the classes below are no more than a guess.` : `${far}.`, words)
  }
  for (const [name, each] of Object.entries(found.sets)) {
    const share = 100 * card.calibration.task.sets[name].share
    const certain = found.unlike > 1 ? "Were it one of the known classes" : "The right class is among these"
    text("p", `${certain} (${+share.toFixed(3)} %): ${each.join(", ")}`, words)
  }
  const table = document.createElement("table")
  for (const [name, value] of Object.entries(found.classes).sort((a, b) => b[1] - a[1]).slice(0, 5)) {
    const row = table.insertRow()
    text("td", name, row)
    text("td", percent(value), row)
  }
  words.append(table)
  document.getElementById("answers").prepend(box)
}

async function take(files) {
  for (const file of files) {
    try {
      show(file, await answered(file))
    } catch (error) {
      show(file, { answer: `cannot be read as an image (${error.message ?? error})`, sets: {}, classes: {} })
    }
  }
}

const place = document.getElementById("drop"), input = document.getElementById("files"), state = document.getElementById("state")
for (const name of ["dragenter", "dragover"]) place.addEventListener(name, event => event.preventDefault())
place.addEventListener("drop", event => { event.preventDefault(); take(event.dataTransfer.files) })
input.addEventListener("change", () => take(input.files))
document.addEventListener("paste", event => take(event.clipboardData.files))
ready.then(() => { state.textContent = "Drop images here, paste one, or choose files." },
           error => { state.textContent = `This browser cannot run the model (${error.message ?? error}).` })
