// Serve handlers over Node's own HTTP server, call other services with its client, and end gracefully.
import http from "node:http";

const UPSTREAM_TIMEOUT_MS = 5000;
const LINGER_MS = 1000; // how long a stopping server still answers on open, idle connections
const MAX_BODY_BYTES = 1 << 20;

const agent = new http.Agent({ keepAlive: true });

/** Another service of the shop did not give the answer this one needs; `status` is what it said, or 502. */
export class UpstreamFailed extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function textOf(stream) {
  const parts = [];
  let length = 0;
  for await (const part of stream) {
    length += part.length;
    if (length > MAX_BODY_BYTES) throw new UpstreamFailed(413, `a body may have ${MAX_BODY_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

/** Call `base + path`; `options` may have `method`, `headers`, `body` (sent as JSON). Resolves to the JSON answered. */
export function call(base, path, options = {}) {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const headers = { ...options.headers };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    headers["content-length"] = Buffer.byteLength(body);
  }
  return new Promise((resolve, reject) => {
    const fail = (error) => reject(error instanceof UpstreamFailed ? error : new UpstreamFailed(502, `${base}: ${error.message}`));
    const request = http.request(base + path, { method: options.method ?? "GET", headers, agent, timeout: UPSTREAM_TIMEOUT_MS });
    request.on("error", fail);
    request.on("timeout", () => request.destroy(new Error("no answer in time")));
    request.on("response", async (answer) => {
      try {
        const text = await textOf(answer);
        if (answer.statusCode >= 300) throw new UpstreamFailed(answer.statusCode, `${base}${path}: ${text.trim()}`);
        resolve(JSON.parse(text));
      } catch (error) {
        fail(error);
      }
    });
    request.end(body);
  });
}

/** An answer of JSON. */
export const json = (status, document) => ({ status, type: "application/json", body: JSON.stringify(document) + "\n" });

function find(routes, method, path) {
  const exact = routes[`${method} ${path}`];
  if (exact) return [exact, ""];
  const cut = path.lastIndexOf("/");
  const item = decodeURIComponent(path.slice(cut + 1));
  const handler = routes[`${method} ${path.slice(0, cut)}/*`];
  return handler && item ? [handler, item] : [undefined, ""];
}

async function replyTo(routes, incoming) {
  try {
    const path = new URL(incoming.url, "http://shop").pathname;
    if (path === "/health") return json(200, { status: "up" });
    const [handler, item] = find(routes, incoming.method, path);
    if (!handler) return json(404, { error: `no ${incoming.method} ${path}` });
    const text = await textOf(incoming);
    return await handler({ item, headers: incoming.headers, body: text ? JSON.parse(text) : undefined });
  } catch (error) {
    if (error instanceof UpstreamFailed) return json(error.status, { error: error.message });
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof URIError) {
      return json(400, { error: error.message });
    }
    throw error;
  }
}

/** Serve `routes` ("METHOD /path" or "METHOD /path/*" → async handler) on 127.0.0.1:`port` until SIGTERM or SIGINT. */
export function serve(name, port, routes) {
  let stopping = false;
  const server = http.createServer(async (incoming, outgoing) => {
    const reply = await replyTo(routes, incoming);
    outgoing.writeHead(reply.status, {
      "content-type": reply.type,
      "content-length": Buffer.byteLength(reply.body),
      ...(stopping ? { connection: "close" } : {}),
    });
    outgoing.end(reply.body);
  });
  // Longer than a caller keeps an idle connection: the side that sends the next request should be the one to close.
  server.keepAliveTimeout = 120_000;
  server.listen(port, "127.0.0.1", 512, () => console.log(`${name}: listening on 127.0.0.1:${server.address().port}`));
  const stop = () => {
    if (stopping) return;
    stopping = true;
    server.close(() => process.exit(0));
    setTimeout(() => server.closeIdleConnections(), LINGER_MS);
    setTimeout(() => process.exit(0), UPSTREAM_TIMEOUT_MS).unref();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
