// Plays the passive T-maze (hadamem/TMazePassive-v0) with a policy that `hadamem export` wrote, and draws its memory.
// index.html?corridor=10&pause=120 says how long the corridor is, and how many milliseconds a step is shown.

const options = new URLSearchParams(location.search);
const corridor = Number(options.get("corridor") ?? 10);
const pause = Number(options.get("pause") ?? 120);
const moves = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // right, up, left, down
const arrays = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, bool: Uint8Array };

/** The policy and its state. What it takes and gives, the file says by itself. */
class Policy {
  constructor(session) {
    this.session = session;
    this.state = {};
    this.reset();
  }

  /** An episode begins: at a start, what the state holds does not count. */
  reset() {
    this.start = true;
    for (const { name, type, shape } of this.session.inputMetadata) {
      if (name.startsWith("state.")) {
        const dims = [1, ...shape.slice(1)];
        this.state[name] = new ort.Tensor(type, new arrays[type](dims.reduce((a, b) => a * b, 1)), dims);
      }
    }
  }

  async act(observation) {
    const obs = new ort.Tensor("float32", Float32Array.from(observation), [1, observation.length]);
    const start = new ort.Tensor("bool", Uint8Array.from([this.start]), [1]);
    const outputs = await this.session.run({ obs, start, ...this.state });
    for (const name of Object.keys(this.state)) this.state[name] = outputs[`new_${name}`];
    this.start = false;
    return Number(outputs.action.data[0]);
  }
}

/** Walk along the corridor and turn to the side that the sign showed. */
class Maze {
  reset() {
    [this.x, this.y, this.steps, this.sign] = [0, 0, 0, Math.random() < 0.5 ? 1 : -1];
    return [this.x === corridor ? 1 : 0, this.sign];
  }

  step(action) {
    const [x, y] = [this.x + moves[action][0], this.y + moves[action][1]];
    const inCorridor = y === 0 && x >= 0 && x <= corridor;
    if (inCorridor || (x === corridor && Math.abs(y) === 1)) [this.x, this.y] = [x, y];
    this.steps += 1;
    this.over = this.steps === corridor + 1;
    return [this.x === corridor ? 1 : 0, this.y];
  }
}

function drawMaze(canvas, maze) {
  const cell = 24;
  [canvas.width, canvas.height] = [(corridor + 3) * cell, 5 * cell];
  const context = canvas.getContext("2d");
  const fill = (x, y, colour) => {
    context.fillStyle = colour;
    context.fillRect((x + 1) * cell, (2 - y) * cell, cell - 1, cell - 1);
  };
  context.fillStyle = "#2b3245";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let x = 0; x <= corridor; x++) fill(x, 0, x === 0 ? "#3b6fd4" : "#d9dde6");
  fill(corridor, maze.sign, "#2e9e5b");
  fill(corridor, -maze.sign, "#c94a4a");
  fill(maze.x, maze.y, "#f08c2e");
}

/** The largest leaf of the state, the matrices of its heads side by side: blue below zero, red above. */
function drawMemory(canvas, caption, state) {
  const size = (tensor) => tensor.data.length;
  const [name, tensor] = Object.entries(state).reduce((a, b) => (size(b[1]) > size(a[1]) ? b : a));
  const width = tensor.dims.at(-1);
  const rows = size(tensor) / width;
  const heads = rows % width === 0 ? rows / width : 1;
  const height = rows / heads;
  [canvas.width, canvas.height] = [heads * (width + 1) - 1, height];
  const values = Array.from(tensor.data, Number);
  const largest = Math.max(1e-6, ...values.map(Math.abs));
  const image = new ImageData(canvas.width, height);
  values.forEach((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    const at = (row % height) * canvas.width + Math.floor(row / height) * (width + 1) + column;
    const fade = Math.round(255 * (1 - Math.sqrt(Math.abs(value) / largest)));
    image.data.set(value > 0 ? [255, fade, fade, 255] : [fade, fade, 255, 255], 4 * at);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  caption.textContent = `${name}, ${rows} x ${width}: red above zero, blue below; the largest number is ${largest.toPrecision(3)}`;
}

async function main() {
  const [score, maze] = [document.getElementById("score"), new Maze()];
  const [mazeCanvas, memoryCanvas] = [document.getElementById("maze"), document.getElementById("memory")];
  ort.env.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", location.href).href;
  ort.env.wasm.numThreads = 1;
  const policy = new Policy(await ort.InferenceSession.create("policy.onnx"));
  let [episodes, successes] = [0, 0];
  for (;;) {
    let observation = maze.reset();
    policy.reset();
    do {
      const action = await policy.act(observation);
      observation = maze.step(action);
      drawMaze(mazeCanvas, maze);
      drawMemory(memoryCanvas, document.getElementById("caption"), policy.state);
      await new Promise((resume) => setTimeout(resume, pause));
    } while (!maze.over);
    episodes += 1;
    successes += maze.y === maze.sign ? 1 : 0;
    score.textContent = `${successes} of ${episodes} episodes turned where the sign said`;
    score.dataset.episodes = episodes;
    score.dataset.successes = successes;
  }
}

main().catch((error) => {
  const score = document.getElementById("score");
  score.className = "error";
  score.textContent = `The policy cannot be played: ${error.message ?? error}`;
});
