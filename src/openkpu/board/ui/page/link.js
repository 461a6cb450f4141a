// The connection: one endless stream of events in, small requests out.

/** Ask the board for something; throws with the server's words when it refuses. */
export async function command(fields) {
  await send("command", JSON.stringify(fields));
}

export async function send(path, body) {
  const answer = await fetch(path, { method: "POST", body });
  if (!answer.ok) throw new Error((await answer.text()).trim());
}

/** Call handle(kind, fields, bytes) for every event until the stream ends. Each is framed as in openkpu.board.events:
    two big-endian u32 (length of the JSON, length of the bytes), then both. */
export async function follow(handle, signal) {
  const answer = await fetch("stream", { cache: "no-store", signal });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let parts = [], have = 0;
  const take = (count) => {
    const out = new Uint8Array(count);
    let at = 0;
    while (at < count) {
      const part = parts[0], use = Math.min(part.length, count - at);
      out.set(part.subarray(0, use), at);
      if (use === part.length) parts.shift();
      else parts[0] = part.subarray(use);
      at += use;
    }
    have -= count;
    return out;
  };
  let head = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    parts.push(value);
    have += value.length;
    for (;;) {
      if (head === null) {
        if (have < 8) break;
        const view = new DataView(take(8).buffer);
        head = [view.getUint32(0), view.getUint32(4)];
      }
      if (have < head[0] + head[1]) break;
      const { kind, ...fields } = JSON.parse(decoder.decode(take(head[0])));
      const data = take(head[1]);
      head = null;
      handle(kind, fields, data);
    }
  }
}
